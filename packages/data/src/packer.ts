// packer.ts: lays documents, one after another, into rows of one length; packing in memory and from a stream are both this.
import type { Arrays, Packing } from "./sequences.ts";

/** One sequence that is being filled or is full. */
export interface Row extends Arrays {
  labelCount: number;
  paddingCount: number;
  droppedCount: number;
}

/** Documents go in by `feed`, full rows come out by `next`, and what is left by `finish`. */
export class Packer {
  private readonly length: number;
  private readonly packing: Packing;
  private readonly allocate: () => Arrays;
  private row: Row | undefined;
  private filled = 0; // positions of `row` that hold tokens
  private ids: Int32Array = new Int32Array(0);
  private document = 0;

  /** Tokens of the document fed last that are in rows by now: where to go on once `next` has given a row. */
  taken = 0;

  /** @param allocate the arrays of a new row, which hold no token */
  constructor(length: number, packing: Packing, allocate: () => Arrays) {
    this.length = length;
    this.packing = packing;
    this.allocate = allocate;
  }

  /** The next document, from the token `from` on. Only when `next` has given nothing. */
  feed(ids: Int32Array, document: number, from = 0): void {
    this.ids = ids;
    this.document = document;
    this.taken = from;
  }

  /** A full row, or nothing when that takes another document. */
  next(): Row | undefined {
    while (this.taken < this.ids.length) {
      this.lay();
      if (this.packing === "padded") {
        const dropped = this.ids.length - this.taken;
        this.taken = this.ids.length;
        this.row!.droppedCount = dropped;
        return this.finish();
      }
      if (this.filled === this.length) return this.finish();
    }
    return undefined;
  }

  /** The row as far as it is filled, the rest being padding; nothing when it holds no token. */
  finish(): Row | undefined {
    const { row, filled } = this;
    if (!row) return undefined;
    row.paddingCount = this.length - filled;
    for (let i = filled; i < this.length; i++) row.positions[i] = i - filled;
    this.row = undefined;
    this.filled = 0;
    return row;
  }

  // As many tokens of the document as fit go into the row; their labels are the tokens after them, up to the document's end.
  private lay(): void {
    const { ids, taken, filled: start } = this;
    this.row ??= { ...this.allocate(), labelCount: 0, paddingCount: 0, droppedCount: 0 };
    const { row } = this;
    const size = Math.min(this.length - start, ids.length - taken);
    const labels = ids.subarray(taken + 1, taken + 1 + size);
    row.inputs.set(ids.subarray(taken, taken + size), start);
    row.labels.set(labels, start);
    row.labelCount += labels.length;
    row.documents.fill(this.document, start, start + size);
    for (let i = 0; i < size; i++) row.positions[start + i] = i;
    this.taken += size;
    this.filled += size;
  }
}
