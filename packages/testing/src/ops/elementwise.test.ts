import { testOp } from "../testOp.ts";
import { elementwiseOps } from "./elementwise.ts";

for (const rows of Object.values(elementwiseOps)) for (const [title, row] of Object.entries(rows)) testOp(title, row);
