import { hostDevice } from "../host.ts";
import { testDeviceGraphs } from "./shard.ts";

testDeviceGraphs(0, hostDevice === "cpu" ? 300 : 40);
