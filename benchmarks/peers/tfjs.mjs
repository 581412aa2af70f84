// tfjs.mjs: TensorFlow.js, which is eager: each case in a `tidy`.
import { runPeer } from "./cases.mjs";
import { options, provideWebGpu } from "./common.mjs";

const onGpu = options.device === "webgpu";
if (onGpu) await provideWebGpu();
const tf = await import("@tensorflow/tfjs-core");
const { adamw, newtonSchulz, training } = await import("./trainTfjs.mjs");
await (onGpu ? import("@tensorflow/tfjs-backend-webgpu") : import("@tensorflow/tfjs-backend-wasm"));
if (!(await tf.setBackend(onGpu ? "webgpu" : "wasm"))) throw new Error("TensorFlow.js gets no backend here");
await tf.ready();

await runPeer({
  framework: "TensorFlow.js",
  draw: async (seed, shape) => tf.randomNormal(shape, 0, 1, "float32", seed),
  zeros: (shape) => tf.zeros(shape),
  threeTimesIdentity: (n) => tf.tidy(() => tf.mul(tf.eye(n), 3)),
  read: (x) => x.data(),
  keep: (x) => x,
  compile:
    (f) =>
    (...inputs) =>
      tf.tidy(() => f(...inputs)),
  // it has no call that waits: a read-back of one element of the last result does
  wait: async (results) => {
    const one = tf.tidy(() => tf.slice(tf.reshape(results.at(-1), [-1]), 0, 1));
    await one.data();
    one.dispose();
  },
  kernels: {
    matmul: (a, b) => tf.matMul(a, b),
    add: (a, b) => tf.add(a, b),
    sumRows: (x) => tf.sum(x, 1),
    sumColumns: (x) => tf.sum(x, 0),
    softmax: (x) => tf.softmax(x),
  },
  newtonSchulz,
  adamw: (p, m, v, g) => adamw(p, m, v, g, 0.01, [1 - 0.9, 1 - 0.999]),
  update(step, state, g) {
    const next = step(...state, g);
    tf.dispose(state);
    return next;
  },
  training,
});
