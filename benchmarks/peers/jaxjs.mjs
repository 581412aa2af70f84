// jaxjs.mjs: jax-js, each case inside one `jit`. Its arrays are consumed by what uses them: `.ref` keeps one.
import "./iterators.mjs";
import { runPeer } from "./cases.mjs";
import { options, provideWebGpu } from "./common.mjs";

const backend = options.device === "webgpu" ? "webgpu" : "wasm";
if (backend === "webgpu") await provideWebGpu();
const { blockUntilReady, defaultDevice, init, jit, nn, numpy: np, random } = await import("@jax-js/jax");
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
  newtonSchulz(x, [a, b, c]) {
    let X = x.ref.div(np.sqrt(np.sum(np.square(x))));
    for (let i = 0; i < 5; i++) {
      const A = np.matmul(X.ref, X.ref.transpose());
      const B = A.ref.mul(b).add(np.matmul(A.ref, A).mul(c));
      X = X.ref.mul(a).add(np.matmul(B, X));
    }
    return X;
  },
  adamw(p, m, v, g) {
    const m1 = m.mul(0.9).add(g.ref.mul(0.1));
    const v1 = v.mul(0.999).add(g.ref.mul(g).mul(0.001));
    const step = m1.ref.div(1 - 0.9).div(np.sqrt(v1.ref.div(1 - 0.999)).add(1e-8));
    return [p.ref.sub(step.add(p.mul(0.1)).mul(0.01)), m1, v1];
  },
  update: (step, state, g) => step(...state, g.ref),
});
