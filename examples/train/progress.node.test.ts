import { describe, expect, test } from "vitest";
import type { StepMetrics } from "./metrics.ts";
import { createProgress, duration, figures } from "./progress.ts";

const metrics = (step: number): StepMetrics => ({
  step,
  loss: 2.03149,
  learningRate: 0.01,
  tokensPerSecond: 9119.6,
  maxLogit: [
    [1, 13.21],
    [3, 4],
  ],
  clippedHeads: 3,
  gradNorm: 1,
  seconds: step * 0.5,
  expertLoad: [
    [0.25, 0.25, 0.25, 0.25],
    [0.1, 0.35, 0.3, 0.25],
  ],
  routingEntropy: 1.2,
  droppedTokens: 0,
});

/** A stream that remembers what was written to it. */
function recorder(isTTY: boolean) {
  const written: string[] = [];
  const stream = {
    isTTY,
    columns: 200,
    write: (text: string) => written.push(text) > 0,
    on: () => {},
    cursorTo: () => {},
  };
  return { written, stream: stream as unknown as NodeJS.WriteStream };
}

describe("createProgress(options)", () => {
  test("without a terminal writes the first, the last and at most twenty more lines", () => {
    for (const steps of [1, 7, 20, 600, 1001]) {
      const { written, stream } = recorder(false);
      const progress = createProgress({ steps, enabled: true, stream });
      for (let step = 1; step <= steps; step++) progress.update(metrics(step));
      progress.stop();
      expect(written.length).toBeLessThanOrEqual(22);
      expect(written[0]).toContain(`step 1/${steps} `);
      expect(written.at(-1)).toContain(`step ${steps}/${steps} `);
      for (const line of written) expect(line).not.toMatch(/\x1b|\r/);
    }
  });

  test("with a terminal keeps one line", () => {
    const { written, stream } = recorder(true);
    const progress = createProgress({ steps: 10, enabled: true, stream });
    for (let step = 1; step <= 10; step++) progress.update(metrics(step));
    progress.stop();
    const text = written.join("");
    expect(text).toContain("10/10 loss 2.031");
    expect(text.split("\n").length).toBeLessThanOrEqual(2);
  });

  test("says nothing when it is not enabled", () => {
    const { written, stream } = recorder(true);
    const progress = createProgress({ steps: 10, enabled: false, stream });
    progress.update(metrics(1));
    progress.stop();
    expect(written).toEqual([]);
  });
});

describe("figures(metrics, steps)", () => {
  test("are loss, speed, largest logit, clipped heads, load and the time left, and fit 80 columns with the bar", () => {
    const line = figures(metrics(466), 600);
    expect(line).toBe("loss 2.031  9,120 tok/s  logit 13  3 clipped  load 1.4x  1:07 left");
    expect("████ 466/600 ".length + line.length).toBeLessThanOrEqual(80);
  });

  test("leave out the load where there are no experts", () => {
    const line = figures({ ...metrics(466), expertLoad: [] }, 600);
    expect(line).toBe("loss 2.031  9,120 tok/s  logit 13  3 clipped  1:07 left");
  });
});

test("duration(seconds) reads as a clock does", () => {
  expect([0, 9.4, 67, 600, 3600, 7384].map(duration)).toEqual(["0:00", "0:09", "1:07", "10:00", "1:00:00", "2:03:04"]);
});
