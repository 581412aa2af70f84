import { testGraphs } from "./shard.ts";

testGraphs(1500, 2000);
