// compiler/substitute.ts: writes values and indices with other loop variables.
import { type Atom, addIndex, constantIndex, type Index, scaleIndex } from "./affine.ts";
import type { Store, Value } from "./kernel.ts";
import { visitValues } from "./values.ts";

/** @param replace - what stands for a variable; undefined: it is always 0 */
export function substitution(
  values: readonly Value<number>[],
  replace: (variable: number) => Index | undefined,
): {
  readonly value: (v: Value<number>) => Value<number>;
  readonly store: (s: Store<number>) => Store<number>;
} {
  const done = new Map<number, Value<number>>();
  const index = ({ constant, terms }: Index): Index =>
    terms.reduce((sum, { atom, coefficient }) => {
      if (atom.kind === "variable")
        return addIndex(sum, scaleIndex(replace(atom.variable) ?? constantIndex(0), coefficient));
      const inner: Atom =
        atom.kind === "value" ? { ...atom, value: done.get(atom.value.id)! } : withKey({ ...atom, of: index(atom.of) });
      return addIndex(sum, { constant: 0, terms: [{ atom: inner, coefficient }] });
    }, constantIndex(constant));
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
  const value = (v: Value<number>): Value<number> => done.get(v.id)!;
  return { value, store: (s) => ({ target: s.target, index: index(s.index), value: value(s.value) }) };
}

const withKey = (atom: Extract<Atom, { kind: "div" | "mod" }>): Atom => {
  const inner = `${atom.of.terms.map((t) => `${t.coefficient}*${t.atom.key}`).join("+")}+${atom.of.constant}`;
  return { ...atom, key: `(${inner})${atom.kind === "div" ? "/" : "%"}${atom.by}` };
};
