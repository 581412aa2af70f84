// optim/updates.ts: AdamW and Muon steps.
import { adamw, muon } from "@mc/optim";
import { key, mul, normal, reshape, slice, type Tensor } from "@mc/tensor";
import { keller5, knownMatrix } from "../lib/knownMatrix.ts";
import { places, readAt, readElements, relativeError } from "../lib/sample.ts";
import { newtonSchulzFlops, normError } from "./newtonSchulz.ts";
import type { Named, Update } from "./update.ts";

const options = { learningRate: 0.01, weightDecay: 0.1 };
// p, m and v are read and written, g is read
const adamwBytes = 28;

/** AdamW by its formula in doubles: one parameter through a list of gradients. */
function adamwOracle(start: number, gradients: readonly number[], { b1 = 0.9, b2 = 0.999, eps = 1e-8 } = {}): number {
  let [p, m, v] = [start, 0, 0];
  gradients.forEach((g, i) => {
    m = b1 * m + (1 - b1) * g;
    v = b2 * v + (1 - b2) * g * g;
    const direction = m / (1 - b1 ** (i + 1)) / (Math.sqrt(v / (1 - b2 ** (i + 1))) + eps);
    p -= options.learningRate * (direction + options.weightDecay * p);
  });
  return p;
}

/** One tensor of n elements. */
const oneTensor = (n: number): Update => ({
  name: "adamw, one tensor",
  shape: [n],
  optimizer: () => adamw(options),
  params: () => ({ p: mul(normal(key(1), [n]), 0.02) }),
  gradients: () => [{ p: normal(key(2), [n]) }, { p: normal(key(3), [n]) }],
  bytes: adamwBytes * n,
  expect: async ({ p }, gradients) => {
    const at = places(n, 256);
    const start = await readElements(p!, at);
    const gs = await Promise.all(gradients.map((g) => readElements(g.p!, at)));
    const right = at.map((_, i) =>
      adamwOracle(
        start[i]!,
        gs.map((g) => g[i]!),
      ),
    );
    return async (after) => relativeError(await readElements(after.p!, at), right);
  },
});

/** Many small tensors in three shapes; their gradients lie in one buffer, as a plan's intermediates would. */
function manyTensors(count: number): Update {
  const shapes = [[4096], [64, 64], [32, 128]];
  const size = 4096;
  const names = Array.from({ length: count }, (_, i) => `p${i}`);
  const total = count * size;
  const perTensor = (flat: Tensor): Named =>
    Object.fromEntries(
      names.map((name, i) => [name, reshape(slice(flat, [i * size], [(i + 1) * size]), shapes[i % 3]!)]),
    );
  return {
    name: "adamw, small tensors",
    shape: [count, size],
    optimizer: () => adamw(options),
    params: () => perTensor(mul(normal(key(1), [total]), 0.02)),
    gradients: () => [{ flat: normal(key(2), [total]) }, { flat: normal(key(3), [total]) }],
    split: ({ flat }) => perTensor(flat!),
    bytes: adamwBytes * total,
    expect: async (params, gradients) => {
      const picked = places(count, 8);
      const element = 1234;
      const read = async (named: Named) =>
        Promise.all(picked.map(async (i) => (await readElements(named[`p${i}`]!, [element]))[0]!));
      const start = await read(params);
      const flat = picked.map((i) => i * size + element);
      const gs = await Promise.all(gradients.map((g) => readElements(g.flat!, flat)));
      const right = picked.map((_, i) =>
        adamwOracle(
          start[i]!,
          gs.map((g) => g[i]!),
        ),
      );
      return async (after) => relativeError(await read(after), right);
    },
  };
}

/** Muon over the hidden matrices of a decoder: four squares, one matrix up and one down in each layer. */
function hiddenMatrices(layers: number, width: number): Update {
  const kinds: Readonly<Record<string, readonly [number, number]>> = {
    query: [width, width],
    key: [width, width],
    value: [width, width],
    output: [width, width],
    up: [4 * width, width],
    down: [width, 4 * width],
  };
  const each = <T>(make: (kind: string, layer: number) => T): Record<string, T> =>
    Object.fromEntries(
      Array.from({ length: layers }, (_, l) =>
        Object.keys(kinds).map((kind): [string, T] => [`${l}.${kind}`, make(kind, l)]),
      ).flat(),
    );
  const matrices = Object.values(kinds);
  const sum = (f: (rows: number, cols: number) => number): number =>
    layers * matrices.reduce((s, [r, c]) => s + f(r, c), 0);
  const size = sum((r, c) => r * c);
  return {
    name: "muon, hidden matrices",
    shape: [layers * matrices.length, size],
    optimizer: () => muon(options),
    params: () => each((kind, l) => mul(normal(key(l), [...kinds[kind]!]), 0.02)),
    gradients: () => {
      const device = normal(key(0), [1]).device;
      return [each((kind) => knownMatrix(...kinds[kind]!).on(device))];
    },
    flops: sum((r, c) => newtonSchulzFlops(r, c).flops),
    leastFlops: sum((r, c) => newtonSchulzFlops(r, c).leastFlops),
    // p and the momentum are read and written, g is read
    bytes: 20 * size,
    products: true,
    // p - rate (0.2 sqrt(max(rows, cols)) newtonSchulz(g) + decay p): the first momentum has the direction of the gradient
    expect: async (params) => {
      const watched = [`0.query`, `${layers - 1}.up`, `${layers - 1}.down`];
      const rowsOf = (path: string) => places(kinds[path.split(".")[1]!]![0], 8);
      const start = await Promise.all(watched.map((path) => readAt(params[path]!, rowsOf(path))));
      return async (after) => {
        const errors = watched.map(async (path, w) => {
          const [rows, cols] = kinds[path.split(".")[1]!]!;
          const matrix = knownMatrix(rows, cols);
          const scale = 0.2 * Math.sqrt(Math.max(rows, cols));
          const direction = rowsOf(path).flatMap((i) => Array.from(matrix.row(i, keller5)));
          const right = direction.map((o, i) => scale * o + options.weightDecay * start[w]![i]!);
          const actual = await readAt(after[path]!, rowsOf(path));
          const moved = Array.from(actual, (p, i) => (start[w]![i]! - p) / options.learningRate);
          return normError(moved, right);
        });
        return Math.max(...(await Promise.all(errors)));
      };
    },
    tolerance: 1e-3,
    toleranceHalf: 3e-2,
  };
}

/** All updates. */
export const updates = (small: boolean): Update[] =>
  small
    ? [oneTensor(2 ** 18), manyTensors(30), hiddenMatrices(2, 32)]
    : [oneTensor(2 ** 24), manyTensors(300), hiddenMatrices(12, 768)];
