// child.mjs: runs a Node program as if it were this process: same terminal, same signals once each, same exit code.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { constants } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { root } from "./install.mjs";

const windows = process.platform === "win32";

/**
 * Runs `node ...args` in the repository's root and resolves to its exit code (128 + n after signal n, as shells report it).
 *
 * A Ctrl-C in a terminal reaches every process of the foreground group, and npm sends its own copy on top: a program that counts
 * interrupts would see two or three. The child therefore gets a process group of its own, and this process passes each signal
 * on exactly once. The leash ends the child should this process be killed outright.
 *
 * @param {string[]} args
 * @param {{ env?: NodeJS.ProcessEnv }} [options]
 * @returns {Promise<number>}
 */
export function runNode(args, { env = process.env } = {}) {
  const leash = new URL("leash.mjs", import.meta.url).href;
  const child = spawn(process.execPath, ["--import", leash, ...args], {
    cwd: root,
    env,
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    detached: !windows, // on Windows that would open a new console; there Ctrl-C reaches the child by itself
  });

  const lastSeen = new Map();
  const pass = (/** @type {NodeJS.Signals} */ signal) => {
    const now = Date.now();
    const copy = now - (lastSeen.get(signal) ?? Number.NEGATIVE_INFINITY) < 500;
    lastSeen.set(signal, now);
    if (!copy && !windows) child.kill(signal);
  };
  /** @type {NodeJS.Signals[]} */
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) process.on(signal, pass);
  const resize = () => child.kill("SIGWINCH");
  if (!windows) process.on("SIGWINCH", resize);

  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      for (const name of signals) process.off(name, pass);
      process.off("SIGWINCH", resize);
      resolve(code ?? 128 + (constants.signals[/** @type {NodeJS.Signals} */ (signal)] ?? 0));
    });
  });
}

/**
 * The Node arguments that run a TypeScript file from the sources of the packages, without a build.
 *
 * @param {string} file relative to the root
 * @returns {string[]}
 */
export function typescript(file) {
  const tsx = pathToFileURL(createRequire(join(root, "package.json")).resolve("tsx")).href;
  return ["--conditions=@mc/source", "--import", tsx, join(root, file)];
}
