import { testOp } from "../testOp.ts";
import { viewOps } from "./views.ts";

for (const rows of Object.values(viewOps)) for (const [title, row] of Object.entries(rows)) testOp(title, row);
