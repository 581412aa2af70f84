// ops/creation.ts: tensors from nothing and random numbers. The rows take a dummy input where only its size matters.

import type { Tensor } from "@mc/tensor";
import * as t from "@mc/tensor";
import { anyNumber, type Domain, words } from "../domains.ts";
import { build, type HostArray, hostArray } from "../hostArray.ts";
import type { OpTable } from "./table.ts";

const row = (n: number) => [[n]];
const key2 = (n: number) => [[2], [n]];
/** [key, x] where only the size of x matters. */
const keyed = [words, anyNumber];

// Threefry-2x32 with 20 rounds, straight from Salmon et al. 2011: rotations of table 2, a key word after every fourth round.
const rotations = [13, 15, 26, 6, 17, 29, 16, 24];
function threefry(k0: number, k1: number, c0: number, c1: number): [number, number] {
  const keys = [k0, k1, (k0 ^ k1 ^ 0x1bd11bda) >>> 0];
  let x0 = (c0 + k0) >>> 0;
  let x1 = (c1 + k1) >>> 0;
  for (let round = 1; round <= 20; round++) {
    x0 = (x0 + x1) >>> 0;
    const r = rotations[(round - 1) % 8]!;
    x1 = (((x1 << r) | (x1 >>> (32 - r))) ^ x0) >>> 0;
    if (round % 4 === 0) {
      const s = round / 4;
      x0 = (x0 + keys[s % 3]!) >>> 0;
      x1 = (x1 + keys[(s + 1) % 3]! + s) >>> 0;
    }
  }
  return [x0, x1];
}
const bits = (key: HostArray, i: number): number => threefry(key.at(0), key.at(1), i, 0)[0];
const unit = (key: HostArray, i: number): number => (bits(key, i) >>> 8) * 2 ** -24;

const stepDomain: Domain = { dtype: "i32", draw: (r) => r.integer(0, 1000) };

/** Every creation op and every random one. */
export const creationOps: OpTable = {
  full: {
    "full(shape, value) repeats one value": {
      op: (x: Tensor) => t.add(t.full(x.shape, 2.5, { device: x.device }), x),
      inputs: [anyNumber],
      reference: (x) => build(x.shape, (...at) => 2.5 + x.at(...at)),
    },
  },
  zeros: {
    "zeros(shape)": {
      op: (x: Tensor) => t.zeros(x.shape, { dtype: "i32", device: x.device }),
      inputs: [anyNumber],
      reference: (x) => build(x.shape, () => 0),
      gradient: 0,
    },
  },
  ones: {
    "ones(shape)": {
      op: (x: Tensor) => t.ones(x.shape, { device: x.device }),
      inputs: [anyNumber],
      reference: (x) => build(x.shape, () => 1),
      gradient: 0,
    },
  },
  zerosLike: {
    "zerosLike(x)": { op: t.zerosLike, inputs: [anyNumber], reference: (x) => build(x.shape, () => 0), gradient: 0 },
  },
  onesLike: {
    "onesLike(x) keeps the dtype": { op: t.onesLike, inputs: [words], reference: (x) => build(x.shape, () => 1) },
  },
  iota: {
    "iota(shape, 1) counts along an axis": {
      op: (x: Tensor) => t.iota(x.shape, 1, { device: x.device }),
      inputs: [words],
      reference: (x) => build(x.shape, (_, j) => j),
    },
  },
  arange: {
    "arange(n) counts from 0": {
      op: (x: Tensor) => t.arange(x.shape[0]!, { device: x.device }),
      inputs: [words],
      reference: (x) => build([x.shape[0]!], (i) => i),
    },
  },
  eye: {
    "eye(n) is the identity": {
      op: (x: Tensor) => t.eye(x.shape[0]!, { device: x.device }),
      inputs: [words],
      sizes: [1, 63, 64, 65],
      shapes: row,
      reference: (x) => build([x.shape[0]!, x.shape[0]!], (i, j) => (i === j ? 1 : 0)),
    },
  },
  causalMask: {
    "causalMask(t) is true on and below the diagonal": {
      op: (x: Tensor) => t.causalMask(x.shape[0]!, { device: x.device }),
      inputs: [words],
      sizes: [1, 63, 64, 65],
      shapes: row,
      reference: (x) => build([x.shape[0]!, x.shape[0]!], (i, j) => (j <= i ? 1 : 0)),
    },
  },
  tensor: {
    "tensor(data) holds the data": {
      op: (x: Tensor) => x,
      inputs: [anyNumber],
      reference: (x) => hostArray(x.shape, x.data),
      tolerance: { rtol: 0, atol: 0 },
      gradient: 0,
    },
  },
  randomBits: {
    "randomBits(key, shape) is the Threefry stream, bit for bit": {
      op: (k: Tensor, x: Tensor) => t.randomBits(k, x.shape),
      inputs: keyed,
      shapes: key2,
      reference: (key, x) => build(x.shape, (i) => bits(key, i)),
      gradient: 0,
    },
  },
  uniform: {
    "uniform(key, shape) has 24 random bits": {
      op: (k: Tensor, x: Tensor) => t.uniform(k, x.shape, { low: -1, high: 3 }),
      inputs: keyed,
      shapes: key2,
      reference: (key, x) => build(x.shape, (i) => 4 * unit(key, i) - 1),
      tolerance: { rtol: 1e-6, atol: 1e-6 },
      gradient: 0,
    },
  },
  normal: {
    "normal(key, shape) agrees between devices to 1e-6 of its deviation": {
      op: (k: Tensor, x: Tensor) => t.normal(k, x.shape),
      inputs: keyed,
      shapes: key2,
      tolerance: { rtol: 2e-6, atol: 1e-6 },
      gradient: 0,
    },
  },
  bernoulli: {
    "bernoulli(key, shape, p) is true with probability p": {
      op: (k: Tensor, x: Tensor) => t.bernoulli(k, x.shape, 0.25),
      inputs: keyed,
      shapes: key2,
      reference: (key, x) => build(x.shape, (i) => (unit(key, i) < 0.25 ? 1 : 0)),
      gradient: 0,
    },
  },
  categorical: {
    "categorical(key, logits) draws an index a row": {
      op: (k: Tensor, x: Tensor) => t.categorical(k, x),
      inputs: keyed,
      shapes: (n) => [[2], [n, 5]],
      gradient: 0,
    },
  },
  foldIn: {
    "foldIn(key, step) depends on a tensor": {
      op: (k: Tensor, step: Tensor) => t.foldIn(k, step),
      inputs: [words, stepDomain],
      shapes: () => [[2], []],
      reference: (key, step) => hostArray([2], threefry(key.at(0), key.at(1), step.at(), 2)),
    },
  },
  splitKey: {
    "splitKey(key, 3) gives three keys": {
      op: (k: Tensor) => t.splitKey(k, 3),
      inputs: [words],
      shapes: () => [[2]],
      sizes: [1],
      reference: (key) => [0, 1, 2].map((j) => hostArray([2], threefry(key.at(0), key.at(1), j, 1))),
    },
  },
};
