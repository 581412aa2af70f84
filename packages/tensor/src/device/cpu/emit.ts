// device/cpu/emit.ts: a loop kernel as JavaScript: nested loops, each value computed in the outermost loop that can.
import type { Index } from "../../compiler/affine.ts";
import type { LoopKernel, Reduction, Store, Value } from "../../compiler/kernel.ts";
import type { DType, Precision } from "../../dtype.ts";
import { scalarRow } from "../../scalar.ts";

/** The source of `function (b0, b1, ...)` over the kernel's buffers; `helpers.ts` provides the `mc_*` names and `F`. */
export function emitJavaScript(kernel: LoopKernel, precision: Precision): string {
  return new Emitter(kernel, precision).source();
}

/** Loops inside those of the kernel: of a reduction, or beside a point. */
type InnerSpace = Pick<Reduction, "firstVariable" | "shape">;

/** A place for statements: the body of one loop, with what follows its inner loops. */
interface Block {
  readonly lines: string[];
}

class Emitter {
  private readonly kernel: LoopKernel;
  private readonly rounds: boolean;
  /** levels[i] is the inside of the loops of variables < i: levels[0] is the function's body. */
  private readonly levels: Block[];
  /** Inside of the loops that are being written within those of the kernel; empty between them. */
  private inner: Block[] = [];
  private innerFirst = 0;
  private readonly names = new Map<string, string>();
  private counter = 0;

  constructor(kernel: LoopKernel, precision: Precision) {
    this.kernel = kernel;
    this.rounds = precision === "f32";
    this.levels = Array.from({ length: kernel.shape.length + 1 }, () => ({ lines: [] }));
  }

  source(): string {
    const { shape, reductions, stores, spread, bindings } = this.kernel;
    for (const [i, r] of reductions.entries()) this.reduction(r, i);
    const body = this.levels[shape.length]!;
    this.stores(stores, body);
    if (spread) {
      const inner = this.enter(spread);
      this.stores(spread.stores, inner[spread.shape.length]!);
      body.lines.push(this.leave(spread));
    }
    let code = body.lines.join("\n");
    for (let v = shape.length - 1; v >= 0; v--) {
      code = `${this.levels[v]!.lines.join("\n")}\nfor (let v${v} = 0; v${v} < ${shape[v]}; v${v}++) {\n${code}\n}`;
    }
    return `(${bindings.map((_, i) => `b${i}`).join(", ")}) {\n${code}\n}`;
  }

  /** All values before any store: a kernel may update its inputs in place. */
  private stores(stores: readonly Store<number>[], body: Block): void {
    const ready = stores.map((s) => ({ ...s, code: this.value(s.value), at: this.index(s.index) }));
    for (const s of ready) {
      const code = this.kernel.bindings[s.target]!.dtype === "bool" ? `(${s.code} ? 1 : 0)` : s.code;
      body.lines.push(`b${s.target}[${s.at}] = ${code};`);
    }
  }

  /** Begins loops over the variables of `space` inside those of the kernel; what they compute is not visible after them. */
  private enter({ firstVariable, shape }: InnerSpace): Block[] {
    this.inner = Array.from({ length: shape.length + 1 }, () => ({ lines: [] }));
    this.innerFirst = firstVariable;
    return this.inner;
  }

  /** Ends them and gives their code. */
  private leave({ firstVariable, shape }: InnerSpace): string {
    const { inner } = this;
    let loops = inner[shape.length]!.lines.join("\n");
    for (let i = shape.length - 1; i >= 0; i--) {
      const v = `v${firstVariable + i}`;
      loops = `${inner[i]!.lines.join("\n")}\nfor (let ${v} = 0; ${v} < ${shape[i]}; ${v}++) {\n${loops}\n}`;
    }
    this.inner = [];
    return loops;
  }

