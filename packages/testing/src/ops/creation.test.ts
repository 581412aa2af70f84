import { testOp } from "../testOp.ts";
import { creationOps } from "./creation.ts";

for (const rows of Object.values(creationOps)) for (const [title, row] of Object.entries(rows)) testOp(title, row);
