// randomGraph/shard.ts: the property test over a range of seeds. Test files take one range each, so that they run side by side.
import type { Device } from "@mc/tensor";
import { expect, test } from "vitest";
import { env } from "../env.ts";
import { hostDevice, oracleDevice, sharedTestDevice } from "../host.ts";
import { difference, distance, evaluate, type RunOptions, type RunResult, settings, unfused } from "./check.ts";
import { type Graph, printGraph, randomGraph, shrinkGraph } from "./generate.ts";

/** Agreement in float64: the same operations in the same order, up to how sums are split. */
const exactly = 1e-12;
/** Agreement of single precision with float64 over graphs of about 16 smooth operations, in the 2-norm. */
const single = 1e-3;

/** Set MC_GRAPH_SEED to run one seed only, with every setting, and to print its graph. */
const only = env("MC_GRAPH_SEED");

interface Way extends Omit<RunOptions, "device"> {
  readonly name: string;
}

/** The ways in which seed s runs: default settings with and without donation, and every other setting in turn. */
function waysOf(seed: number): Way[] {
  const names = Object.keys(settings);
  const gradient = seed % 4 === 3;
  const some =
    only === undefined
      ? ["default", names[1 + (seed % (names.length - 1))]!, names[1 + ((seed * 5 + 3) % (names.length - 1))]!]
      : names;
  return some.flatMap((name) =>
    [false, true].map((donate) => ({
      name: `${name}, donation ${donate ? "on" : "off"}`,
      scheduler: settings[name]!,
      donate,
      gradient,
      replays: 2,
    })),
  );
}

const command = (seed: number): string =>
  `reproduce with: MC_GRAPH_SEED=${seed} npx vitest run --project ${env("MC_HOST") ?? hostDevice} packages/testing/src/randomGraph`;

/** What a graph means, whichever way it runs. */
const meaning = (graph: Graph, way: Way, oracle: Device): Promise<RunResult> =>
  evaluate(graph, { ...way, scheduler: unfused, donate: false, device: oracle });

async function failure(
  graph: Graph,
  way: Way,
  device: Device,
  oracle: Device,
  known?: RunResult,
): Promise<string | undefined> {
  try {
    const expected = known ?? (await meaning(graph, way, oracle));
    if (device === oracle) return difference(await evaluate(graph, { ...way, device }), expected, exactly);
    const error = distance(await evaluate(graph, { ...way, device }), expected);
    return error <= single ? undefined : `relative error ${error.toExponential(2)} against float64`;
  } catch (error) {
    return `throws ${String(error)}`;
  }
}

/** Runs seeds in the given ways; fails with each failing one made smaller, and the command that runs it again. */
async function checkSeeds(
  seeds: readonly number[],
  graphOf: (seed: number, oracle: Device) => Graph,
  device: Device,
  ways: (seed: number) => Way[],
): Promise<void> {
  const oracle = await oracleDevice();
  const failures: string[] = [];
  for (const seed of seeds) {
    const graph = graphOf(seed, oracle);
    if (only !== undefined) console.info(`seed ${seed}\n${printGraph(graph)}`);
    const all = ways(seed);
    const known = await meaning(graph, all[0]!, oracle).catch(() => undefined); // equal for all; an error is met again below
    for (const way of all) {
      if ((await failure(graph, way, device, oracle, known)) === undefined) continue;
      const small = await shrinkGraph(
        graph,
        oracle,
        async (g) => (await failure(g, way, device, oracle)) !== undefined,
      );
      failures.push(
        `seed ${seed}, ${way.name}${way.gradient ? ", gradient" : ""}: ${await failure(small, way, device, oracle)}\n${printGraph(small)}\n${command(seed)}`,
      );
      break;
    }
    if (failures.length >= 3) break;
  }
  expect(failures.join("\n\n")).toBe("");
}

const within = (first: number, last: number): number[] =>
  only === undefined
    ? Array.from({ length: last - first }, (_, i) => first + i)
    : [Number(only)].filter((seed) => seed >= first && seed < last);

/** Registers the float64 property over seeds [first, last). */
export function testFusion(first: number, last: number): void {
  test(`random graphs ${first} to ${last - 1} give the same values fused as unfused in float64, for every setting, donation on and off`, async () => {
    await checkSeeds(
      within(first, last),
      (seed, device) => randomGraph(seed, { operations: 14 + (seed % 5), device }),
      await oracleDevice(),
      waysOf,
    );
  }, 300_000);
}

/** Registers the comparison of the host's device with float64 over seeds [first, last): smooth graphs, fused, donated. */
export function testDeviceGraphs(first: number, last: number): void {
  test(`random graphs ${first} to ${last - 1} give the values of float64 on the host's device`, async () => {
    const ways = (seed: number): Way[] =>
      waysOf(seed).filter((way, i) => (only === undefined ? i === 1 : !way.name.startsWith("64")));
    await checkSeeds(
      within(first, last),
      (seed, device) => randomGraph(seed, { operations: 14, smooth: true, device }),
      await sharedTestDevice(),
      (seed) => ways(seed).map((way) => ({ ...way, replays: 1 })),
    );
  }, 300_000);
}
