import { testGraphs } from "./shard.ts";

testGraphs(0, 500);
