// trainTfjs.mjs: a training step in TensorFlow.js: `variableGrads` and the updates of the variables inside one `tidy`. Its Adam has
// no weight decay and no Muon comes with it: both are written out, as its users would.
import * as tf from "@tensorflow/tfjs-core";
import "./gradients.mjs";
import { keller } from "./common.mjs";
import { firstWeights, muonNames, rates, rotaryAngles, tokenIds } from "./training.mjs";

/** x / sqrt(mean(x^2) + eps) * gain */
const norm = (x, gain) => tf.mul(tf.mul(x, tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), 1e-6))), gain);

/** x / 2 (1 + erf(x / sqrt(2))) */
const gelu = (x) => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1));

/** Halves a and b of each head, turned: a cos - b sin and b cos + a sin. */
function rotate(x, cos, sin) {
  const [a, b] = tf.split(x, 2, -1);
  return tf.concat([tf.sub(tf.mul(a, cos), tf.mul(b, sin)), tf.add(tf.mul(b, cos), tf.mul(a, sin))], -1);
}

/** Mean cross entropy of `ids` [batch * tokens] from themselves. Rows of `x` are tokens. */
function lossOf({ batch, tokens, vocabulary, width, layers, heads }, params, ids, cos, sin, mask) {
  const size = width / heads;
  const split = (x) => tf.transpose(tf.reshape(x, [batch, tokens, heads, size]), [0, 2, 1, 3]);
  const labels = tf.oneHot(ids, vocabulary);
  // its backend for the CPU has no kernel for the gradient of `gather`
  let x = tf.getBackend() === "wasm" ? tf.matMul(labels, params.embedding) : tf.gather(params.embedding, ids);
  for (let i = 0; i < layers; i++) {
    const w = (name) => params[`${i}.${name}`];
    const h = norm(x, w("norm1"));
    const [q, k] = [w("query"), w("key")].map((m) => rotate(split(tf.matMul(h, m)), cos, sin));
    const scores = tf.add(tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(size)), mask);
    const attended = tf.matMul(tf.softmax(scores), split(tf.matMul(h, w("value"))));
    const rows = tf.reshape(tf.transpose(attended, [0, 2, 1, 3]), [-1, width]);
    x = tf.add(x, tf.matMul(rows, w("out")));
    x = tf.add(x, tf.matMul(gelu(tf.matMul(norm(x, w("norm2")), w("up"))), w("down")));
  }
  return tf.losses.softmaxCrossEntropy(labels, tf.matMul(norm(x, params.norm), params.head));
}

/** p, m and v after a step of AdamW; `bias` are 1 - 0.9^t and 1 - 0.999^t. */
export function adamw(p, m, v, g, rate, bias) {
  const m1 = tf.add(tf.mul(m, 0.9), tf.mul(g, 0.1));
  const v1 = tf.add(tf.mul(v, 0.999), tf.mul(tf.square(g), 0.001));
  const step = tf.div(tf.div(m1, bias[0]), tf.add(tf.sqrt(tf.div(v1, bias[1])), 1e-8));
  return [tf.sub(p, tf.mul(tf.add(step, tf.mul(p, 0.1)), rate)), m1, v1];
}

/** Five steps of X = a X + (b A + c A A) X, A = X X^T, from X = x / |x|, on the side that makes A small. */
export function newtonSchulz(x, [a, b, c]) {
  const tall = x.shape[0] > x.shape[1];
  let X = tf.div(tall ? tf.transpose(x) : x, tf.norm(x));
  for (let i = 0; i < 5; i++) {
    const A = tf.matMul(X, X, false, true);
    const B = tf.add(tf.mul(A, b), tf.mul(tf.matMul(A, A), c));
    X = tf.add(tf.mul(X, a), tf.matMul(B, X));
  }
  return tall ? tf.transpose(X) : X;
}

/** p and m after a step of Muon with Nesterov's momentum, of the size of AdamW's steps. */
function muon(p, m, g) {
  const m1 = tf.add(tf.mul(m, 0.95), tf.mul(g, 0.05));
  const direction = newtonSchulz(tf.add(tf.mul(m1, 0.95), tf.mul(g, 0.05)), keller);
  const step = tf.mul(direction, 0.2 * Math.sqrt(Math.max(...p.shape)));
  return [tf.sub(p, tf.mul(tf.add(step, tf.mul(p, 0.1)), rates.muon)), m1];
}

/** @param {import("./training.mjs").Decoder} decoder @param {string} optimizer @returns {import("./training.mjs").Training} */
export function training(decoder, optimizer) {
  const { tokens } = decoder;
  const byMuon = muonNames(decoder, optimizer);
  const constants = tf.tidy(() => {
    const angles = tf.tensor(rotaryAngles(decoder), [tokens, decoder.width / decoder.heads / 2]);
    const seen = tf.linalg.bandPart(tf.ones([tokens, tokens]), -1, 0);
    return [tf.tensor1d(tokenIds(decoder), "int32"), tf.cos(angles), tf.sin(angles), tf.mul(tf.sub(1, seen), -1e9)];
  });

  // of each parameter p and m, and v with AdamW
  const state = tf.tidy(() =>
    Object.fromEntries(
      firstWeights(decoder).map(({ name, shape, values }) => {
        const moments = Array.from({ length: byMuon.has(name) ? 1 : 2 }, () => tf.variable(tf.zeros(shape), false));
        return [name, [tf.variable(tf.tensor(values, shape)), ...moments]];
      }),
    ),
  );
  const params = Object.fromEntries(Object.entries(state).map(([name, [p]]) => [name, p]));
  let t = 0;

  return {
    step: () =>
      tf.tidy(() => {
        t++;
        const { value, grads } = tf.variableGrads(() => lossOf(decoder, params, ...constants));
        const bias = [1 - 0.9 ** t, 1 - 0.999 ** t];
        for (const [name, [p, m, v]] of Object.entries(state)) {
          const g = grads[p.name];
          const next = byMuon.has(name) ? muon(p, m, g) : adamw(p, m, v, g, rates.adamw, bias);
          next.forEach((x, i) => {
            state[name][i].assign(x);
          });
        }
        return value;
      }),
    parameters: () => Object.values(params),
    dispose: () => tf.dispose([state, constants]),
  };
}
