import { testFusion } from "./shard.ts";

testFusion(1500, 1750);
