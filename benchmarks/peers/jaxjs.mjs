// jaxjs.mjs: jax-js, each case inside one `jit`. Its arrays are consumed by what uses them: `.ref` keeps one.
import "./iterators.mjs";
import { runPeer } from "./cases.mjs";
import { options, provideWebGpu } from "./common.mjs";

const backend = options.device === "webgpu" ? "webgpu" : "wasm";
if (backend === "webgpu") await provideWebGpu();
const { blockUntilReady, defaultDevice, init, jit, nn, numpy: np, random } = await import("@jax-js/jax");
const { adamw, newtonSchulz, training } = await import("./trainJaxjs.mjs");
if (!(await init(backend)).includes(backend)) throw new Error(`jax-js has no ${backend} backend here`);
defaultDevice(backend);

await runPeer({
  framework: "jax-js",
  draw: async (seed, shape) => blockUntilReady(random.normal(random.key(seed), shape)),
  zeros: (shape) => np.zeros(shape),
  threeTimesIdentity: (n) => np.eye(n).mul(3),
  read: (x) => x.ref.data(),
  keep: (x) => x.ref,
  compile: jit,
  wait: blockUntilReady,
  kernels: {
    matmul: (a, b) => np.matmul(a, b),
    add: (a, b) => np.add(a, b),
    sumRows: (x) => np.sum(x, 1),
    sumColumns: (x) => np.sum(x, 0),
    softmax: (x) => nn.softmax(x, -1),
  },
  newtonSchulz,
  adamw: (p, m, v, g) => adamw(p, m, v, g, 0.01, [1 - 0.9, 1 - 0.999]),
  update: (step, state, g) => step(...state, g.ref),
  training,
});
