import { testGraphs } from "./shard.ts";

testGraphs(1000, 1500);
