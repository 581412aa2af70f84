import { testFusion } from "./shard.ts";

testFusion(1000, 1250);
