import { testOp } from "../testOp.ts";
import { indexingOps } from "./indexing.ts";

for (const rows of Object.values(indexingOps)) for (const [title, row] of Object.entries(rows)) testOp(title, row);
