import { testFusion } from "./shard.ts";

testFusion(1750, 2000);