  private reduction(reduction: Reduction<number>, number: number): void {
    const { reduce, firstVariable, shape, value } = reduction;
    const outer = this.levels[this.kernel.shape.length]!;
    const inner = this.enter(reduction);
    const code = this.value(value);
    const dtype = value.dtype;
    const body = inner[shape.length]!;
    const acc = `r${number}`;
    switch (reduce) {
      case "sum":
        // floats accumulate in double and are rounded once
        body.lines.push(
          dtype === "f32" ? `${acc} += ${code};` : `${acc} = (${acc} + ${code}) ${dtype === "i32" ? "| 0" : ">>> 0"};`,
        );
        break;
      case "max":
      case "min": {
        const x = this.name();
        body.lines.push(
          `const ${x} = ${code};`,
          `if (${x} ${reduce === "max" ? ">" : "<"} ${acc} || ${x} !== ${x}) ${acc} = ${x};`,
        );
        break;
      }
      case "argmax": {
        const x = this.name();
        const position = shape.reduce(
          (p, d, i) => (p === "0" ? `v${firstVariable + i}` : `(${p}) * ${d} + v${firstVariable + i}`),
          "0",
        );
        body.lines.push(
          `const ${x} = ${code};`,
          `if (${x} > m${number} || (${x} !== ${x} && m${number} === m${number})) { m${number} = ${x}; ${acc} = ${position}; }`,
        );
        break;
      }
    }
    const loops = this.leave(reduction);
    const start = reduce === "sum" ? "0" : reduce === "argmax" ? "0" : startOf(reduce, dtype);
    if (reduce === "argmax") outer.lines.push(`let m${number} = -Infinity;`);
    outer.lines.push(`let ${acc} = ${start};`, loops);
    if (reduce === "sum" && dtype === "f32" && this.rounds) outer.lines.push(`${acc} = F(${acc});`);
  }

  private name(): string {
    return `x${this.counter++}`;
  }

  /** Names `code` in the outermost block that has its variables. */
  private hoist(key: string, level: number, code: () => string): string {
    let name = this.names.get(key);
    if (!name) {
      const text = code();
      name = this.name();
      this.block(level).lines.push(`const ${name} = ${text};`);
      // what is computed inside a reduction's loops is not visible after them
      if (level <= this.kernel.shape.length) this.names.set(key, name);
      else this.scoped(key, name);
    }
    return name;
  }

  private readonly innerNames = new Map<string, { name: string; block: Block }>();
  private scoped(key: string, name: string): void {
    this.innerNames.set(key, { name, block: this.inner[0]! });
  }

  private known(key: string): string | undefined {
    const outer = this.names.get(key);
    if (outer) return outer;
    const inner = this.innerNames.get(key);
    return inner && inner.block === this.inner[0] ? inner.name : undefined;
  }

  private block(level: number): Block {
    const rank = this.kernel.shape.length;
    return level <= rank ? this.levels[level]! : this.inner[level - rank]!;
  }

  /** 0: constant; v + 1: needs loop variable v; the rank + 1 + i: needs variable i of the running reduction. */
  private variableLevel(variable: number): number {
    const rank = this.kernel.shape.length;
    return variable < rank ? variable + 1 : rank + 1 + (variable - this.innerFirst);
  }

  private indexLevel(index: Index): number {
    let level = 0;
    for (const { atom } of index.terms) {
      const l =
        atom.kind === "variable"
          ? this.variableLevel(atom.variable)
          : atom.kind === "value"
            ? this.valueLevel(atom.value as Value<number>)
            : this.indexLevel(atom.of);
      if (l > level) level = l;
    }
    return level;
  }

  private valueLevel(v: Value<number>): number {
    switch (v.kind) {
      case "constant":
        return 0;
      case "result":
        return this.kernel.shape.length;
      case "index":
        return this.indexLevel(v.index);
      case "load":
        return Math.max(this.indexLevel(v.index), v.mask ? this.valueLevel(v.mask) : 0);
      case "op": {
        const key = `level:${v.id}`;
        const memo = this.levelMemo.get(key);
        if (memo !== undefined) return memo;
        const level = Math.max(0, ...v.args.map((a) => this.valueLevel(a)));
        this.levelMemo.set(key, level);
        return level;
      }
    }
  }
  private readonly levelMemo = new Map<string, number>();

