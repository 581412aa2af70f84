import { testOp } from "../testOp.ts";
import { reductionOps } from "./reductions.ts";

for (const rows of Object.values(reductionOps)) for (const [title, row] of Object.entries(rows)) testOp(title, row);
