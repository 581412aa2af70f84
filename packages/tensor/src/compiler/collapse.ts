// compiler/collapse.ts: joins neighbouring loop dimensions that every index walks as one, so that contiguous work is one loop.

import { invariant } from "../errors.ts";
import { type Atom, type Index, variableIndex } from "./affine.ts";
import type { LoopKernel, Store, Value } from "./kernel.ts";
import { visitValues } from "./values.ts";

/** The same kernel with the fewest loops; a single loop over its space runs to `extent` instead, where that is given. */
export function collapse(kernel: LoopKernel, extent?: number): LoopKernel {
  const values = [...kernel.reductions, ...kernel.stores, ...(kernel.spread?.stores ?? [])].map((x) => x.value);
  const indices = indicesOf(kernel, values);
  const renamed = new Map<number, { variable: number; size: number } | undefined>(); // undefined: swallowed by the next
  let next = 0;
  const join = (shape: readonly number[], first: number): number[] => {
    const out: number[] = [];
    const dims = shape.map((size, i) => ({ size, variable: first + i })).filter((d) => d.size !== 1);
    for (let i = 0; i < dims.length; i++) {
      let size = dims[i]!.size;
      while (
        i + 1 < dims.length &&
        indices.every(
          (x) => coefficient(x, dims[i]!.variable) === coefficient(x, dims[i + 1]!.variable) * dims[i + 1]!.size,
        )
      ) {
        renamed.set(dims[i]!.variable, undefined);
        i++;
        size *= dims[i]!.size;
      }
      renamed.set(dims[i]!.variable, { variable: next++, size });
      out.push(size);
    }
    return out;
  };
  let shape = join(kernel.shape, 0);
  if (extent !== undefined) {
    invariant(shape.length === 1, "what is extended is one loop");
    for (const [variable, to] of renamed) if (to) renamed.set(variable, { ...to, size: extent });
    shape = [extent];
  }
  const reductions = kernel.reductions.map((r) => {
    const firstVariable = next;
    return { ...r, firstVariable, shape: join(r.shape, r.firstVariable) };
  });
  let spread: { firstVariable: number; shape: number[] } | undefined;
  if (kernel.spread) {
    const firstVariable = next;
    spread = { firstVariable, shape: join(kernel.spread.shape, kernel.spread.firstVariable) };
  }
  const { value, index } = rewriter(values, (variable) => renamed.get(variable));
  const store = (s: Store<number>): Store<number> => ({
    target: s.target,
    index: index(s.index),
    value: value(s.value),
  });
  return {
    ...kernel,
    shape,
    reductions: reductions.map((r) => ({ ...r, value: value(r.value) })),
    stores: kernel.stores.map(store),
    ...(spread && { spread: { ...spread, stores: kernel.spread!.stores.map(store) } }),
  };
}

const coefficient = (index: Index, variable: number): number =>
  index.terms.find((t) => t.atom.kind === "variable" && t.atom.variable === variable)?.coefficient ?? 0;

/** Every index of a kernel, those inside divisions too. */
function indicesOf(kernel: LoopKernel, values: readonly Value<number>[]): Index[] {
  const out: Index[] = [];
  const add = (index: Index): void => {
    out.push(index);
    for (const { atom } of index.terms) if (atom.kind === "div" || atom.kind === "mod") add(atom.of);
  };
  visitValues(values, (v) => {
    if (v.kind === "load" || v.kind === "index") add(v.index);
  });
  for (const s of [...kernel.stores, ...(kernel.spread?.stores ?? [])]) add(s.index);
  return out;
}

function rewriter(
  values: readonly Value<number>[],
  rename: (variable: number) => { variable: number; size: number } | undefined,
) {
  const done = new Map<number, Value<number>>();
  const index = (x: Index): Index => ({
    constant: x.constant,
    terms: x.terms.flatMap(({ atom, coefficient: c }) => {
      if (atom.kind === "variable") {
        const to = rename(atom.variable);
        return to ? variableIndex(to.variable, to.size).terms.map((t) => ({ atom: t.atom, coefficient: c })) : [];
      }
      const inner: Atom =
        atom.kind === "value" ? { ...atom, value: done.get(atom.value.id)! } : withKey({ ...atom, of: index(atom.of) });
      return [{ atom: inner, coefficient: c }];
    }),
  });
  visitValues(values, (v) => {
    switch (v.kind) {
      case "load":
        done.set(v.id, { ...v, index: index(v.index), mask: v.mask && done.get(v.mask.id)! });
        break;
      case "index":
        done.set(v.id, { ...v, index: index(v.index) });
        break;
      case "op":
        done.set(v.id, { ...v, args: v.args.map((a) => done.get(a.id)!) });
        break;
      default:
        done.set(v.id, v);
    }
  });
  return { value: (v: Value<number>) => done.get(v.id)!, index };
}

const withKey = (atom: Extract<Atom, { kind: "div" | "mod" }>): Atom => {
  const inner = `${atom.of.terms.map((t) => `${t.coefficient}*${t.atom.key}`).join("+")}+${atom.of.constant}`;
  return { ...atom, key: `(${inner})${atom.kind === "div" ? "/" : "%"}${atom.by}` };
};
