// tfjs.mjs: the cases that TensorFlow.js has. It is eager; its Adam has no weight decay, so AdamW is written out, as its users would.
import {
  keller,
  listError,
  options,
  productError,
  provideWebGpu,
  runCases,
  scaledIdentityError,
  sizes,
} from "./common.mjs";

const onGpu = options.device === "webgpu";
if (onGpu) await provideWebGpu();
const tf = await import("@tensorflow/tfjs-core");
await (onGpu ? import("@tensorflow/tfjs-backend-webgpu") : import("@tensorflow/tfjs-backend-wasm"));
if (!(await tf.setBackend(onGpu ? "webgpu" : "wasm"))) throw new Error("TensorFlow.js gets no backend here");
await tf.ready();

/** A function of tensors that stay alive. Results live until they are waited for, by a read-back of one element of the last. */
function calls(f, inputs) {
  const pending = [];
  return {
    call: () => pending.push(tf.tidy(() => f(...inputs))),
    settle: async () => {
      const one = tf.tidy(() => tf.slice(tf.reshape(pending.at(-1), [-1]), 0, 1));
      await one.data();
      tf.dispose([one, ...pending.splice(0)]);
    },
  };
}

function unary(name, shape, f, bytes, expected, second) {
  return {
    name,
    shape,
    bytes,
    prepare: async () => {
      const inputs = [tf.randomNormal(shape), ...(second ? [tf.randomNormal(shape)] : [])];
      return {
        ...calls(f, inputs),
        error: async () => {
          const right = expected(...(await Promise.all(inputs.map((x) => x.data()))));
          return listError((await f(...inputs).data()).slice(0, right.length), right);
        },
      };
    },
  };
}

const { squares, elements, rows, orthogonal } = sizes();
const wide = [rows, 1024];
const first = (x) => Array.from(x.slice(0, 1024));
const total = (list) => list.reduce((s, v) => s + v, 0);

const kernels = [
  ...squares.map((n) => ({
    name: "matmul",
    shape: [n, n, n],
    flops: 2 * n ** 3,
    bytes: 12 * n * n,
    prepare: async () => {
      const [a, b] = [tf.randomNormal([n, n]), tf.randomNormal([n, n])];
      const error = async () => productError(await a.data(), await b.data(), await tf.matMul(a, b).data(), n);
      return { ...calls((a, b) => tf.matMul(a, b), [a, b]), error };
    },
  })),
  unary(
    "add",
    [elements],
    (a, b) => tf.add(a, b),
    12 * elements,
    (a, b) => first(a).map((v, i) => v + b[i]),
    true,
  ),
  unary(
    "sum of rows",
    wide,
    (x) => tf.sum(x, 1),
    4 * elements,
    (x) => [total(first(x))],
  ),
  unary(
    "sum of columns",
    wide,
    (x) => tf.sum(x, 0),
    4 * elements,
    (x) => [0, 1, 2].map((j) => total(Array.from({ length: rows }, (_, i) => x[i * 1024 + j]))),
  ),
  unary(
    "softmax",
    wide,
    (x) => tf.softmax(x),
    8 * elements,
    (x) => {
      const e = first(x).map(Math.exp);
      return e.map((v) => v / total(e));
    },
  ),
];

/** Five Keller steps on a square. */
function newtonSchulz(x) {
  const [a, b, c] = keller;
  let X = tf.div(x, tf.norm(x));
  for (let i = 0; i < 5; i++) {
    const A = tf.matMul(X, X, false, true);
    const B = tf.add(tf.mul(A, b), tf.mul(tf.matMul(A, A), c));
    X = tf.add(tf.mul(X, a), tf.matMul(B, X));
  }
  return X;
}

const optim = [
  {
    name: "adamw, one tensor",
    shape: [elements],
    bytes: 28 * elements,
    prepare: async () => {
      const g = tf.randomNormal([elements]);
      let state = [tf.randomNormal([elements]), tf.zeros([elements]), tf.zeros([elements])];
      const call = () => {
        const [p, m, v] = state;
        state = tf.tidy(() => {
          const m1 = tf.add(tf.mul(m, 0.9), tf.mul(g, 0.1));
          const v1 = tf.add(tf.mul(v, 0.999), tf.mul(tf.square(g), 0.001));
          const step = tf.div(tf.div(m1, 1 - 0.9), tf.add(tf.sqrt(tf.div(v1, 1 - 0.999)), 1e-8));
          return [tf.sub(p, tf.mul(tf.add(step, tf.mul(p, 0.1)), 0.01)), m1, v1];
        });
        tf.dispose([p, m, v]);
      };
      const settle = async () => {
        const one = tf.slice(state[0], 0, 1);
        await one.data();
        one.dispose();
      };
      const error = async () => {
        const [before, gradient] = [first(await state[0].data()), first(await g.data())];
        call();
        const right = before.map((p, i) => p - 0.01 * (gradient[i] / (Math.abs(gradient[i]) + 1e-8) + 0.1 * p));
        return listError(first(await state[0].data()), right);
      };
      return { call, settle, error };
    },
  },
  ...orthogonal.map((n) => ({
    name: "newton-schulz keller x5",
    shape: [n, n],
    flops: 30 * n ** 3,
    bytes: 8 * n * n,
    prepare: async () => ({
      ...calls(newtonSchulz, [tf.randomNormal([n, n])]),
      error: async () => scaledIdentityError(await tf.tidy(() => newtonSchulz(tf.mul(tf.eye(n), 3))).data(), n),
    }),
  })),
];

const suites = { kernels, optim };
if (suites[options.suite]) await runCases("TensorFlow.js", suites[options.suite]);
else
  console.log(
    JSON.stringify({ framework: "TensorFlow.js", missing: `no cases of "${options.suite}" are written for it` }),
  );
process.exit(0);
