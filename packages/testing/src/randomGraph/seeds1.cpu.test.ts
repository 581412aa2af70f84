import { testFusion } from "./shard.ts";

testFusion(250, 500);
