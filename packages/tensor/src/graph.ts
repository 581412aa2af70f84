// graph.ts (`@mc/tensor/graph`): the graph behind tensors, for authors of transformations such as autograd.

export { defaultSettings, type SchedulerSettings } from "./compiler/schedule.ts";
export type { Storage } from "./device/storage.ts";
export { accumulate, type InputGradients, inputGradients, type VjpWalker, zeroGradient } from "./gradients.ts";
export { type Kind, type KindName, type MatmulTraits, type Node, type ReduceKind, topologicalOrder } from "./node.ts";
export { isRecording, withVariables } from "./run/recording.ts";
