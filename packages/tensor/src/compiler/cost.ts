// compiler/cost.ts: what a kernel must compute and move at least: the two figures behind its floor.

import { scalarRow } from "../scalar.ts";
import { sizeOf } from "../shape.ts";
import { addIndex, constantIndex, type Index, indexRange, scaleIndex, variableIndex } from "./affine.ts";
import type { FusedOperand, KernelSpec, LoopKernel, MatmulKernel, MatrixOperand, Value } from "./kernel.ts";
import { visitValues } from "./values.ts";

type KernelValue = Value<number>;

/** Work of one run of a kernel. */
export interface Cost {
  /** Floating-point operations: see `KernelExplanation`. */
  readonly flops: number;
  /** For each binding: distinct elements read, plus distinct elements written. */
  readonly elements: readonly number[];
}

export function costOf(spec: KernelSpec): Cost {
  const reads: Index[][] = spec.bindings.map(() => []);
  const writes: Index[][] = spec.bindings.map(() => []);
  if (spec.kind === "fused") {
    for (const operand of spec.inputs) reads[operand.binding]!.push(operandIndex(operand));
    for (const operand of spec.outputs) writes[operand.binding]!.push(operandIndex(operand));
  } else {
    const stores = [...spec.stores, ...((spec.kind === "loop" && spec.spread?.stores) || [])];
    const values = stores.map((s) => s.value);
    if (spec.kind === "loop") values.push(...spec.reductions.map((r) => r.value));
    else {
      reads[spec.a.binding]!.push(matrixIndex(spec.a, spec.batch, spec.m, spec.k));
      reads[spec.b.binding]!.push(matrixIndex(spec.b, spec.batch, spec.k, spec.n));
    }
    visitValues(values, (v) => {
      if (v.kind === "load") reads[v.source]!.push(v.index);
    });
    for (const { target, index } of stores) writes[target]!.push(index);
  }
  return {
    flops: flopsOf(spec),
    elements: spec.bindings.map(({ size }, i) => touched(reads[i]!, size) + touched(writes[i]!, size)),
  };
}

// ---- operations

function flopsOf(spec: KernelSpec): number {
  switch (spec.kind) {
    case "fused":
      return spec.op.flops?.(spec.inputSpecs, spec.params) ?? 0;
    case "matmul":
      return matmulFlops(spec);
    case "loop":
      return loopFlops(spec);
  }
}

const isFlop = (v: KernelValue): boolean => v.kind === "op" && v.dtype === "f32" && scalarRow(v.op).rounds !== false;

/** batch (product + m n epilogue); of a symmetric product the elements on and above the diagonal. */
function matmulFlops({ batch, m, n, k, symmetric, stores }: MatmulKernel): number {
  const product = symmetric ? n * (n + 1) * k : 2 * m * n * k;
  let epilogue = 0;
  visitValues(
    stores.map((s) => s.value),
    (v) => {
      if (isFlop(v)) epilogue++;
    },
  );
  return sizeOf(batch) * (product + m * n * epilogue);
}

/** points (outside + sum over inner loops of length * inside): what no variable of an inner loop moves is computed once a point. */
function loopFlops({ shape, reductions, stores, spread }: LoopKernel): number {
  const beside = spread?.stores.map((s) => s.value) ?? [];
  const inside = new Set<number>();
  const moves = (index: Index): boolean =>
    index.terms.some(({ atom }) =>
      atom.kind === "variable"
        ? atom.variable >= shape.length
        : atom.kind === "value"
          ? inside.has((atom.value as KernelValue).id)
          : moves(atom.of),
    );
  let flops = 0;
  visitValues([...reductions.map((r) => r.value), ...stores.map((s) => s.value), ...beside], (v) => {
    const moved =
      v.kind === "op"
        ? v.args.some((a) => inside.has(a.id))
        : v.kind === "load"
          ? moves(v.index) || (v.mask !== undefined && inside.has(v.mask.id))
          : v.kind === "index" && moves(v.index);
    if (moved) inside.add(v.id);
    else if (isFlop(v)) flops++;
  });
  const loop = (length: number, values: readonly KernelValue[], joins: number): number => {
    let each = joins;
    visitValues(values, (v) => {
      if (inside.has(v.id) && isFlop(v)) each++;
    });
    return length * each;
  };
  for (const { shape: reduced, value } of reductions) flops += loop(sizeOf(reduced), [value], 1);
  if (spread) flops += loop(sizeOf(spread.shape), beside, 0);
  return sizeOf(shape) * flops;
}

