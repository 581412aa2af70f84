// cases.mjs: the cases of the JavaScript peers: the same for each, which says how it computes them.
import { keller, listError, options, productError, runCases, scaledIdentityError, sizes } from "./common.mjs";
import { runTraining } from "./training.mjs";

/**
 * How a peer computes. Its arrays are opaque here, but for `dispose()`.
 * @typedef {object} Peer
 * @property {string} framework
 * @property {(seed: number, shape: number[]) => Promise<Array_>} draw normal numbers
 * @property {(shape: number[]) => Array_} zeros
 * @property {(n: number) => Array_} threeTimesIdentity
 * @property {(x: Array_) => Promise<ArrayLike<number>>} read numbers of an array that stays alive
 * @property {(x: Array_) => Array_} keep an array to be handed to a function, which stays alive afterwards
 * @property {(f: Function) => Function} compile a function of arrays as the peer runs it best
 * @property {(results: Array_[]) => Promise<unknown>} wait until the results are computed
 * @property {Record<"matmul" | "add" | "sumRows" | "sumColumns" | "softmax", Function>} kernels
 * @property {(x: Array_, keller: number[]) => Array_} newtonSchulz five steps on a square
 * @property {(p: Array_, m: Array_, v: Array_, g: Array_) => Array_[]} adamw the first step: p, m and v afterwards
 * @property {(step: Function, state: Array_[], g: Array_) => Array_[]} update the state after a compiled step; the old one is gone, `g` is kept
 * @property {(decoder: import("./training.mjs").Decoder, optimizer: string) => import("./training.mjs").Training} training
 *
 * @typedef {any} Array_
 */

/** Runs the suite that was asked for. @param {Peer} peer */
export async function runPeer(peer) {
  const suites = {
    kernels: () => runCases(peer.framework, kernelCases(peer)),
    optim: () => runCases(peer.framework, optimCases(peer)),
    train: () => runTraining(peer),
  };
  const suite = suites[options.suite];
  if (suite) await suite();
  else {
    const missing = `no cases of "${options.suite}" are written for it`;
    console.log(JSON.stringify({ framework: peer.framework, missing }));
  }
  process.exit(0);
}

/** Calls of a function with arrays that stay alive. Results live until they are waited for: what nobody wants is never computed. */
function calls({ compile, keep, wait }, f, inputs) {
  const run = compile(f);
  const pending = [];
  return {
    call: () => pending.push(run(...inputs.map(keep))),
    settle: async () => {
      await wait(pending);
      for (const x of pending.splice(0)) x.dispose();
    },
    once: async (...given) => (await run(...(given.length > 0 ? given : inputs.map(keep)))).data(),
  };
}

const first = (x) => Array.from(x.slice(0, 1024));
const total = (list) => list.reduce((s, v) => s + v, 0);

function kernelCases(peer) {
  const { matmul, add, sumRows, sumColumns, softmax } = peer.kernels;
  const { squares, elements, rows } = sizes();
  const wide = [rows, 1024];

  /** A memory-bound case: `expected` gives the first elements of the result. */
  const streaming = (name, f, shapes, bytes, expected) => ({
    name,
    shape: shapes[0],
    bytes,
    prepare: async () => {
      const inputs = await Promise.all(shapes.map((shape, i) => peer.draw(i + 1, shape)));
      const { once, ...rest } = calls(peer, f, inputs);
      const error = async () => {
        const right = expected(...(await Promise.all(inputs.map(peer.read))));
        return listError((await once()).slice(0, right.length), right);
      };
      return { ...rest, error };
    },
  });

  return [
    ...squares.map((n) => ({
      name: "matmul",
      shape: [n, n, n],
      flops: 2 * n ** 3,
      bytes: 12 * n * n,
      prepare: async () => {
        const inputs = [await peer.draw(1, [n, n]), await peer.draw(2, [n, n])];
        const { once, ...rest } = calls(peer, matmul, inputs);
        const error = async () => productError(await peer.read(inputs[0]), await peer.read(inputs[1]), await once(), n);
        return { ...rest, error };
      },
    })),
    streaming("add", add, [[elements], [elements]], 12 * elements, (a, b) => first(a).map((v, i) => v + b[i])),
    streaming("sum of rows", sumRows, [wide], 4 * elements, (x) => [total(first(x))]),
    streaming("sum of columns", sumColumns, [wide], 4 * elements, (x) =>
      [0, 1, 2].map((j) => total(Array.from({ length: rows }, (_, i) => x[i * 1024 + j]))),
    ),
    streaming("softmax", softmax, [wide], 8 * elements, (x) => {
      const e = first(x).map(Math.exp);
      return e.map((v) => v / total(e));
    }),
  ];
}

function optimCases(peer) {
  const { elements, orthogonal } = sizes();
  return [
    {
      name: "adamw, one tensor",
      shape: [elements],
      bytes: 28 * elements,
      prepare: async () => {
        const g = await peer.draw(4, [elements]);
        let state = [await peer.draw(1, [elements]), peer.zeros([elements]), peer.zeros([elements])];
        const step = peer.compile(peer.adamw);
        const call = () => {
          state = peer.update(step, state, g);
        };
        const error = async () => {
          const [before, gradient] = [first(await peer.read(state[0])), first(await peer.read(g))];
          call();
          const right = before.map((p, i) => p - 0.01 * (gradient[i] / (Math.abs(gradient[i]) + 1e-8) + 0.1 * p));
          return listError(first(await peer.read(state[0])), right);
        };
        return { call, settle: () => peer.wait(state), error };
      },
    },
    ...orthogonal.map((n) => ({
      name: "newton-schulz keller x5",
      shape: [n, n],
      flops: 30 * n ** 3,
      bytes: 8 * n * n,
      prepare: async () => {
        const { once, ...rest } = calls(peer, (x) => peer.newtonSchulz(x, keller), [await peer.draw(1, [n, n])]);
        return { ...rest, error: async () => scaledIdentityError(await once(peer.threeTimesIdentity(n)), n) };
      },
    })),
  ];
}