  private value(v: Value<number>): string {
    if (v.kind === "constant") return literal(v.value, v.dtype, this.rounds);
    if (v.kind === "result") return `r${v.reduce}`;
    if (v.kind === "index") return this.index(v.index);
    const key = `value:${v.id}`;
    const known = this.known(key);
    if (known) return known;
    return this.hoist(key, this.valueLevel(v), () => {
      if (v.kind === "load") {
        const load = `b${v.source}[${this.index(v.index)}]`;
        const raw = v.dtype === "bool" ? `(${load} !== 0)` : load;
        return v.mask ? `(${this.value(v.mask)} ? ${raw} : ${v.dtype === "bool" ? "false" : "0"})` : raw;
      }
      if (v.op === "exp" && this.rounds) return this.exp(this.value(v.args[0]!), this.valueLevel(v));
      if (v.op === "sigmoid" && this.rounds)
        return `F(1 / (1 + ${this.exp(`(-${this.value(v.args[0]!)})`, this.valueLevel(v))}))`;
      const row = scalarRow(v.op);
      const code = row.js(
        v.args.map((a) => this.value(a)),
        v.dtype,
        v.args.map((a) => a.dtype),
      );
      return this.rounds && v.dtype === "f32" && row.rounds !== false ? `F(${code})` : code;
    });
  }

  /**
   * e^x to single precision, without the call and the boxed number that Math.exp or a helper would cost:
   * x = n ln 2 + r with |r| <= ln(2)/2 and e^x = 2^n e^r, the Taylor series of e^r to r^7 (error below 2^-27), in double, rounded once.
   * The clamp keeps n inside of the table: e^89 rounds to infinity and e^-104 to zero. NaN passes.
   */
  private exp(x: string, level: number): string {
    const y = this.name();
    this.block(level).lines.push(`const ${y} = ${x};`);
    const [c, n, r, q] = [this.name(), this.name(), this.name(), this.name()];
    this.block(level).lines.push(
      `const ${c} = ${y} > 89 ? 89 : ${y} < -104 ? -104 : ${y};`,
      `const ${n} = (${c} * ${Math.LOG2E} + 150.5) | 0;`,
      `const ${r} = ${c} - (${n} - 150) * ${Math.LN2};`,
      `const ${q} = ${r} * ${r};`,
    );
    return `F(mc_powers[${n}] * ((1 + ${r}) + ${q} * ((0.5 + ${r} * ${1 / 6}) + ${q} * ((${1 / 24} + ${r} * ${1 / 120}) + ${q} * (${1 / 720} + ${r} * ${1 / 5040})))))`;
  }

  /** An index as code: the part that changes least often is computed first. */
  private index(index: Index): string {
    if (index.terms.length === 0) return String(index.constant);
    const terms = index.terms.map(({ atom, coefficient }) => {
      const level = this.indexLevel({ constant: 0, terms: [{ atom, coefficient }] });
      let code: string;
      if (atom.kind === "variable") code = `v${atom.variable}`;
      else if (atom.kind === "value") code = this.value(atom.value as Value<number>);
      else {
        code =
          this.known(`index:${atom.key}`) ??
          this.hoist(`index:${atom.key}`, level, () => {
            const of = this.index(atom.of);
            return atom.kind === "div" ? `((${of}) / ${atom.by}) | 0` : `(${of}) % ${atom.by}`;
          });
      }
      return { level, code: coefficient === 1 ? code : `${code} * ${coefficient}` };
    });
    terms.sort((a, b) => a.level - b.level);
    let sum = index.constant === 0 ? "" : String(index.constant);
    for (let i = 0; i < terms.length; i++) {
      sum = sum === "" ? terms[i]!.code : `${sum} + ${terms[i]!.code}`;
      const next = terms[i + 1];
      if (next && next.level > terms[i]!.level && (i > 0 || index.constant !== 0 || sum.includes("*"))) {
        const key = `sum:${terms[i]!.level}:${sum}`;
        sum = this.known(key) ?? this.hoist(key, terms[i]!.level, () => sum);
      }
    }
    return sum;
  }
}

function startOf(reduce: "max" | "min", dtype: DType): string {
  if (dtype === "f32") return reduce === "max" ? "-Infinity" : "Infinity";
  if (dtype === "u32") return reduce === "max" ? "0" : "4294967295";
  return reduce === "max" ? "-2147483648" : "2147483647";
}

function literal(value: number, dtype: DType, rounds: boolean): string {
  if (dtype === "bool") return value ? "true" : "false";
  const v = dtype === "f32" ? (rounds ? Math.fround(value) : value) : dtype === "i32" ? value | 0 : value >>> 0;
  if (Number.isNaN(v)) return "NaN";
  if (v === Number.POSITIVE_INFINITY) return "Infinity";
  if (v === Number.NEGATIVE_INFINITY) return "(-Infinity)";
  return Object.is(v, -0) ? "(-0)" : v < 0 ? `(${v})` : String(v);
}
