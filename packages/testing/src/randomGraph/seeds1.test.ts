import { testGraphs } from "./shard.ts";

testGraphs(500, 1000);
