// tfjs.mjs: TensorFlow.js. It is eager; its Adam has no weight decay, so AdamW is written out, as its users would.
import { runPeer } from "./cases.mjs";
import { options, provideWebGpu } from "./common.mjs";

const onGpu = options.device === "webgpu";
if (onGpu) await provideWebGpu();
const tf = await import("@tensorflow/tfjs-core");
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
  newtonSchulz(x, [a, b, c]) {
    let X = tf.div(x, tf.norm(x));
    for (let i = 0; i < 5; i++) {
      const A = tf.matMul(X, X, false, true);
      const B = tf.add(tf.mul(A, b), tf.mul(tf.matMul(A, A), c));
      X = tf.add(tf.mul(X, a), tf.matMul(B, X));
    }
    return X;
  },
  adamw(p, m, v, g) {
    const m1 = tf.add(tf.mul(m, 0.9), tf.mul(g, 0.1));
    const v1 = tf.add(tf.mul(v, 0.999), tf.mul(tf.square(g), 0.001));
    const step = tf.div(tf.div(m1, 1 - 0.9), tf.add(tf.sqrt(tf.div(v1, 1 - 0.999)), 1e-8));
    return [tf.sub(p, tf.mul(tf.add(step, tf.mul(p, 0.1)), 0.01)), m1, v1];
  },
  update(step, state, g) {
    const next = step(...state, g);
    tf.dispose(state);
    return next;
  },
});
