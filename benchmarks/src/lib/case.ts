// lib/case.ts: a benchmark case as a value: what to compute, what it costs at least, and what the result must be.
import { compile, realise, type Tensor } from "@mc/tensor";

/** A function of tensors to check and time. Shapes, flops and bytes are data: nothing runs before `inputs` is called. */
export interface Case {
  readonly name: string;
  /** Sizes that say which case it is; for products [m, n, k], with the batch before them. */
  readonly shape: readonly number[];
  /** Makes the operands on the default device. */
  readonly inputs: () => Tensor[];
  readonly run: (...inputs: Tensor[]) => Tensor | readonly Tensor[];
  /** Floating-point operations, where there are enough of them to matter. */
  readonly flops?: number;
  /** The fewest operations known to do, for the floor; default `flops`. */
  readonly leastFlops?: number;
  /** Fewest bytes to move: each array once. */
  readonly bytes: number;
  /** True where the work is matrix products, whose precision `--precision` chooses. */
  readonly products?: boolean;
  readonly check: Check;
  /** Largest error that passes, relative to the largest expected value; default 1e-5. */
  readonly tolerance?: number;
  /** Largest error with operands rounded to half precision; default 4e-3. */
  readonly toleranceHalf?: number;
  /** Name and shape of the case whose time for a flop this one is compared with. */
  readonly against?: string;
}

/** What a check sees: one call's operands and results, and a way to make another call. */
export interface Call {
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly again: (...inputs: Tensor[]) => Tensor[];
}

/** The largest error relative to the largest expected value, against double precision on the host. */
export type Check = (call: Call) => Promise<number>;

/** "matmul [64, 64, 64]": how `--filter` and `against` name a case. */
export const caseName = (name: string, shape: readonly number[]): string => `${name} [${shape.join(", ")}]`;

/** The case as a compiled function of a list of results. */
export function compiled(c: Pick<Case, "run">): (...inputs: Tensor[]) => Tensor[] {
  return compile((...inputs: Tensor[]) => [c.run(...inputs)].flat() as Tensor[]);
}

/** The operands, computed. */
export const operands = (c: Pick<Case, "inputs">): Promise<Tensor[]> => realise(c.inputs());
