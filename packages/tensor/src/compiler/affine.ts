// compiler/affine.ts: index arithmetic in canonical form, so that equal indices are equal text and most divisions vanish.
import type { Value } from "./kernel.ts";

/**
 * An integer expression `constant + sum(coefficient * atom)`. Atoms are loop variables, floor divisions and remainders that
 * would not simplify, and values computed at run time (gather). Every atom lies in [0, size).
 */
export interface Index {
  readonly constant: number;
  readonly terms: readonly Term[];
}

export interface Term {
  readonly atom: Atom;
  readonly coefficient: number;
}

export type Atom =
  | { readonly kind: "variable"; readonly variable: number; readonly size: number; readonly key: string }
  | {
      readonly kind: "div" | "mod";
      readonly of: Index;
      readonly by: number;
      readonly size: number;
      readonly key: string;
    }
  | { readonly kind: "value"; readonly value: Value; readonly size: number; readonly key: string };

export const constantIndex = (constant: number): Index => ({ constant, terms: [] });

/** Loop variable `variable` over [0, size); a variable of size one is the constant 0. */
export const variableIndex = (variable: number, size: number): Index =>
  size === 1
    ? constantIndex(0)
    : { constant: 0, terms: [{ atom: { kind: "variable", variable, size, key: `v${variable}` }, coefficient: 1 }] };

/** An index computed at run time, promised to lie in [0, size) wherever it is used unmasked. */
export const valueIndex = (value: Value, size: number): Index => ({
  constant: 0,
  terms: [{ atom: { kind: "value", value, size, key: `x${value.id}` }, coefficient: 1 }],
});

/** Canonical text: equal text if and only if the expressions were found equal. */
export function indexKey(index: Index): string {
  return `${index.terms.map((t) => `${t.coefficient}*${t.atom.key}`).join("+")}+${index.constant}`;
}

/** Smallest and largest value the index can take. */
export function indexRange(index: Index): [number, number] {
  let low = index.constant;
  let high = index.constant;
  for (const { atom, coefficient } of index.terms) {
    const reach = coefficient * (atom.size - 1);
    if (reach < 0) low += reach;
    else high += reach;
  }
  return [low, high];
}

export const scaleIndex = (index: Index, by: number): Index =>
  by === 0
    ? constantIndex(0)
    : {
        constant: index.constant * by,
        terms: index.terms.map((t) => ({ atom: t.atom, coefficient: t.coefficient * by })),
      };

export function addIndex(a: Index, b: Index): Index {
  if (a.terms.length === 0 && b.terms.length === 0) return constantIndex(a.constant + b.constant);
  const byKey = new Map<string, Term>();
  for (const t of [...a.terms, ...b.terms]) {
    const known = byKey.get(t.atom.key);
    byKey.set(t.atom.key, known ? { atom: t.atom, coefficient: known.coefficient + t.coefficient } : t);
  }
  const terms = [...byKey.values()]
    .filter((t) => t.coefficient !== 0)
    .sort((x, y) => (x.atom.key < y.atom.key ? -1 : 1));
  return recombine({ constant: a.constant + b.constant, terms });
}

/** k*d*floor(L/d) + k*(L mod d) = k*L */
function recombine(index: Index): Index {
  for (const mod of index.terms) {
    if (mod.atom.kind !== "mod") continue;
    const { of, by } = mod.atom;
    const div = divideIndex(of, by);
    if (div.constant !== 0 || div.terms.length !== 1 || div.terms[0]!.coefficient !== 1) continue;
    const partner = index.terms.find((t) => t.atom.key === div.terms[0]!.atom.key);
    if (!partner || partner.coefficient !== mod.coefficient * by) continue;
    const rest = { constant: index.constant, terms: index.terms.filter((t) => t !== mod && t !== partner) };
    return addIndex(rest, scaleIndex(of, mod.coefficient));
  }
  return index;
}

/**
 * Splits `index` into `by * quotient + remainder` where the remainder keeps what `by` does not divide and is never negative,
 * so that truncating and flooring division agree on it.
 */
