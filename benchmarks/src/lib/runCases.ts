// lib/runCases.ts: checks each case, times it, prints it.
import { type Case, caseName, compiled, operands } from "./case.ts";
import type { Context } from "./context.ts";
import { captureLaunches } from "./launches.ts";
import { floorMs } from "./machine.ts";
import { measure, replayCosts } from "./measure.ts";

// above this many flops a byte, arithmetic decides how fast a kernel can be (51 TFLOP/s over 4 TB/s is 13)
const ridge = 10;

/** Runs the cases that were asked for. A wrong result or an error is reported, and the next case goes on. */
export async function runCases(context: Context, cases: readonly Case[]): Promise<void> {
  const perFlop = new Map<string, number>();
  for (const c of cases) {
    const id = caseName(c.name, c.shape);
    if (!context.wanted(id) || (context.precision === "f16" && !c.products)) continue;
    const head = { name: c.name, shape: c.shape, dtype: context.precision, device: context.device.description };
    try {
      const result = await runCase(context, c);
      const flops = c.flops ?? 1;
      perFlop.set(id, result.median_ms / flops);
      const before = c.against === undefined ? undefined : perFlop.get(c.against);
      context.report.line({
        ...head,
        ...result,
        ...(before !== undefined && { ratio: result.median_ms / flops / before }),
      });
    } catch (error) {
      context.report.line({ ...head, failed: error instanceof Error ? error.message : String(error) });
    }
  }
}

async function runCase({ device, precision, peaks, budget }: Context, c: Case) {
  const inputs = await operands(c);
  const call = compiled(c);
  const { result: outputs, run, kernels } = captureLaunches(device, () => call(...inputs));
  const error = await c.check({ inputs, outputs, again: call });
  const tolerance = precision === "f16" ? (c.toleranceHalf ?? 4e-3) : (c.tolerance ?? 1e-5);
  if (!(error <= tolerance)) throw new Error(`relative error ${error}, at most ${tolerance} is right`);
  const timing = await measure(device, run, { budget, together: true });
  const costs = await replayCosts(device, run, budget);
  for (const t of [...inputs, ...outputs]) t.dispose();
  return {
    kernel: kernels.join(" + "),
    ...timing,
    ...rates(c, timing.median_ms),
    floor_ms: floorMs(peaks, precision, c.leastFlops ?? c.flops ?? 0, c.bytes),
    ...costs,
    error,
  };
}

/** GFLOP/s where arithmetic decides, else GB/s. */
export function rates(
  { flops = 0, bytes }: Pick<Case, "flops" | "bytes">,
  ms: number,
): { gflops: number } | { gbs: number } {
  return flops > ridge * bytes ? { gflops: flops / ms / 1e6 } : { gbs: bytes / ms / 1e6 };
}