// ---- elements

/** The index of every element of a strided operand: variable d walks dimension d. */
function stridedIndex(offset: number, strides: readonly number[], shape: readonly number[]): Index {
  return shape.reduce(
    (index, size, d) => addIndex(index, scaleIndex(variableIndex(d, size), strides[d]!)),
    constantIndex(offset),
  );
}

const operandIndex = ({ offset, strides, shape }: FusedOperand): Index => stridedIndex(offset, strides, shape);

const matrixIndex = (o: MatrixOperand, batch: readonly number[], rows: number, columns: number): Index =>
  stridedIndex(o.offset, [...o.batchStrides, o.rowStride, o.columnStride], [...batch, rows, columns]);

/** Distinct elements of a buffer of `size` that some indices reach: the sum of each one's, at most the span of all. */
function touched(indices: readonly Index[], size: number): number {
  const sets = new Map(indices.map((index) => [setKey(index), index]));
  let sum = 0;
  let low = size;
  let high = -1;
  for (const index of sets.values()) {
    // a masked load's index may leave the buffer; the load does not
    const [first, last] = indexRange(index);
    const [from, to] = [Math.max(0, first), Math.min(size - 1, last)];
    sum += Math.max(0, Math.min(distinct(index), to - from + 1));
    low = Math.min(low, from);
    high = Math.max(high, to);
  }
  return Math.max(0, Math.min(sum, high - low + 1));
}

/** Equal for indices that reach the same elements: a matrix and its transpose, for example. */
const setKey = (index: Index): string =>
  `${indexRange(index)[0]}|${stepsOf(index)
    .map(({ step, count, key }) => `${step}x${count}${key}`)
    .join(",")}`;

/** What moves an index: `count` values, `step` apart; smallest steps first. */
function stepsOf(index: Index): { step: number; count: number; key: string }[] {
  return index.terms
    .map(({ atom, coefficient }) => ({
      step: Math.abs(coefficient),
      count: atom.size,
      key: atom.kind === "variable" ? "" : atom.key,
    }))
    .sort((a, b) => a.step - b.step || a.count - b.count);
}

/**
 * Distinct values of an index. Exact where it is affine and its steps do not overlap, as in any slice, permutation or broadcast;
 * else the most that there can be: for a look-up, as many rows as there are positions to look up, at most the table.
 */
function distinct(index: Index): number {
  const steps = stepsOf(index);
  const unit = steps.reduce((a, { step }) => greatestDivisor(a, step), 0);
  let count = 1;
  let reach = 0;
  for (const s of steps) {
    const apart = s.step > reach;
    reach += s.step * (s.count - 1);
    count = apart ? count * s.count : Math.min(count * s.count, reach / unit + 1);
  }
  return Math.min(count, iterations(index));
}

/** Iterations of the loops that an index depends on, through its values too. */
function iterations(index: Index): number {
  const sizes = new Map<number, number>();
  const walk = ({ terms }: Index): void => {
    for (const { atom } of terms) {
      if (atom.kind === "variable") sizes.set(atom.variable, atom.size);
      else if (atom.kind !== "value") walk(atom.of);
      else {
        visitValues([atom.value as KernelValue], (v) => {
          if (v.kind === "load" || v.kind === "index") walk(v.index);
        });
      }
    }
  };
  walk(index);
  return [...sizes.values()].reduce((product, size) => product * size, 1);
}

function greatestDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestDivisor(b, a % b);
}
