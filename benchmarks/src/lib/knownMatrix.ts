// lib/knownMatrix.ts: matrices of any size whose singular value decomposition is known, element by element, in double precision:
// the oracle for Newton-Schulz at sizes that a host cannot orthogonalise.
import { add, type Device, equal, iota, mul, reshape, sub, type Tensor, tensor, where } from "@mc/tensor";

/**
 * X = (I - 2 u u^T) S (I - 2 v v^T), u and v unit vectors, S = diag(s): singular values s, dense, and any function f of the
 * singular values replaces s by f(s). Element by element, with s_i = 0 beyond the shorter side:
 *
 *   X_ij = s_i [i = j] - 2 u_i u_j s_j - 2 s_i v_i v_j + 4 (sum_k u_k s_k v_k) u_i v_j
 */
export interface KnownMatrix {
  readonly rows: number;
  readonly cols: number;
  /** The matrix on a device, f32 [rows, cols]. */
  on(device: Device): Tensor;
  /** Row i of the matrix with singular values f(s / norm), in doubles; `norm` is the Frobenius norm. */
  row(i: number, f: (s: number) => number): Float64Array;
}

/** A matrix [rows, cols] with singular values between 0.1 and 1. */
export function knownMatrix(rows: number, cols: number): KnownMatrix {
  const rank = Math.min(rows, cols);
  const s = padded(rank, Math.max(rows, cols), (k) => 0.1 + 0.9 * fraction((k + 1) * 0.6180339887498949));
  const u = unit(rows, 0.7548776662466927);
  const v = unit(cols, 0.5698402909980532);
  const norm = Math.sqrt(s.reduce((sum, x) => sum + x * x, 0));
  const inner = (values: Float64Array): number => {
    let sum = 0;
    for (let k = 0; k < rank; k++) sum += u[k]! * values[k]! * v[k]!;
    return sum;
  };
  return {
    rows,
    cols,
    on(device) {
      const vector = (n: number, f: (i: number) => number): Tensor =>
        tensor(
          Float32Array.from({ length: n }, (_, i) => f(i)),
          { device },
        );
      const column = (f: (i: number) => number): Tensor => reshape(vector(rows, f), [rows, 1]);
      const row = (f: (j: number) => number): Tensor => reshape(vector(cols, f), [1, cols]);
      const outer = [
        mul(
          column((i) => 2 * u[i]!),
          row((j) => (j < rank ? u[j]! * s[j]! : 0)),
        ),
        mul(
          column((i) => (i < rank ? 2 * s[i]! * v[i]! : 0)),
          row((j) => v[j]!),
        ),
      ];
      const last = mul(
        column((i) => 4 * inner(s) * u[i]!),
        row((j) => v[j]!),
      );
      return sub(sub(add(diagonal(rows, cols, s, device), last), outer[0]!), outer[1]!);
    },
    row(i, f) {
      const values = padded(rank, s.length, (k) => f(s[k]! / norm));
      const c = 4 * inner(values) * u[i]!;
      return Float64Array.from(
        { length: cols },
        (_, j) =>
          (i === j ? values[i]! : 0) -
          (j < rank ? 2 * u[i]! * u[j]! * values[j]! : 0) -
          (i < rank ? 2 * values[i]! * v[i]! * v[j]! : 0) +
          c * v[j]!,
      );
    },
  };
}

/** What `steps` of a quintic a s + b s^3 + c s^5 make of a singular value. */
function iterate(s: number, steps: readonly (readonly [number, number, number])[]): number {
  return steps.reduce((x, [a, b, c]) => x * (a + x * x * (b + x * x * c)), s);
}

/** Five steps of Keller Jordan's coefficients. */
export const keller5 = (s: number): number => iterate(s, new Array(5).fill([3.4445, -4.775, 2.0315]));

const fraction = (x: number): number => x - Math.floor(x);

const padded = (filled: number, size: number, f: (k: number) => number): Float64Array =>
  Float64Array.from({ length: size }, (_, k) => (k < filled ? f(k) : 0));

function unit(n: number, step: number): Float64Array {
  const x = Float64Array.from({ length: n }, (_, i) => fraction((i + 1) * step) - 0.5);
  const length = Math.sqrt(x.reduce((sum, e) => sum + e * e, 0));
  return x.map((e) => e / length);
}

/** diag(s) as [rows, cols]. */
function diagonal(rows: number, cols: number, s: Float64Array, device: Device): Tensor {
  const i = iota([rows, cols], 0, { device });
  const column = reshape(tensor(Float32Array.from(s.subarray(0, rows)), { device }), [rows, 1]);
  return where(equal(i, iota([rows, cols], 1, { device })), column, 0);
}
