// main.ts: a training loop of one's own on three packages: tensors, gradients, an optimizer. No model library.
// A small network learns to tell two intertwined spirals apart; Muon trains its hidden matrices, AdamW the rest.
import { valueAndGrad } from "@mc/autograd";
import { muon, type OptimizerState, roles, warmupCosine } from "@mc/optim";
import {
  add,
  argmax,
  cast,
  compile,
  connect,
  equal,
  key,
  logSoftmax,
  matmul,
  mean,
  mT,
  neg,
  normal,
  reshape,
  splitKey,
  type Tensor,
  takeAlongAxis,
  tanh,
  tensor,
  zeros,
} from "@mc/tensor";

const device = await connect(); // a GPU where there is one, else the CPU
console.log(`device  ${device.description}`);

const { points, labels } = spirals(256);

// Parameters are plain nested objects; weights are [out, in].
type Params = { hidden: { weight: Tensor; bias: Tensor }[]; head: Tensor };

const width = 64;
const [first, second, last] = splitKey(key(1), 3) as [Tensor, Tensor, Tensor];
const linear = (seed: Tensor, out: number, inputs: number) => ({
  weight: normal(seed, [out, inputs], { std: 1 / Math.sqrt(inputs) }),
  bias: zeros([out]),
});
let params: Params = {
  hidden: [linear(first, width, 2), linear(second, width, width)],
  head: normal(last, [2, width], { std: 0.02 }),
};

function logitsOf({ hidden, head }: Params, x: Tensor): Tensor {
  for (const { weight, bias } of hidden) x = tanh(add(matmul(x, mT(weight)), bias));
  return matmul(x, mT(head));
}

/** Mean of -log p(label). */
function crossEntropy(params: Params, x: Tensor, labels: Tensor): Tensor {
  const picked = takeAlongAxis(logSoftmax(logitsOf(params, x)), reshape(labels, [-1, 1]), 1);
  return neg(mean(picked));
}

const steps = 300;
const optimizer = muon({
  learningRate: warmupCosine({ peak: 0.02, warmupSteps: 10, totalSteps: steps }),
  weightDecay: 0.01,
  roles: roles(params, { matrix: "hidden.*.weight", bias: "hidden.*.bias", head: "head" }),
});
console.log(`\n${optimizer.plan(params)}\n`);

// Recorded once, replayed every step; parameters and state are updated in place.
const step = compile(
  ({ params, state, x, y }: { params: Params; state: OptimizerState; x: Tensor; y: Tensor }) => {
    const { value: loss, grads } = valueAndGrad(crossEntropy)(params, x, y);
    return { ...optimizer.update(grads, state, params), loss };
  },
  { donate: ["params", "state"] },
);

const x = tensor(points);
const y = tensor(labels, { dtype: "i32" });
let state = optimizer.init(params);
let loss: Tensor;
for (let count = 1; count <= steps; count++) {
  ({ params, state, loss } = step({ params, state, x, y }));
  if (count % 50 === 0) console.log(`step ${count}  loss ${(await loss.item()).toFixed(4)}`);
}
const right = mean(cast(equal(argmax(logitsOf(params, x), { axis: -1 }), y), "f32"));
console.log(`\naccuracy ${(100 * (await right.item())).toFixed(1)} %`);

/** Two spirals of `count` points each, the second half a turn behind the first. */
function spirals(count: number): { points: number[][]; labels: number[] } {
  const points: number[][] = [];
  const labels: number[] = [];
  for (const arm of [0, 1]) {
    for (let i = 0; i < count; i++) {
      const radius = 0.1 + (0.9 * i) / count;
      const angle = 3.5 * Math.PI * radius + Math.PI * arm;
      points.push([4 * radius * Math.cos(angle), 4 * radius * Math.sin(angle)]);
      labels.push(arm);
    }
  }
  return { points, labels };
}
