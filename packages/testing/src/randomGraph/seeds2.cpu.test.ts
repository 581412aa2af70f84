import { testFusion } from "./shard.ts";

testFusion(500, 750);
