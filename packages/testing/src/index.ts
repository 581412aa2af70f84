// @mc/testing: what the test suites share. Private: nothing here is published.
export { findMismatch, isNaNByBits, type Mismatch, type Numbers, relativeError, type Tolerance } from "./compare.ts";
export type { Domain } from "./domains.ts";
export * as domains from "./domains.ts";
export { type FixtureName, loadFixture, loadFixtureJson } from "./fixtures.ts";
export { hostDevice, oracleDevice, sharedTestDevice, testDevice } from "./host.ts";
export { build, elementwise, type HostArray, hostArray, range } from "./hostArray.ts";
export type { Comparable } from "./matchers.ts";
export { type Random, random } from "./random.ts";
export { type Graph, printGraph, randomGraph, runGraph, shrinkGraph } from "./randomGraph/generate.ts";
export { type OpResult, type OpRow, testOp } from "./testOp.ts";
