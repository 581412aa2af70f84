import { testFusion } from "./shard.ts";

testFusion(1500, 2000);
