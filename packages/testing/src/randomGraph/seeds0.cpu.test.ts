import { testFusion } from "./shard.ts";

testFusion(0, 250);