function splitIndex(index: Index, by: number): { quotient: Index; remainder: Index } {
  const whole = index.terms.filter((t) => t.coefficient % by === 0);
  const part = index.terms.filter((t) => t.coefficient % by !== 0);
  const lowest = part.reduce((low, { atom, coefficient }) => low + Math.min(0, coefficient * (atom.size - 1)), 0);
  const q = Math.floor((index.constant + lowest) / by);
  return {
    quotient: { constant: q, terms: whole.map((t) => ({ atom: t.atom, coefficient: t.coefficient / by })) },
    remainder: { constant: index.constant - q * by, terms: part },
  };
}

/** floor(index / by), for indices that are not negative where they are used. */
export function divideIndex(index: Index, by: number): Index {
  if (by === 1) return index;
  const { quotient, remainder } = splitIndex(index, by);
  const [low, high] = indexRange(remainder);
  if (low >= 0 && high < by) return quotient;
  const only = remainder.terms.length === 1 && remainder.constant === 0 ? remainder.terms[0]! : undefined;
  if (only && only.coefficient === 1 && only.atom.kind === "div") {
    return addIndex(quotient, divideIndex(only.atom.of, only.atom.by * by)); // (x / a) / b = x / (a b)
  }
  const atom: Atom = {
    kind: "div",
    of: remainder,
    by,
    size: Math.floor(Math.max(high, 0) / by) + 1,
    key: `(${indexKey(remainder)})/${by}`,
  };
  return addIndex(quotient, { constant: 0, terms: [{ atom, coefficient: 1 }] });
}

/** index mod by, for indices that are not negative where they are used. */
export function moduloIndex(index: Index, by: number): Index {
  if (by === 1) return constantIndex(0);
  const { remainder } = splitIndex(index, by);
  const [low, high] = indexRange(remainder);
  if (low >= 0 && high < by) return remainder;
  const reduced: Index = { constant: remainder.constant, terms: remainder.terms };
  return {
    constant: 0,
    terms: [{ atom: { kind: "mod", of: reduced, by, size: by, key: `(${indexKey(reduced)})%${by}` }, coefficient: 1 }],
  };
}

/** Row-major position of coordinates in a shape. */
export function linearIndex(coordinates: readonly Index[], shape: readonly number[]): Index {
  let out = constantIndex(0);
  for (let i = 0; i < shape.length; i++) out = addIndex(scaleIndex(out, shape[i]!), coordinates[i]!);
  return out;
}

/** Coordinates in `shape` of a row-major position. */
export function unravelIndex(linear: Index, shape: readonly number[]): Index[] {
  const out = new Array<Index>(shape.length);
  let rest = linear;
  for (let i = shape.length - 1; i >= 0; i--) {
    const d = shape[i]!;
    out[i] = i === 0 ? rest : moduloIndex(rest, d);
    rest = i === 0 ? rest : divideIndex(rest, d);
    if (d === 1) out[i] = constantIndex(0);
  }
  return out;
}

/**
 * Coordinates in shape `to` of the element at `coordinates` in shape `from` (same number of elements).
 * Runs of dimensions with equal products are matched first, so that splitting or joining dimensions stays local.
 */
export function reshapeCoordinates(
  coordinates: readonly Index[],
  from: readonly number[],
  to: readonly number[],
): Index[] {
  const out: Index[] = [];
  let i = 0;
  let j = 0;
  while (i < from.length || j < to.length) {
    const i0 = i;
    const j0 = j;
    let p = i < from.length ? from[i++]! : 1;
    let q = j < to.length ? to[j++]! : 1;
    while (p !== q) {
      if (p < q) p *= from[i++]!;
      else q *= to[j++]!;
    }
    const linear = linearIndex(coordinates.slice(i0, i), from.slice(i0, i));
    out.push(...unravelIndex(linear, to.slice(j0, j)));
  }
  return out;
}

/** Coefficient of each loop variable and the constant, or undefined where the index is not affine in the variables. */
export function affineStrides(index: Index, variables: number): { offset: number; strides: number[] } | undefined {
  const strides = new Array<number>(variables).fill(0);
  for (const { atom, coefficient } of index.terms) {
    if (atom.kind !== "variable") return undefined;
    strides[atom.variable] = coefficient;
  }
  return { offset: index.constant, strides };
}
