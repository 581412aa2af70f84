import { testFusion } from "./shard.ts";

testFusion(1250, 1500);
