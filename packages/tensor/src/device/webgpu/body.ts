// device/webgpu/body.ts: statements of a WGSL function from Values. Each value is computed once, in the outermost loop that
// has all its variables.
import { type Index, indexKey } from "../../compiler/affine.ts";
import type { Binding, Store, Value } from "../../compiler/kernel.ts";
import { type ScalarOp, scalarRow } from "../../scalar.ts";
import { wgslLiteral } from "./helpers.ts";

type KernelValue = Value<number>;

/** A name or literal, and the loop level it belongs to. */
interface Named {
  readonly text: string;
  readonly level: number;
}

interface Level {
  readonly names: Map<string, Named>;
  /** Text of each loop variable, a u32. */
  readonly variables: ReadonlyMap<number, string>;
  readonly lines: string[];
}

/** What the surroundings of a body decide. */
export interface BodyOptions {
  /** Text of element `index` (a u32 expression without side effects) of a binding; bool bindings give bool. */
  readonly load: (binding: number, index: string) => string;
  /** Text of reduction `n`'s result, defined at the outermost level. */
  readonly result: (n: number) => string;
}

const numbered = (prefix: string, counter: { next: number }): string => `${prefix}${counter.next++}`;

/** Collects statements level by level: level 0 is the function, each `open` is a loop inside the level before it. */
export class Body {
  private readonly options: BodyOptions;
  private readonly levels: Level[];
  private readonly counter = { next: 0 };

  constructor(variables: ReadonlyMap<number, string>, options: BodyOptions) {
    this.options = options;
    this.levels = [{ names: new Map(), variables, lines: [] }];
  }

  /** Enters a loop over the given variables. */
  open(variables: ReadonlyMap<number, string>): void {
    this.levels.push({ names: new Map(), variables, lines: [] });
  }

  /** Leaves the innermost level and returns its statements. */
  close(): string[] {
    return this.levels.pop()!.lines;
  }

  /** Adds a statement to the innermost level. */
  line(text: string): void {
    this.levels[this.levels.length - 1]!.lines.push(text);
  }

  /** Text of a value; its statements are added where they belong. Iterative: expressions may be thousands deep. */
  value(root: KernelValue): string {
    const stack: KernelValue[] = [root];
    while (stack.length > 0) {
      const value = stack[stack.length - 1]!;
      if (this.find(`x${value.id}`)) {
        stack.pop();
        continue;
      }
      const missing = valuesOf(value).filter((v) => !this.find(`x${v.id}`));
      if (missing.length > 0) stack.push(...missing);
      else {
        stack.pop();
        this.define(value);
      }
    }
    return this.named(root).text;
  }

  /** Text of an index, a u32 expression. Arithmetic wraps, so that negative parts cost nothing. */
  index(index: Index): string {
    for (const value of valuesInIndex(index)) this.value(value);
    return this.indexName(index).text;
  }

  private find(key: string): Named | undefined {
    for (let i = this.levels.length - 1; i >= 0; i--) {
      const named = this.levels[i]!.names.get(key);
      if (named) return named;
    }
    return undefined;
  }

  private named(value: KernelValue): Named {
    return this.find(`x${value.id}`)!;
  }

  /** `let name = text` at a level. */
  private let(key: string, prefix: string, text: string, level: number): Named {
    const named = { text: numbered(prefix, this.counter), level };
    const at = this.levels[level]!;
    at.lines.push(`let ${named.text} = ${text};`);
    at.names.set(key, named);
    return named;
  }

  private define(value: KernelValue): void {
    const key = `x${value.id}`;
    switch (value.kind) {
      case "constant":
        this.levels[0]!.names.set(key, { text: wgslLiteral(value.value, value.dtype), level: 0 });
        return;
      case "result":
        this.levels[0]!.names.set(key, { text: this.options.result(value.reduce), level: 0 });
        return;
      case "index": {
        const index = this.indexName(value.index);
        this.let(key, "x", `i32(${index.text})`, index.level);
        return;
      }
      case "load": {
        const index = this.indexName(value.index);
        const mask = value.mask && this.named(value.mask);
        const level = Math.max(index.level, mask?.level ?? 0);
        const at = mask ? `select(0u, ${index.text}, ${mask.text})` : index.text;
        this.let(key, "x", this.options.load(value.source, at), level);
        return;
      }
      case "op": {
        // an operation on literals alone would run in WGSL's compiler, where overflow and NaN are errors: names are not constant
        const fixed = value.args.every((a) => a.kind === "constant");
        const args = value.args.map((a) => (fixed ? this.let(`c${a.id}`, "x", this.named(a).text, 0) : this.named(a)));
        const level = Math.max(0, ...args.map((a) => a.level));
        const text = operation(
          value,
          args.map((a) => a.text),
        );
        this.let(key, "x", text, level);
        return;
      }
    }
  }

