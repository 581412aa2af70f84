import { EventEmitter } from "node:events";
import { describe, expect, test } from "vitest";
import { stopOnInterrupt } from "./interrupt.ts";

function fakeProcess() {
  const exits: number[] = [];
  const emitter = Object.assign(new EventEmitter(), { exit: (code: number) => exits.push(code) });
  return { emitter, exits, asProcess: emitter as unknown as NodeJS.Process };
}

describe("stopOnInterrupt()", () => {
  test("aborts at the first Ctrl-C, ignores its echo, and exits at a later one", () => {
    const { emitter, exits, asProcess } = fakeProcess();
    let time = 0;
    const { signal } = stopOnInterrupt(asProcess, () => time);
    expect(signal.aborted).toBe(false);
    emitter.emit("SIGINT");
    expect(signal.aborted).toBe(true);
    time = 900;
    emitter.emit("SIGINT");
    expect(exits).toEqual([]);
    time = 1100;
    emitter.emit("SIGINT");
    expect(exits).toEqual([130]);
  });

  test("takes SIGTERM as well, and lets go when released", () => {
    const { emitter, asProcess } = fakeProcess();
    const { signal, release } = stopOnInterrupt(asProcess);
    emitter.emit("SIGTERM");
    expect(signal.aborted).toBe(true);
    release();
    expect(emitter.listenerCount("SIGINT") + emitter.listenerCount("SIGTERM")).toBe(0);
  });
});
