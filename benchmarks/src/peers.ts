// peers.ts: runs the programs of benchmarks/peers after ours, on the same device, and passes their lines on.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Context } from "./lib/context.ts";
import type { Line } from "./lib/report.ts";
import type { Options } from "./options.ts";

/** Another framework: how to start it, and whether it needs packages of npm. */
export interface Peer {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly packages?: boolean;
}

const peers: readonly Peer[] = [
  { name: "jax-js", command: [process.execPath, "jaxjs.mjs"], packages: true },
  { name: "TensorFlow.js", command: [process.execPath, "tfjs.mjs"], packages: true },
  { name: "PyTorch plain", command: ["python3", "pytorch.py", "--mode", "plain"] },
  { name: "PyTorch expert", command: ["python3", "pytorch.py", "--mode", "expert"] },
];

// in the repository, and in a bundle beside bench.mjs
const folders = ["../peers/", "./peers/"].map((path) => fileURLToPath(new URL(path, import.meta.url)));

/** Times every peer that the host has; one that cannot run is named with the reason. */
export async function runPeers(context: Context, options: Options, list: readonly Peer[] = peers): Promise<void> {
  const folder = folders.find((path) => existsSync(join(path, "package.json")));
  for (const peer of list) {
    const reason =
      folder === undefined ? "the folder of the peers is not here" : await runPeer(context, options, peer, folder);
    if (reason !== undefined) context.report.missing(peer.name, reason);
  }
}

/** Runs one peer. @returns why it did not run to its end, if it did not */
async function runPeer(
  { device, small, budget, report }: Context,
  { suite, filter, models, optimizers }: Options,
  peer: Peer,
  folder: string,
): Promise<string | undefined> {
  const problem = peer.packages ? installed(folder) : undefined;
  if (problem !== undefined) return problem;
  const [program, ...script] = peer.command;
  const asked = [
    ...["--suite", suite, "--device", device.kind, "--budget", String(budget), "--filter", filter],
    ...(small ? ["--small"] : []),
    ...(models ? ["--models", models.join(",")] : []),
    ...(optimizers ? ["--optimizers", optimizers.join(",")] : []),
  ];
  const child = spawn(program, [...script, ...asked], {
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = new Promise<string | undefined>((resolve) => {
    let complaint = "";
    child.stderr.on("data", (text: Buffer) => {
      complaint = (complaint + text.toString()).slice(-2000);
    });
    child.on("error", (error) =>
      resolve(error.message.includes("ENOENT") ? `${program} is not installed` : error.message),
    );
    child.on("close", (code) => resolve(code === 0 ? undefined : `it ended with ${code}: ${lastError(complaint)}`));
  });
  let missing: string | undefined;
  for await (const text of createInterface({ input: child.stdout })) {
    const line = parse(text);
    if (line?.missing !== undefined) missing = String(line.missing);
    else if (line) report.line(line);
  }
  return missing ?? ended;
}

/** The line that names the error, of what a program wrote to standard error. */
function lastError(text: string): string | undefined {
  const lines = text.trim().split("\n");
  return lines.findLast((line) => /\w*Error\b/.test(line)) ?? lines.at(-1);
}

/** A line of results; undefined for whatever else a framework prints. */
function parse(text: string): Line | undefined {
  try {
    const line: unknown = JSON.parse(text);
    return typeof line === "object" && line !== null && "framework" in line ? (line as Line) : undefined;
  } catch {
    return undefined;
  }
}

/** Installs the packages that the peers' package.json names (in a bundle: none), once. @returns why that failed, if it did */
function installed(folder: string): string | undefined {
  const { dependencies = {} } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as {
    dependencies?: Record<string, string>;
  };
  if (Object.keys(dependencies).every((name) => existsSync(join(folder, "node_modules", name)))) return undefined;
  console.error("peers: npm ci (once)");
  const run = spawnSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], {
    cwd: folder,
    encoding: "utf8",
    shell: process.platform === "win32",
  });
  if (run.status === 0) return undefined;
  const complaint = (run.stderr ?? "").split("\n").find((line) => /^npm err/i.test(line));
  return `its packages are not installed, and npm ci failed: ${complaint ?? run.error?.message ?? `exit ${run.status}`}`;
}
