// jaxjs.mjs: the cases that jax-js has, each inside one `jit`. Its arrays are consumed by what uses them: `.ref` keeps one.
import "./iterators.mjs";
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

const backend = options.device === "webgpu" ? "webgpu" : "wasm";
if (backend === "webgpu") await provideWebGpu();
const { blockUntilReady, defaultDevice, init, jit, nn, numpy: np, random } = await import("@jax-js/jax");
if (!(await init(backend)).includes(backend)) throw new Error(`jax-js has no ${backend} backend here`);
defaultDevice(backend);

const draw = async (seed, shape) => blockUntilReady(random.normal(random.key(seed), shape));
const read = (x) => x.ref.data();

/** A jitted function of arrays that stay alive. Results live until they are waited for: what nobody wants is never computed. */
function calls(f, inputs) {
  const jitted = jit(f);
  const pending = [];
  const call = () => pending.push(jitted(...inputs.map((x) => x.ref)));
  const settle = async () => {
    await blockUntilReady(pending);
    for (const x of pending.splice(0)) x.dispose();
  };
  const once = async (...given) => (await jitted(...(given.length > 0 ? given : inputs.map((x) => x.ref)))).data();
  return { call, settle, once };
}

function unary(name, shape, f, bytes, expected, second) {
  return {
    name,
    shape,
    bytes,
    prepare: async () => {
      const inputs = await Promise.all([draw(1, shape), ...(second ? [draw(2, shape)] : [])]);
      const { once, ...rest } = calls(f, inputs);
      return {
        ...rest,
        error: async () => {
          const host = await Promise.all(inputs.map(read));
          const right = expected(...host);
          return listError((await once()).slice(0, right.length), right);
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
      const inputs = [await draw(1, [n, n]), await draw(2, [n, n])];
      const { once, ...rest } = calls((a, b) => np.matmul(a, b), inputs);
      return {
        ...rest,
        error: async () => productError(await read(inputs[0]), await read(inputs[1]), await once(), n),
      };
    },
  })),
  unary(
    "add",
    [elements],
    (a, b) => np.add(a, b),
    12 * elements,
    (a, b) => first(a).map((v, i) => v + b[i]),
    true,
  ),
  unary(
    "sum of rows",
    wide,
    (x) => np.sum(x, 1),
    4 * elements,
    (x) => [total(first(x))],
  ),
  unary(
    "sum of columns",
    wide,
    (x) => np.sum(x, 0),
    4 * elements,
    (x) => [0, 1, 2].map((j) => total(Array.from({ length: rows }, (_, i) => x[i * 1024 + j]))),
  ),
  unary(
    "softmax",
    wide,
    (x) => nn.softmax(x, -1),
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
  let X = x.ref.div(np.sqrt(np.sum(np.square(x))));
  for (let i = 0; i < 5; i++) {
    const A = np.matmul(X.ref, X.ref.transpose());
    const B = A.ref.mul(b).add(np.matmul(A.ref, A).mul(c));
    X = X.ref.mul(a).add(np.matmul(B, X));
  }
  return X;
}

/** AdamW's first step; returns p, m and v as one list. */
function adamw(p, m, v, g) {
  const m1 = m.mul(0.9).add(g.ref.mul(0.1));
  const v1 = v.mul(0.999).add(g.ref.mul(g).mul(0.001));
  const step = m1.ref.div(1 - 0.9).div(np.sqrt(v1.ref.div(1 - 0.999)).add(1e-8));
  return [p.ref.sub(step.add(p.mul(0.1)).mul(0.01)), m1, v1];
}

const optim = [
  {
    name: "adamw, one tensor",
    shape: [elements],
    bytes: 28 * elements,
    prepare: async () => {
      const g = await draw(4, [elements]);
      let state = [await draw(1, [elements]), np.zeros([elements]), np.zeros([elements])];
      const step = jit(adamw);
      const call = () => {
        state = step(...state, g.ref); // consumes the old state
      };
      return {
        call,
        settle: () => blockUntilReady(state),
        error: async () => {
          const [before, gradient] = [first(await read(state[0])), first(await read(g))];
          call();
          const right = before.map((p, i) => p - 0.01 * (gradient[i] / (Math.abs(gradient[i]) + 1e-8) + 0.1 * p));
          return listError(first(await read(state[0])), right);
        },
      };
    },
  },
  ...orthogonal.map((n) => ({
    name: "newton-schulz keller x5",
    shape: [n, n],
    flops: 30 * n ** 3,
    bytes: 8 * n * n,
    prepare: async () => {
      const { once, ...rest } = calls(newtonSchulz, [await draw(1, [n, n])]);
      return { ...rest, error: async () => scaledIdentityError(await once(np.eye(n).mul(3)), n) };
    },
  })),
];

const suites = { kernels, optim };
if (suites[options.suite]) await runCases("jax-js", suites[options.suite]);
else console.log(JSON.stringify({ framework: "jax-js", missing: `no cases of "${options.suite}" are written for it` }));
process.exit(0);
