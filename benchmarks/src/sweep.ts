// sweep.ts: `npm run bench -- sweep`: ways to run a product: f32 tiles (sweepF32.ts), or, with `--precision f16`, plans on tensor
// cores, each of those with robust buffer access and without. What `chooseTensorPlan` chooses from was chosen by this.
import { type TensorPlan, tensorKinds } from "@mc/tensor";
import { products } from "./kernels/products.ts";
import { caseName } from "./lib/case.ts";
import { type Context, withFreshDevice } from "./lib/context.ts";
import { runCases } from "./lib/runCases.ts";
import { sweepF32 } from "./sweepF32.ts";

/** What is tried: the kinds that `chooseTensorPlan` chooses from, and slices of k. `verify` proves the same plans. */
export const tensorPlans: readonly TensorPlan[] = [
  ...tensorKinds.map(({ tile, packed }): TensorPlan => ({ tile, slices: 1, packed: packed ? ["A", "B"] : [] })),
  { tile: tensorKinds[0]!.tile, slices: 4, packed: ["A", "B"] },
  { tile: tensorKinds[3]!.tile, slices: 4, packed: [] },
];

/** Squares, and products of GPT-2 that are wide, long along k, and odd. */
const shapes = [
  "matmul [1024",
  "matmul [2048",
  "matmul [4096, 4096, 4096",
  "qkv forward",
  "qkv dW",
  "proj dW",
  "head forward",
  "newton-schulz",
];

/** Checks and times every plan on every shape, twice: robust, and with the Dawn feature "disable_robustness". */
export async function sweep(context: Context): Promise<void> {
  if (context.precision === "f32") return sweepF32(context);
  const cases = products(context.small).filter(({ name, shape }) => {
    const id = caseName(name, shape);
    return context.small ? id.startsWith("matmul [128") : shapes.some((s) => id.includes(s));
  });
  for (const robust of [true, false]) {
    const names = robust ? cases : cases.map((c) => ({ ...c, name: `${c.name}, not robust` }));
    for (const tensor of tensorPlans) {
      const connection = {
        ...context.connection,
        variants: { tensor },
        ...(!robust && { toggles: [...(context.connection.toggles ?? []), "disable_robustness"] }),
      };
      // a tenth of a second each: there are two hundred
      await withFreshDevice(connection, (device) =>
        runCases({ ...context, device, precision: "f16", budget: Math.min(context.budget, 0.1) }, names),
      );
    }
  }
}
