import { testFusion } from "./shard.ts";

testFusion(750, 1000);
