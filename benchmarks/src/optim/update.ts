// optim/update.ts: one optimizer step as users call it: compiled, parameters and state donated, gradients on the device.
import type { Extras, Optimizer, OptimizerState } from "@mc/optim";
import { compile, realise, type Tensor, treeLeaves } from "@mc/tensor";
import { caseName } from "../lib/case.ts";
import type { Context } from "../lib/context.ts";
import { captureLaunches } from "../lib/launches.ts";
import { floorMs } from "../lib/machine.ts";
import { measure, replayCosts } from "../lib/measure.ts";
import { rates } from "../lib/runCases.ts";

/** Parameters or gradients by name. */
export type Named = Readonly<Record<string, Tensor>>;

/** An optimizer step to check and time. */
export interface Update {
  readonly name: string;
  readonly shape: readonly number[];
  readonly optimizer: () => Optimizer;
  readonly params: () => Named;
  /** One set of gradients a checked step; the last is used for timing. */
  readonly gradients: () => readonly Named[];
  /** Makes a gradient for each parameter of what `gradients` gives, inside the compiled step. Default: it is one already. */
  readonly split?: (gradients: Named) => Named;
  readonly flops?: number;
  readonly leastFlops?: number;
  readonly bytes: number;
  readonly products?: boolean;
  /** Reads what it needs before the first step; the function that it gives is asked for the error after the last. */
  readonly expect: (params: Named, gradients: readonly Named[]) => Promise<(after: Named) => Promise<number>>;
  readonly tolerance?: number;
  readonly toleranceHalf?: number;
}

interface StepInput {
  readonly params: Named;
  readonly state: OptimizerState;
  readonly gradients: Named;
}

interface StepOutput {
  readonly params: Named;
  readonly state: OptimizerState;
}

/** A compiled step that keeps its own parameters and state. */
export interface Stepper {
  readonly params: Named;
  step(gradients: Named): void;
  /** The compiled function itself, and what the next step would call it with. */
  readonly update: (input: StepInput) => StepOutput;
  input(gradients: Named): StepInput;
}

/** Compiles an update and starts from `params`, which it takes over. */
export async function stepper(
  optimizer: Optimizer,
  initial: Named,
  { split = (g) => g, extras = {} }: { split?: (gradients: Named) => Named; extras?: Extras } = {},
): Promise<Stepper> {
  const update = compile(
    ({ params, state, gradients }: StepInput): StepOutput => {
      const next = optimizer.update(split(gradients), state, params, extras);
      return { params: next.params, state: next.state };
    },
    { donate: ["params", "state"] },
  );
  let params = initial;
  let state = await realise(optimizer.init(params));
  return {
    get params() {
      return params;
    },
    step(gradients) {
      ({ params, state } = update({ params, state, gradients }));
    },
    update,
    input: (gradients) => ({ params, state, gradients }),
  };
}

/** Checks and times updates; a wrong one is reported, and the next goes on. */
export async function runUpdates(context: Context, updates: readonly Update[]): Promise<void> {
  for (const u of updates) {
    if (!context.wanted(caseName(u.name, u.shape)) || (context.precision === "f16" && !u.products)) continue;
    const head = { name: u.name, shape: u.shape, dtype: context.precision, device: context.device.description };
    try {
      context.report.line({ ...head, ...(await runUpdate(context, u)) });
    } catch (error) {
      context.report.line({ ...head, failed: error instanceof Error ? error.message : String(error) });
    }
  }
}

async function runUpdate({ device, precision, peaks, budget }: Context, u: Update) {
  const params = await realise(u.params());
  const gradients = await realise(u.gradients());
  const error = await u.expect(params, gradients);
  const stepping = await stepper(u.optimizer(), params, u);
  const { kernels } = captureLaunches(device, () => stepping.step(gradients[0]!));
  for (const g of gradients.slice(1)) stepping.step(g);
  const worst = await error(stepping.params);
  const tolerance = precision === "f16" ? (u.toleranceHalf ?? 4e-3) : (u.tolerance ?? 1e-5);
  if (!(worst <= tolerance)) throw new Error(`relative error ${worst}, at most ${tolerance} is right`);

  const last = gradients.at(-1)!;
  const timing = await measure(device, () => stepping.step(last), { budget });
  const costs = await replayCosts(device, () => stepping.step(last), budget);
  for (const t of treeLeaves<Tensor>([stepping.params, gradients])) t.dispose();
  return {
    kernel: kernels.slice(0, 6).join(" + "),
    ...timing,
    ...rates(u, timing.median_ms),
    floor_ms: floorMs(peaks, precision, u.leastFlops ?? u.flops ?? 0, u.bytes),
    ...costs,
    error: worst,
  };
}
