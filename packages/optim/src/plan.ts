// plan.ts: what an optimizer does with each parameter, as data that prints as a table.

/** Logical blocks of one size. */
export interface BlockPlan {
  readonly count: number;
  readonly rows: number;
  readonly cols: number;
  /** Factor on the orthogonal update of each. */
  readonly scale: number;
  /** Blocks of all parameters with the same name here are orthogonalised together. */
  readonly batch: string;
}

/** One parameter. */
export interface PlanRow {
  /** Path. */
  readonly parameter: string;
  /** Its role, or "" where the optimizer uses none. */
  readonly role: string;
  /** Which rule updates it. */
  readonly optimizer: string;
  readonly shape: readonly number[];
  /** What Muon orthogonalises; empty elsewhere. */
  readonly blocks: readonly BlockPlan[];
}

/**
 * Which parameter goes where.
 *
 * @example
 * const plan = muon({ learningRate: 0.02 }).plan({ w: ones([4, 8]) });
 * plan.rows.filter((row) => row.optimizer === "muon").length; // 1
 * String(plan); // a table and a line of totals
 */
export class Plan {
  readonly rows: readonly PlanRow[];

  constructor(rows: readonly PlanRow[]) {
    this.rows = rows;
  }

  /** A table of all parameters, and totals. */
  toString(): string {
    const table = [["parameter", "role", "optimizer", "shape", "blocks", "scale"], ...this.rows.map(cells)];
    const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
    const lines = table.map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    );
    return [...lines, totals(this.rows)].join("\n");
  }
}

function cells({ parameter, role, optimizer, shape, blocks }: PlanRow): string[] {
  const sizes = blocks.map(({ count, rows, cols }) => `${count} x [${rows}, ${cols}]`).join(" + ");
  const scales = blocks.map(({ scale }) => scale.toFixed(3)).join(", ");
  return [parameter, role || "-", optimizer, `[${shape.join(", ")}]`, sizes || "-", scales || "-"];
}

function totals(rows: readonly PlanRow[]): string {
  const blocks = rows.flatMap((row) => row.blocks);
  const elements = rows.reduce((sum, row) => sum + row.shape.reduce((p, d) => p * d, 1), 0);
  const matrices = blocks.reduce((sum, { count }) => sum + count, 0);
  const batches = new Set(blocks.map(({ batch }) => batch)).size;
  const counted = (n: number, one: string, many: string): string => `${n} ${n === 1 ? one : many}`;
  const orthogonalised =
    matrices === 0
      ? ""
      : `; ${counted(matrices, "matrix", "matrices")} orthogonalised in ${counted(batches, "batch", "batches")}`;
  return `${counted(rows.length, "parameter", "parameters")}, ${counted(elements, "element", "elements")}${orthogonalised}`;
}
