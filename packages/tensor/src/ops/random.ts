// ops/random.ts: counter-based random numbers: a value depends on the key and its position alone, so every device draws the
// same 32-bit streams. Threefry-2x32 with 20 rounds: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
import { ValueError } from "../errors.ts";
import { type Expr, scalar } from "../scalar.ts";
import { type Shape, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { type CreateOptions, iota, tensor } from "./create.ts";
import { add, cast, elementwise, less, log, mul, neg, type TensorLike } from "./elementwise.ts";
import { argmax } from "./reduce.ts";
import { broadcastTo, reshape, sliceAxis } from "./view.ts";

// rotations of Threefry-2x32 (Salmon et al. 2011, table 2) and the key-schedule parity constant of Threefish
const ROTATIONS = [13, 15, 26, 6, 17, 29, 16, 24] as const;
const PARITY = 0x1bd11bda;

/** Both words of the block cipher for key (k0, k1) and counter (c0, c1), all u32. */
function threefry(k0: Expr, k1: Expr, c0: Expr, c1: Expr): [Expr, Expr] {
  const keys = [k0, k1, scalar.apply("bitXor", scalar.apply("bitXor", k0, k1), PARITY)];
  let x0 = scalar.add(c0, k0);
  let x1 = scalar.add(c1, k1);
  for (let round = 0; round < 20; round++) {
    const r = ROTATIONS[round % 8]!;
    x0 = scalar.add(x0, x1);
    x1 = scalar.apply(
      "bitXor",
      scalar.apply("bitOr", scalar.apply("shiftLeft", x1, r), scalar.apply("shiftRight", x1, 32 - r)),
      x0,
    );
    if (round % 4 === 3) {
      const s = (round + 1) / 4;
      x0 = scalar.add(x0, keys[s % 3]!);
      x1 = scalar.add(x1, scalar.add(keys[(s + 1) % 3]!, s));
    }
  }
  return [x0, x1];
}

// the second counter word keeps the uses of a key apart
const DRAW = 0;
const SPLIT = 1;
const FOLD = 2;

/** f(first word, second word) of the blocks (key, (counter, use)). */
function blocks(keyTensor: Tensor, counter: Tensor, use: number, f: (x0: Expr, x1: Expr, c: Expr) => Expr): Tensor {
  if (keyTensor.dtype !== "u32" || keyTensor.size !== 2) {
    throw new ValueError(`random: a key is a u32 tensor of two words, as key(seed) gives; got ${keyTensor}`);
  }
  const word = (i: number): Tensor =>
    broadcastTo(
      reshape(
        sliceAxis(keyTensor, 0, i, i + 1),
        counter.shape.map(() => 1),
      ),
      counter.shape,
    );
  return elementwise("random", [word(0), word(1), counter], (k0, k1, c) =>
    f(...threefry(k0, k1, c, scalar.constant(use, "u32")), c),
  );
}

/**
 * A random key from a seed, u32 [2].
 * @param seed - an integer in [0, 2^53)
 * @example const params = model.init(key(1));
 */
export function key(seed: number, { device }: Pick<CreateOptions, "device"> = {}): Tensor {
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new ValueError(`key: the seed must be an integer in [0, 2^53), got ${seed}`);
  return tensor(new Uint32Array([Math.floor(seed / 2 ** 32), seed >>> 0]), device ? { device } : {});
}

/** `n` independent keys from one; do not use `from` for anything else afterwards. @example const [a, b] = splitKey(key(1), 2); */
export function splitKey(from: Tensor, n = 2): Tensor[] {
  // element (j, w) is word w of block j
  const shape = [n, 2];
  const counter = cast(iota(shape, 0, { device: from.device }), "u32");
  const which = cast(iota(shape, 1, { device: from.device }), "u32");
  const words = wordsOf(from, counter, which, SPLIT);
  return Array.from({ length: n }, (_, j) => reshape(sliceAxis(words, 0, j, j + 1), [2]));
}

/** A key that depends on `from` and an integer, which may be a tensor (a step count in a compiled step). @example foldIn(key(1), step) */
export function foldIn(from: Tensor, data: number | Tensor): Tensor {
  const counter =
    typeof data === "number"
      ? tensor(new Uint32Array([data]), { device: from.device })
      : reshape(cast(data, "u32"), [1]);
  const which = cast(iota([2], 0, { device: from.device }), "u32");
  return wordsOf(from, broadcastTo(counter, [2]), which, FOLD);
}

function wordsOf(from: Tensor, counter: Tensor, which: Tensor, use: number): Tensor {
  const word = (i: number): Tensor =>
    broadcastTo(
      reshape(
        sliceAxis(from, 0, i, i + 1),
        counter.shape.map(() => 1),
      ),
      counter.shape,
    );
  return elementwise("random", [word(0), word(1), counter, which], (k0, k1, c, w) => {
    const [x0, x1] = threefry(k0, k1, c, scalar.constant(use, "u32"));
    return scalar.select(scalar.eq(w, 0), x0, x1);
  });
}

const positions = (from: Tensor, shape: Shape): Tensor =>
  reshape(cast(iota([sizeOf(shape)], 0, { device: from.device }), "u32"), shape);

/** Uniform 32-bit words, u32; the same on every device. @example randomBits(key(0), [4]) */
export const randomBits = (from: Tensor, shape: Shape): Tensor =>
  blocks(from, positions(from, shape), DRAW, (x0) => x0);

/** [0, 1) from the upper 24 bits: every value is exact in f32. */
const unit = (bits: Expr): Expr => scalar.mul(scalar.cast(scalar.apply("shiftRight", bits, 8), "f32"), 2 ** -24);

/** Bounds of `uniform`: [low, high), default [0, 1). */
export interface UniformOptions {
  readonly low?: number;
  readonly high?: number;
}
/** Uniform f32 in [low, high). @example uniform(key(0), [2, 3], { low: -1 }) */
export function uniform(from: Tensor, shape: Shape, { low = 0, high = 1 }: UniformOptions = {}): Tensor {
  return blocks(from, positions(from, shape), DRAW, (x0) => scalar.add(scalar.mul(unit(x0), high - low), low));
}

/** Inverse error function in single precision: M. Giles 2010, "Approximating the erfinv function", table of the f32 version. */
function erfinv(x: Expr): Expr {
  const horner = (coefficients: readonly number[], t: Expr): Expr =>
    coefficients.slice(1).reduce<Expr>((p, c) => scalar.add(scalar.mul(p, t), c), scalar.like(t, coefficients[0]!));
  const w = scalar.neg(scalar.log(scalar.mul(scalar.sub(scalar.like(x, 1), x), scalar.add(x, 1))));
  const central = horner(
    [
      2.81022636e-8, 3.43273939e-7, -3.5233877e-6, -4.39150654e-6, 0.00021858087, -0.00125372503, -0.00417768164,
      0.246640727, 1.50140941,
    ],
    scalar.sub(w, 2.5),
  );
  const tail = horner(
    [
      -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
      1.00167406, 2.83297682,
    ],
    scalar.sub(scalar.sqrt(w), 3),
  );
  return scalar.mul(scalar.select(scalar.lt(w, 5), central, tail), x);
}

/** Parameters of `normal`: default mean 0, standard deviation 1. */
export interface NormalOptions {
  readonly mean?: number;
  readonly std?: number;
}
/** Normal f32: `mean + std * sqrt(2) * erfinv(u)`, u uniform in (-1, 1). @example normal(key(0), [64, 64], { std: 0.02 }) */
export function normal(from: Tensor, shape: Shape, { mean = 0, std = 1 }: NormalOptions = {}): Tensor {
  return blocks(from, positions(from, shape), DRAW, (x0) => {
    // odd multiples of 2^-24 in (-1, 1): symmetric, exact, never an end point
    const odd = scalar.apply("bitOr", scalar.apply("shiftRight", x0, 8), 1);
    const u = scalar.sub(scalar.mul(scalar.cast(odd, "f32"), 2 ** -23), 1);
    return scalar.add(scalar.mul(erfinv(u), Math.SQRT2 * std), mean);
  });
}

/** bool, true with probability p. @param p - in [0, 1], a number or a tensor that broadcasts to `shape` @example bernoulli(key(0), [8], 0.5) */
export const bernoulli = (from: Tensor, shape: Shape, p: TensorLike): Tensor => less(uniform(from, shape), p);

/**
 * One index (i32) per row of logits [..., n], drawn with probability softmax(logits), by the Gumbel-max trick.
 * @example categorical(key(0), log(tensor([0.1, 0.9])))
 */
export function categorical(from: Tensor, logits: Tensor): Tensor {
  // -log(-log(u)), u in (0, 1)
  const u = add(mul(uniform(from, logits.shape), 1 - 2 ** -23), 2 ** -25);
  return argmax(add(logits, neg(log(neg(log(u))))), { axis: -1 });
}