  private indexName(index: Index): Named {
    const key = `at${indexKey(index)}`;
    const known = this.find(key);
    if (known) return known;
    let text = "";
    let level = 0;
    for (const { atom, coefficient } of index.terms) {
      const part = this.atom(atom);
      level = Math.max(level, part.level);
      const size = Math.abs(coefficient);
      const product = size === 1 ? part.text : `${part.text} * ${size >>> 0}u`;
      if (coefficient < 0) text = text === "" ? `0u - ${product}` : `${text} - ${product}`;
      else text = text === "" ? product : `${text} + ${product}`;
    }
    if (text === "") return { text: `${index.constant >>> 0}u`, level: 0 };
    if (index.constant !== 0)
      text += index.constant < 0 ? ` - ${-index.constant >>> 0}u` : ` + ${index.constant >>> 0}u`;
    if (/^\w+$/.test(text)) return { text, level };
    return this.let(key, "at", text, level);
  }

  private atom(atom: Index["terms"][number]["atom"]): Named {
    switch (atom.kind) {
      case "variable":
        for (let level = this.levels.length - 1; level >= 0; level--) {
          const text = this.levels[level]!.variables.get(atom.variable);
          if (text !== undefined) return { text, level };
        }
        throw new Error(`internal: loop variable ${atom.variable} is not in scope; please report this`);
      case "div":
      case "mod": {
        const known = this.find(atom.key);
        if (known) return known;
        const of = this.indexName(atom.of);
        return this.let(atom.key, "at", `${of.text} ${atom.kind === "div" ? "/" : "%"} ${atom.by}u`, of.level);
      }
      case "value": {
        const { text, level } = this.named(atom.value as KernelValue);
        return { text: (atom.value as KernelValue).dtype === "u32" ? text : `u32(${text})`, level };
      }
    }
  }
}

/** WGSL of an operation. The rows of the scalar language say it, except where WGSL leaves the result open. */
export function operation(value: Extract<KernelValue, { kind: "op" }>, args: readonly string[]): string {
  const { op, dtype } = value;
  const from = value.args[0]!.dtype;
  if (from === "f32") {
    if (floatHelpers.has(op)) return `mc_${op}(${args.join(", ")})`;
    if (op === "sigmoid") return `(1.0 / (1.0 + mc_exp(-${args[0]})))`;
    if (op === "ne") return `!(${args[0]} == ${args[1]})`; // NaN != x is false on some drivers
  } else if ((op === "div" || op === "mod") && from !== "bool") {
    // as on the CPU: n / 0 = 0 (WGSL says n)
    const zero = wgslLiteral(0, dtype);
    const divisor = value.args[1]!;
    if (divisor.kind === "constant" && divisor.value === 0) return zero; // WGSL refuses to compile a division by a literal 0
    return `select(${scalarRow(op).wgsl(args, dtype)}, ${zero}, ${args[1]} == ${zero})`;
  }
  return scalarRow(op).wgsl(args, dtype);
}

/** Operations on f32 that have a function of their own. */
const floatHelpers: ReadonlySet<ScalarOp> = new Set(["toI32", "toU32", "sign", "mod", "sin", "cos", "exp", "log"]);

/** Values that `value` is computed from. */
function valuesOf(value: KernelValue): KernelValue[] {
  switch (value.kind) {
    case "op":
      return [...value.args];
    case "load":
      return value.mask ? [...valuesInIndex(value.index), value.mask] : valuesInIndex(value.index);
    case "index":
      return valuesInIndex(value.index);
    default:
      return [];
  }
}

/** Run-time values inside an index. */
function valuesInIndex(index: Index): KernelValue[] {
  const out: KernelValue[] = [];
  for (const { atom } of index.terms) {
    if (atom.kind === "value") out.push(atom.value as KernelValue);
    else if (atom.kind !== "variable") out.push(...valuesInIndex(atom.of));
  }
  return out;
}

/** Statements that take a linear position apart into one variable for each size, the last fastest; returns their names. */
export function unravel(
  shape: readonly number[],
  linear: string,
  prefix: string,
  body: { line(text: string): void },
): string[] {
  const names = shape.map((_, i) => `${prefix}${i}`);
  let rest = linear;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (i === 0) body.line(`let ${names[i]} = ${rest};`);
    else {
      body.line(`let ${names[i]} = ${rest} % ${shape[i]}u;`);
      body.line(`let ${names[i]}r = ${rest} / ${shape[i]}u;`);
      rest = `${names[i]}r`;
    }
  }
  return names;
}

/** Statement that stores one element to a binding that holds one an entry. */
export function storeLine(bindings: readonly Binding[], target: number, at: string, text: string): string {
  switch (bindings[target]!.dtype) {
    case "bool":
      return `b${target}[${at}] = select(0u, 1u, ${text});`;
    case "f16": {
      // another thread may write the word's other half at the same time
      const [word, shift] = [`&b${target}[(${at}) >> 1u]`, `(((${at}) & 1u) * 16u)`];
      return `atomicAnd(${word}, 0xffff0000u >> ${shift}); atomicOr(${word}, pack2x16float(vec2<f32>(${text}, 0.0f)) << ${shift});`;
    }
    default:
      return `b${target}[${at}] = ${text};`;
  }
}

/** Whether a store is of a single element that rides in a kernel of many points: one thread writes it, not all to one place. */
export const isRider = ({ index }: Store<number>, points: number): boolean => points > 1 && index.terms.length === 0;
