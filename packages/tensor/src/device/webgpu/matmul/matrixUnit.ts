// device/webgpu/matmul/matrixUnit.ts: hardware that multiplies small matrices, and how WGSL speaks to it. Two dialects: the
// subgroup matrices of a GPU, and plain WGSL in which one invocation plays a whole subgroup, so that every kernel written
// for the first can be proven on any device.

/** What a device multiplies in one step: c[m, n] += a[m, k] b[k, n], a and b in f16, c in f32. */
export interface MatrixUnit {
  /** "subgroup": subgroup matrices; "emulated": loops, for tests. */
  readonly dialect: "subgroup" | "emulated";
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Invocations that hold a matrix together. */
  readonly subgroupSize: number;
  /** Subgroups that a workgroup may have. */
  readonly subgroups: number;
}

/** The unit that runs anywhere, for tests: small, because software drivers take seconds to compile large kernels. */
export const emulatedUnit: MatrixUnit = {
  dialect: "emulated",
  m: 8,
  n: 8,
  k: 8,
  subgroupSize: 1,
  subgroups: 256,
};

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** f16 numbers in a vec4<u32>, the unit in which staged tiles are written and addressed. */
export const halves = 8;

/**
 * Matrices in workgroup memory: `name[index]` is an array of vec4s with constant length, lines `pitch` vec4s apart. All but
 * the index is constant, so that bounds are known when the kernel is compiled and nothing is checked when it runs.
 */
export interface MatrixMemory {
  readonly name: string;
  readonly index: string;
  readonly pitch: number;
  /** What a line holds: a row of the matrix or a column. */
  readonly line: "row" | "column";
}

/** Where the matrices of one step along k lie: offsets in vec4s of those down the block (left) and across it (right). */
export interface BlockStep {
  readonly left: readonly number[];
  readonly right: readonly number[];
}

/**
 * What a dialect says for a subgroup's block of products, which are numbered along its rows: product i * across + j is that of
 * left matrix i and right matrix j.
 */
export interface Dialect {
  /** Text at the top of the module. */
  readonly directives: string;
  /** Whether code is best written out. Software drivers take seconds, or minutes, to compile what has no loops. */
  readonly unrolls: boolean;
  /** More parameters of the entry point. */
  readonly parameters: string;
  /** Defines `subgroup`, below `count`. */
  subgroup(count: number): string;
  /** Declares the products, all zero. */
  zero(count: number): string[];
  /** product (i, j) += left i * right j, step by step; the memories hold f16 in pairs. */
  multiplyAdd(left: MatrixMemory, right: MatrixMemory, steps: readonly BlockStep[]): string[];
  /** Writes products `rounds[round]` side by side to `memory`, which holds vec4<f32>, its lines rows. */
  store(memory: MatrixMemory, rounds: readonly (readonly number[])[]): string[];
  /** Functions that the statements need. */
  functions(left: MatrixMemory, right: MatrixMemory, product: MatrixMemory, count: number): string;
}

/** The dialect of a unit. */
export const dialectOf = (unit: MatrixUnit): Dialect =>
  unit.dialect === "subgroup" ? subgroupDialect(unit) : emulatedDialect(unit);

/**
 * WGSL's subgroup matrices, everything unrolled: a product is a variable, an offset a constant.
 *
 * @see https://dawn.googlesource.com/dawn/+/refs/heads/main/docs/dawn/features/subgroup_matrix.md
 */
function subgroupDialect({ m, n, k }: MatrixUnit): Dialect {
  const left = `subgroup_matrix_left<f16, ${k}, ${m}>`;
  const right = `subgroup_matrix_right<f16, ${n}, ${k}>`;
  const product = `subgroup_matrix_result<f32, ${n}, ${m}>`;
  const order = ({ line }: MatrixMemory): string => (line === "row" ? "row_major" : "col_major");
  const load = (name: string, type: string, memory: MatrixMemory, offset: number): string =>
    `let ${name} = subgroupMatrixLoad<${type}, ${order(memory)}>(&${memory.name}[${memory.index}], ${offset}u, ${memory.pitch}u);`;
  return {
    // which subgroup it is decides what an invocation reads: uniform where it must be, in the subgroup
    directives:
      "enable f16;\nenable subgroups;\nenable chromium_experimental_subgroup_matrix;\n" +
      "diagnostic(off, chromium.subgroup_matrix_uniformity);\n",
    unrolls: true,
    parameters: ", @builtin(subgroup_id) subgroupId: u32",
    // the remainder changes nothing; it tells the compiler the bound
    subgroup: (count) => `let subgroup = subgroupId % ${count}u;`,
    zero: (count) => range(count).map((i) => `var product${i} = ${product}();`),
    multiplyAdd: (leftMemory, rightMemory, steps) =>
      steps.flatMap((step) => [
        "{",
        ...step.left.map((offset, i) => `  ${load(`left${i}`, left, leftMemory, offset)}`),
        ...step.right.map((offset, j) => `  ${load(`right${j}`, right, rightMemory, offset)}`),
        ...step.left.flatMap((_, i) =>
          step.right.map((_, j) => {
            const name = `product${i * step.right.length + j}`;
            return `  ${name} = subgroupMatrixMultiplyAccumulate(left${i}, right${j}, ${name});`;
          }),
        ),
        "}",
      ]),
    store: (memory, rounds) => [
      "switch (round) {",
      ...rounds.map((products, round) => {
        const stores = products.map(
          (p, j) =>
            `subgroupMatrixStore<${order(memory)}>(&${memory.name}[${memory.index}], ${(j * n) / 4}u, product${p}, ${memory.pitch}u);`,
        );
        return `  case ${round}u: { ${stores.join(" ")} }`;
      }),
      "  default: {}",
      "}",
    ],
    functions: () => "",
  };
}

