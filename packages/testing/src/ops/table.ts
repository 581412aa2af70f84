// ops/table.ts: the shape of the tables of ops: for each public op its rows, titled by a sentence.
import type { OpRow } from "../testOp.ts";

/** Rows of each op: the key is the exported name in `@mc/tensor`, inside it the key is the test's title. */
export type OpTable = Record<string, Record<string, OpRow>>;
