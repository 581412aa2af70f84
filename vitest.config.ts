// One suite, three hosts: the CPU device, WebGPU through Dawn in Node, WebGPU in Chromium. The host is a vitest project, and tells
// the tests their device by MC_TEST_DEVICE. A file name may narrow where its tests run:
//   x.test.ts            every host
//   x.gpu.test.ts        dawn and chromium        x.cpu.test.ts    cpu (the CPU device itself)
//   x.dawn.test.ts       dawn                     x.node.test.ts   cpu (needs files or processes, not a device)
// examples and benchmarks are Node programs: their x.test.ts run in cpu only.
import { availableParallelism } from "node:os";
import { playwright } from "@vitest/browser-playwright";
import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config";
import { chromiumHost, dawnHost } from "./scripts/lib/hosts.mjs";

const inherited = { ...process.env }; // before dawn() adds its driver, which is not for the browser
const conditions = ["@mc/source", "module", "development|production"];
// `npm test` names its run and the hosts that have finished, so that a host can compare itself with those before it.
const run = { MC_RUN: process.env.MC_RUN ?? "", MC_RAN: process.env.MC_RAN ?? "" };
const tests = (suffix: string) => `packages/*/src/**/*${suffix}.test.ts`;
const programs = (suffix: string) => `{examples,benchmarks}/**/*${suffix}.test.ts`;

export default defineConfig(async () => ({
  resolve: { conditions: [...conditions, "browser"] },
  ssr: { resolve: { conditions: [...conditions, "node"] } },
  optimizeDeps: { noDiscovery: true, exclude: ["webgpu"] }, // a dependency found half-way would reload the browser's page
  test: {
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: availableParallelism(), // vitest leaves one core free, which is half of two
    isolate: false, // files share their host's device, so that a kernel is compiled once for all of them
    projects: [...cpu(), ...(await dawn()), ...(await chromium())],
  },
}));

function cpu(): TestProjectInlineConfiguration[] {
  if (!wanted("cpu")) return [];
  const exclude = ["**/*.{gpu,dawn}.test.ts", "**/node_modules/**"];
  return [
    project({
      name: "cpu",
      include: [tests(""), programs("")],
      exclude,
      env: { MC_TEST_DEVICE: "cpu", MC_HOST: "cpu", ...run },
      pool: "forks",
      execArgv: ["--expose-gc"],
    }),
  ];
}

async function dawn(): Promise<TestProjectInlineConfiguration[]> {
  if (!wanted("dawn")) return [];
  const host = await dawnHost();
  if ("missing" in host) return missing("dawn", host);
  Object.assign(process.env, host.env); // inherited by the forked workers, whose dynamic loader reads it
  const exclude = ["**/*.{cpu,node}.test.ts", "**/node_modules/**"];
  return [
    project({
      name: "dawn",
      include: [tests(""), programs(".gpu"), programs(".dawn")],
      exclude,
      env: { MC_TEST_DEVICE: "webgpu", MC_HOST: "dawn", ...run },
      pool: "forks",
      execArgv: ["--expose-gc"],
      fileParallelism: false, // one driver, which uses every core as it is
    }),
  ];
}

async function chromium(): Promise<TestProjectInlineConfiguration[]> {
  if (!wanted("chromium")) return [];
  const host = await chromiumHost();
  if ("missing" in host) return missing("chromium", host);
  const { executablePath, args } = host;
  const env = { ...inherited, ...host.env };
  const exclude = ["**/*.{cpu,node,dawn}.test.ts", "**/node_modules/**"];
  return [
    project({
      name: "chromium",
      include: [tests("")],
      exclude,
      env: { MC_TEST_DEVICE: "webgpu", MC_HOST: "chromium", ...run },
      fileParallelism: false,
      browser: {
        enabled: true,
        headless: true,
        screenshotFailures: false,
        provider: playwright({ launchOptions: { executablePath, args, env } }),
        instances: [{ browser: "chromium" }],
      },
    }),
  ];
}

function project(test: TestProjectInlineConfiguration["test"]): TestProjectInlineConfiguration {
  return { extends: true, test };
}

// A host is prepared only for a run that uses it: `--project NAME` (several times, or not at all for every host).
function wanted(name: string): boolean {
  const { argv } = process;
  const named = argv.flatMap((arg, i) =>
    arg === "--project" ? [argv[i + 1]] : arg.startsWith("--project=") ? [arg.slice(10)] : [],
  );
  return named.length === 0 || named.includes(name);
}

function missing(name: string, { missing: reason, remedy }: { missing: string; remedy: string }): [] {
  const message = `${name}: cannot run here: ${reason}. To add it: ${remedy}`;
  if (process.env.CI) throw new Error(message);
  console.warn(message);
  return [];
}