/**
 * The same in plain WGSL, in loops: products are a private array, the offsets a table. Sums run along k in f32.
 */
function emulatedDialect({ m, n, k }: MatrixUnit): Dialect {
  const table = (numbers: readonly number[]): string =>
    `array<u32, ${numbers.length}>(${numbers.map((x) => `${x}u`).join(", ")})`;
  const loadFunction = (use: string, rows: number, columns: number, { name, pitch, line }: MatrixMemory): string => {
    const [outer, inner] = line === "row" ? ["row", "column"] : ["column", "row"];
    return `fn load_${use}(out: ptr<function, array<f32, ${rows * columns}>>, index: u32, offset: u32) {
  for (var row = 0u; row < ${rows}u; row++) {
    for (var column = 0u; column < ${columns}u; column++) {
      let at = (offset + ${outer} * ${pitch}u) * ${halves}u + ${inner};
      (*out)[row * ${columns}u + column] = unpack2x16float(${name}[index][at / 8u][at / 2u % 4u])[at % 2u];
    }
  }
}
`;
  };
  return {
    directives: "",
    unrolls: false,
    parameters: "",
    subgroup: () => "let subgroup = local;",
    zero: (count) => [
      `var products: array<f32, ${count * m * n}>;`,
      `var left: array<f32, ${m * k}>;`,
      `var right: array<f32, ${k * n}>;`,
    ],
    multiplyAdd: (left, right, steps) => {
      const [{ left: down, right: across }] = steps as readonly [BlockStep];
      return [
        `var lefts = ${table(steps.flatMap((s) => s.left))};`,
        `var rights = ${table(steps.flatMap((s) => s.right))};`,
        `for (var at = 0u; at < ${steps.length * down.length * across.length}u; at++) {`,
        `  let q = at / ${down.length * across.length}u;`,
        `  let i = at / ${across.length}u % ${down.length}u;`,
        `  let j = at % ${across.length}u;`,
        `  load_left(&left, ${left.index}, lefts[q * ${down.length}u + i]);`,
        `  load_right(&right, ${right.index}, rights[q * ${across.length}u + j]);`,
        `  multiply_add(&products, (i * ${across.length}u + j) * ${m * n}u, &left, &right);`,
        "}",
      ];
    },
    store: (memory, rounds) => {
      const perRound = rounds[0]!.length;
      return [
        `var stored = ${table(rounds.flat())};`,
        `for (var j = 0u; j < ${perRound}u; j++) {`,
        `  store_product(${memory.index}, j * ${n / 4}u, &products, stored[round * ${perRound}u + j] * ${m * n}u);`,
        "}",
      ];
    },
    functions: (left, right, product, count) => {
      const products = `ptr<function, array<f32, ${count * m * n}>>`;
      return `${loadFunction("left", m, k, left)}${loadFunction("right", k, n, right)}
fn multiply_add(products: ${products}, base: u32, left: ptr<function, array<f32, ${m * k}>>, right: ptr<function, array<f32, ${k * n}>>) {
  for (var at = 0u; at < ${m * n}u; at++) {
    var sum = (*products)[base + at];
    for (var q = 0u; q < ${k}u; q++) { sum += (*left)[at / ${n}u * ${k}u + q] * (*right)[q * ${n}u + at % ${n}u]; }
    (*products)[base + at] = sum;
  }
}
fn store_product(index: u32, offset: u32, products: ${products}, base: u32) {
  for (var at = 0u; at < ${m * n}u; at++) {
    let column = at % ${n}u;
    ${product.name}[index][offset + at / ${n}u * ${product.pitch}u + column / 4u][column % 4u] = (*products)[base + at];
  }
}
`;
    },
  };
}
