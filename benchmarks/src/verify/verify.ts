// verify/verify.ts: `pnpm bench verify`: every kernel variant on this machine, each forced in turn, against double precision.
import {
  compile,
  connect,
  type Device,
  type ElementWiseVariant,
  matmulVariants,
  type ReduceVariant,
  realise,
  type Tensor,
  type Variants,
} from "@mc/tensor";
import { caseName } from "../lib/case.ts";
import { type Context, withFreshDevice } from "../lib/context.ts";
import { captureLaunches } from "../lib/launches.ts";
import { relativeError } from "../lib/sample.ts";
import { tensorPlans } from "../sweep.ts";
import { type Proof, upload } from "./cases.ts";
import { fusedProofs } from "./fused.ts";
import { elementWiseProofs, reduceProofs } from "./loops.ts";
import { productProofs, storedProofs } from "./products.ts";

// keys, so that the compiler asks for a variant that is new
const reduce: Record<ReduceVariant, true> = { thread: true, workgroup: true };
const elementWise: Record<ElementWiseVariant, true> = { scalar: true, wide: true };

/** Kernels of one choice, and what proves them. */
interface Setting {
  readonly name: string;
  readonly variants?: Variants;
  /** Fused ops have one kernel for hardware and one for software adapters: proven as both. */
  readonly softwareAdapter?: boolean;
  /** Operands are stored in f16 from so many operations on; default the compiler's own choice. */
  readonly halfFlops?: number;
  readonly proofs: readonly Proof[];
}

function settings({ device, precision }: Context): Setting[] {
  const products = productProofs(precision === "f16");
  const rest = [...elementWiseProofs(), ...reduceProofs(), ...fusedProofs()];
  const chosen = { name: "as chosen", proofs: precision === "f16" ? products : [...products, ...rest] };
  if (device.kind === "cpu") return [chosen];
  if (precision === "f16")
    return [
      chosen,
      ...tensorPlans.map((tensor, i) => ({ name: `plan ${i + 1}`, variants: { tensor }, proofs: products })),
      ...tensorPlans.map((tensor, i) => ({
        name: `plan ${i + 1}, operands stored in f16`,
        variants: { tensor },
        halfFlops: 0,
        proofs: storedProofs(),
      })),
    ];
  return [
    chosen,
    ...matmulVariants.map((variant) => ({
      name: `matmul ${variant}`,
      variants: { matmul: variant },
      proofs: products,
    })),
    { name: "matmul in slices", variants: { matmul: "32x32x16/4x4", slices: 3 }, proofs: products },
    ...keys(reduce).map((variant) => ({
      name: `reduce ${variant}`,
      variants: { reduce: variant },
      proofs: reduceProofs(),
    })),
    ...keys(elementWise).map((variant) => ({
      name: `element-wise ${variant}`,
      variants: { elementWise: variant },
      proofs: elementWiseProofs(),
    })),
    { name: "fused ops for hardware", softwareAdapter: false, proofs: fusedProofs() },
    { name: "fused ops for software", softwareAdapter: true, proofs: fusedProofs() },
  ];
}

const keys = <K extends string>(record: Record<K, unknown>): K[] => Object.keys(record) as K[];

const atOnce = 8;

/** Proves every variant; the last line counts. Exit code 1 of the program if one is wrong. */
export async function verify(context: Context): Promise<void> {
  let proven = 0;
  let wrong = 0;
  for (const { name, variants, softwareAdapter, halfFlops, proofs } of settings(context)) {
    const wanted = proofs.filter((p) => context.wanted(caseName(`${name}: ${p.name}`, p.shape)));
    if (wanted.length === 0) continue;
    const connection = {
      ...context.connection,
      ...(variants && { variants }),
      ...(softwareAdapter !== undefined && { softwareAdapter }),
    };
    await withFreshDevice(connection, async (device) => {
      const one = async (p: Proof): Promise<void> => {
        const head = {
          name: `${name}: ${p.name}`,
          shape: p.shape,
          dtype: context.precision,
          device: device.description,
        };
        try {
          const { kernel, error } = await prove(device, p, halfFlops);
          const ok = error <= (p.tolerance ?? 0);
          if (ok) proven++;
          else wrong++;
          context.report.line({
            ...head,
            kernel,
            error,
            ...(!ok && { failed: `relative error ${error}, at most ${p.tolerance ?? 0} is right` }),
          });
        } catch (error) {
          wrong++;
          context.report.line({ ...head, failed: error instanceof Error ? error.message : String(error) });
        }
      };
      // several at a time: the driver compiles their kernels side by side
      for (let i = 0; i < wanted.length; i += atOnce) await Promise.all(wanted.slice(i, i + atOnce).map(one));
    });
  }
  await connect(context.connection);
  context.report.line({
    name: "in all",
    dtype: context.precision,
    device: context.device.description,
    kernel: `${proven} proven, ${wrong} wrong`,
    proven,
    wrong,
  });
}

async function prove(
  device: Device,
  { operands, run, expected }: Proof,
  halfFlops?: number,
): Promise<{ kernel: string; error: number }> {
  const inputs = await realise(operands.map(upload));
  const call = compile((...xs: Tensor[]) => [run(...xs)].flat() as Tensor[], {
    scheduler: halfFlops === undefined ? {} : { halfFlops },
  });
  const { result, kernels } = captureLaunches(device, () => call(...inputs));
  const parts = await Promise.all(result.map((t) => t.data()));
  const actual = parts.flatMap((part) => Array.from(part));
  for (const t of [...inputs, ...result]) t.dispose();
  return { kernel: kernels.join(" + "), error: relativeError(actual, expected()) };
}
