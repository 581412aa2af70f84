// compiler/collapse.ts: joins neighbouring loop dimensions that every index walks as one, so that contiguous work is one loop.

import { invariant } from "../errors.ts";
import { type Index, variableIndex } from "./affine.ts";
import type { LoopKernel, Value } from "./kernel.ts";
import { substitution } from "./substitute.ts";
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
  const { value, store } = substitution(values, (variable) => {
    const to = renamed.get(variable);
    return to && variableIndex(to.variable, to.size);
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
