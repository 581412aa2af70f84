// npm test [-- --host cpu,dawn,chromium] [vitest's own arguments]: the whole suite on every host, then the counts.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runNode } from "./lib/child.mjs";
import { chromiumHost, dawnHost } from "./lib/hosts.mjs";
import { ensureInstalled, root } from "./lib/install.mjs";

const { hosts, rest } = readArguments(process.argv.slice(2));

ensureInstalled("all");
console.log("build: nothing to build, the tests run the sources");

/** @type {Record<string, () => Promise<import("./lib/hosts.mjs").Host | import("./lib/hosts.mjs").Missing>>} */
const find = {
  cpu: async () => ({ what: `the CPU device, Node ${process.version}`, env: {} }),
  dawn: dawnHost,
  chromium: chromiumHost,
};

const cache = join(root, "node_modules/.cache/mc"); // reports and counts
mkdirSync(cache, { recursive: true });

const ci = Boolean(process.env.CI) && process.env.CI !== "false";
const total = { passed: 0, failed: 0, skipped: 0 };
/** @type {string[]} */
const summary = [];

process.env.MC_RUN = String(Date.now()); // lets a host compare itself with those that ran before it
/** @type {string[]} */
const ran = [];

for (const name of hosts) {
  process.env.MC_RAN = ran.join(",");
  const host = await find[name]();
  if ("missing" in host) {
    console.log(`${name}: cannot run here: ${host.missing}. To add it: ${host.remedy}`);
    summary.push(`${name}: not run: ${host.missing}. To add it: ${host.remedy}`);
    if (ci) total.failed += 1; // a missing driver must not turn a suite green
    continue;
  }
  console.log(`${name}: ${host.what}`);
  const counts = await runHost(name, host.env);
  for (const key of /** @type {const} */ (["passed", "failed", "skipped"])) total[key] += counts[key];
  summary.push(`${name}: ${sentence(counts)} (${host.what})`);
  if (counts.interrupted) break;
  if (rest.length === 0) ran.push(name); // a filter may have left out what others compare with
}

writeFileSync(join(cache, "tests.json"), JSON.stringify(total));
console.log(`\n${summary.join("\n")}\n${sentence(total)}`);
process.exitCode = total.failed > 0 ? 1 : 0;

/**
 * Runs one vitest project and counts from its own JSON report.
 *
 * @param {string} name
 * @param {Record<string, string>} env
 */
async function runHost(name, env) {
  const report = join(cache, `tests-${name}.json`);
  rmSync(report, { force: true });
  const vitest = join(root, "node_modules/vitest/vitest.mjs");
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const filtered = rest.length > 0 ? ["--passWithNoTests"] : []; // a filter may leave a host without a file
  const args = [vitest, "run", "--project", name, ...reporters, ...filtered, ...rest];
  const code = await runNode(args, { env: name === "dawn" ? { ...process.env, ...env } : process.env });

  const counts = { passed: 0, failed: 0, skipped: 0, interrupted: code === 130 };
  if (existsSync(report)) {
    const json = JSON.parse(readFileSync(report, "utf8"));
    counts.passed = json.numPassedTests;
    counts.failed = json.numFailedTests;
    counts.skipped = json.numPendingTests + json.numTodoTests;
    for (const file of json.testResults) {
      const failures = file.assertionResults.filter((/** @type {any} */ test) => test.status === "failed");
      if (file.status === "failed" && failures.length === 0) counts.failed += 1; // the file itself did not load
    }
  }
  if (code !== 0 && counts.failed === 0) counts.failed = 1; // an error outside of any test, or a crash
  return counts;
}

/** @param {{ passed: number, failed: number, skipped: number }} counts */
function sentence({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

/** @param {string[]} args */
function readArguments(args) {
  const all = ["cpu", "dawn", "chromium"];
  const at = args.indexOf("--host");
  if (at < 0) return { hosts: all, rest: args };
  const hosts = (args[at + 1] ?? "").split(",");
  const unknown = hosts.filter((name) => !all.includes(name));
  if (unknown.length > 0) {
    console.error(
      `test: --host must name some of ${all.join(", ")} (separated by commas), got "${args[at + 1] ?? ""}"`,
    );
    process.exit(2);
  }
  return { hosts, rest: [...args.slice(0, at), ...args.slice(at + 2)] };
}
