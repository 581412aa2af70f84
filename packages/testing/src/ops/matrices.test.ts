import { testOp } from "../testOp.ts";
import { matrixOps } from "./matrices.ts";

for (const rows of Object.values(matrixOps)) for (const [title, row] of Object.entries(rows)) testOp(title, row);
