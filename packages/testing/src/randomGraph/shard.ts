// randomGraph/shard.ts: the property test over a range of seeds. Test files take one range each, so that they run side by side.
import type { Device } from "@mc/tensor";
import { beforeAll, describe, expect, test } from "vitest";
import { hostDevice, oracleDevice, sharedTestDevice } from "../host.ts";
import { difference, distance, evaluate, type RunOptions, settings, unfused } from "./check.ts";
import { type Graph, printGraph, randomGraph, shrinkGraph } from "./generate.ts";

/** Agreement in float64: the same operations in the same order, up to how sums are split. */
const exactly = 1e-12;
/** Agreement of single precision with float64 over graphs of about 16 smooth operations, in the 2-norm. */
const single = 1e-3;

/** Set MC_GRAPH_SEED to run one seed only, with every setting, and to print its graph. */
const only = ((import.meta as { env?: Record<string, string | undefined> }).env?.MC_GRAPH_SEED ?? globalThis.process?.env?.MC_GRAPH_SEED) || undefined;

interface Way extends Omit<RunOptions, "device"> {
  readonly name: string;
}

/** The ways in which seed s runs: default settings with and without donation, and every other setting in turn. */
function waysOf(seed: number): Way[] {
  const names = Object.keys(settings);
  const gradient = seed % 4 === 3;
  const some = only === undefined ? ["default", names[1 + (seed % (names.length - 1))]!, names[1 + ((seed * 5 + 3) % (names.length - 1))]!] : names;
  return some.flatMap((name) =>
    [false, true].map((donate) => ({ name: `${name}, donation ${donate ? "on" : "off"}`, scheduler: settings[name]!, donate, gradient, replays: 2 })),
  );
}

const command = (seed: number): string => `reproduce with: MC_GRAPH_SEED=${seed} npx vitest run --project ${hostDevice} packages/testing/src/randomGraph`;

async function failure(graph: Graph, way: Way, device: Device, oracle: Device): Promise<string | undefined> {
  try {
    const expected = await evaluate(graph, { ...way, scheduler: unfused, donate: false, device: oracle });
    if (device === oracle) return difference(await evaluate(graph, { ...way, device }), expected, exactly);
    const error = distance(await evaluate(graph, { ...way, device }), expected);
    return error <= single ? undefined : `relative error ${error.toExponential(2)} against float64`;
  } catch (error) {
    return `throws ${String(error)}`;
  }
}

/** Registers the test over seeds [first, last). */
export function testGraphs(first: number, last: number): void {
  describe.runIf(only === undefined || (Number(only) >= first && Number(only) < last))(`random graphs, seeds ${first} to ${last - 1}`, () => {
    let device: Device;
    let oracle: Device;
    beforeAll(async () => {
      device = await sharedTestDevice();
      oracle = await oracleDevice();
    });
    const range = (count: number): number[] => (only === undefined ? Array.from({ length: count }, (_, i) => first + i) : [Number(only)]);
    // the float64 CPU device is the same on every host: the CPU host does the bulk
    const many = range(hostDevice === "cpu" ? last - first : 10);
    const few = range(hostDevice === "cpu" ? 100 : 15);

    /** Runs all seeds; reports each failing one, made smaller, with the command to run it again. */
    const check = async (seeds: number[], graphOf: (seed: number) => Graph, on: Device, ways: (seed: number) => Way[]): Promise<void> => {
      const failures: string[] = [];
      for (const seed of seeds) {
        const graph = graphOf(seed);
        if (only !== undefined) console.info(`seed ${seed}\n${printGraph(graph)}`);
        for (const way of ways(seed)) {
          if ((await failure(graph, way, on, oracle)) === undefined) continue;
          const small = await shrinkGraph(graph, oracle, async (g) => (await failure(g, way, on, oracle)) !== undefined);
          failures.push(`seed ${seed}, ${way.name}${way.gradient ? ", gradient" : ""}: ${await failure(small, way, on, oracle)}\n${printGraph(small)}\n${command(seed)}`);
          break;
        }
        if (failures.length >= 3) break;
      }
      expect(failures.join("\n\n")).toBe("");
    };

    test("give the same values fused as unfused in float64, for every setting, donation on and off", async () => {
      await check(many, (seed) => randomGraph(seed, { operations: 14 + (seed % 5), device: oracle }), oracle, waysOf);
    }, 300_000);

    test("give the values of float64 on the host's device", async () => {
      await check(
        few,
        (seed) => randomGraph(seed, { operations: 14, smooth: true, device: oracle }),
        device,
        (seed) => waysOf(seed).filter((way, i) => (only === undefined ? i === 1 : !way.name.startsWith("64"))).map((way) => ({ ...way, replays: 1 })),
      );
    }, 300_000);
  });
}
