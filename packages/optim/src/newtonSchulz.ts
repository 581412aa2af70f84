// newtonSchulz.ts: the nearest orthogonal matrix, by products alone.
import { ShapeError, type Tensor, ValueError } from "@mc/tensor";
import { formFor, type NewtonSchulzForm, orthogonalise } from "./orthogonalise.ts";

/** Coefficients of one step: singular values s become a*s + b*s^3 + c*s^5. */
export type Quintic = readonly [a: number, b: number, c: number];

/** A schedule by name, or its steps. */
export type NewtonSchulzSchedule = "keller" | "polar-express" | "hybrid" | readonly Quintic[];

const repeat = (times: number, step: Quintic): Quintic[] => new Array<Quintic>(times).fill(step);

// steepest at zero among those that stay bounded: singular values end within about [0.68, 1.13] (Jordan 2024)
const keller: Quintic = [3.4445, -4.775, 2.0315];

const schedules: { readonly [name: string]: { readonly steps: readonly Quintic[]; readonly normFactor: number } } = {
  keller: { steps: repeat(5, keller), normFactor: 1 },
  // eight steep steps, then two of Newton's own, which settle at exactly 1 (DeepSeek-V4, section 2.4)
  hybrid: { steps: [...repeat(8, keller), ...repeat(2, [2, -1.5, 0.5])], normFactor: 1 },
  // best polynomial for each step's interval, safety 2 % (Amsel et al., arXiv 2505.16932, as in modded-nanogpt)
  "polar-express": {
    steps: [
      [8.156554524902461, -22.48329292557795, 15.878769915207462],
      [4.042929935166739, -2.808917465908714, 0.5000178451051316],
      [3.8916678022926607, -2.772484153217685, 0.5060648178503393],
      [3.285753657755655, -2.3681294933425376, 0.46449024233003106],
      [2.3465413258596377, -1.7097828382687081, 0.42323551169305323],
    ],
    normFactor: 1.02,
  },
};

/** Options of `newtonSchulz`. */
export interface NewtonSchulzOptions {
  /** "keller" (default, 5 steps), "polar-express" (5), "hybrid" (10), or coefficients of one's own. */
  readonly schedule?: NewtonSchulzSchedule;
  /** The matrix is divided by its Frobenius norm times this; default 1.02 for "polar-express", else 1. */
  readonly normFactor?: number;
  /**
   * "plain": every step multiplies x; "gram": steps multiply matrices of the short side, and x is multiplied at restarts only.
   * Default: "gram" from a long side of 1.5 times the short one on, where it takes fewer operations.
   */
  readonly form?: NewtonSchulzForm;
}

/** The steps and norm factor behind a schedule. @throws ValueError for an unknown name, no steps, or a factor below 1 */
export function resolveSchedule(
  schedule: NewtonSchulzSchedule = "keller",
  normFactor?: number,
): { steps: readonly Quintic[]; normFactor: number } {
  const named = typeof schedule === "string" ? schedules[schedule] : { steps: schedule, normFactor: 1 };
  if (!named)
    throw new ValueError(
      `newtonSchulz: schedule must be ${Object.keys(schedules).join(", ")} or a list of coefficients, got "${schedule}"`,
    );
  const { steps } = named;
  if (steps.length === 0 || steps.some((s) => s.length !== 3 || !s.every(Number.isFinite))) {
    throw new ValueError(
      `newtonSchulz: a schedule must hold at least one triple of finite numbers, got ${JSON.stringify(steps)}`,
    );
  }
  const factor = normFactor ?? named.normFactor;
  if (!(factor >= 1 && Number.isFinite(factor)))
    throw new ValueError(`newtonSchulz: normFactor must be finite and at least 1, got ${factor}`);
  return { steps, normFactor: factor };
}

/**
 * Replaces the singular values of each matrix by about 1 and keeps its singular vectors: U S V^T -> about U V^T.
 *
 * X = x / (norm * normFactor), then for each step A = X X^T, X = (a*I + b*A + c*A*A) X; for tall matrices from the other side.
 * The norm is taken after dividing by the largest element, so that squares neither overflow nor vanish; zero gives zero.
 * For a short side n and a long side m, T steps take (3 n^2 m + n^3) T floating-point operations in the plain form and, for
 * five steps, 6 n^2 m + 14 n^3 in the Gram form, which multiplies n x n matrices and touches X twice only.
 *
 * @param x f32 [..., rows, cols]; leading dimensions are a batch
 * @throws ShapeError below two dimensions, ValueError for a bad schedule, norm factor or form
 * @example await newtonSchulz(tensor([[1, 2], [3, 4]])).toArray(); // [[-0.6807, 0.8255], [0.7413, 0.2594]]
 * @see Jordan et al. 2024, kellerjordan.github.io/posts/muon; the Gram form: github.com/Dao-AILab/gram-newton-schulz
 */
export function newtonSchulz(x: Tensor, { schedule, normFactor, form }: NewtonSchulzOptions = {}): Tensor {
  if (x.ndim < 2) throw new ShapeError(`newtonSchulz: needs at least 2 dimensions, got shape [${x.shape.join(", ")}]`);
  if (form !== undefined && form !== "plain" && form !== "gram")
    throw new ValueError(`newtonSchulz: form must be plain or gram, got "${form}"`);
  const [rows, cols] = x.shape.slice(-2) as [number, number];
  return orthogonalise([x], { ...resolveSchedule(schedule, normFactor), form: form ?? formFor(rows, cols) })[0]!;
}
