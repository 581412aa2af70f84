// trainJaxjs.mjs: a training step in jax-js: forward, backward and optimizer inside one `jit`.
import { jit, nn, numpy as np, tree, valueAndGrad } from "@jax-js/jax";
import { keller } from "./common.mjs";
import { firstWeights, muonNames, rates, rotaryAngles, tokenIds } from "./training.mjs";

/** x / sqrt(mean(x^2) + eps) * gain */
const norm = (x, gain) => x.ref.div(np.sqrt(np.mean(np.square(x), -1, { keepdims: true }).add(1e-6))).mul(gain);

/** Halves a and b of each head, turned: a cos - b sin and b cos + a sin. */
function rotate(x, cos, sin) {
  const [a, b] = np.split(x, 2, -1);
  return np.concatenate([a.ref.mul(cos.ref).sub(b.ref.mul(sin.ref)), b.mul(cos).add(a.mul(sin))], -1);
}

/** Mean of logsumexp(logits) - logits[id]. Rows of `x` are tokens; every parameter is consumed once. */
function lossOf({ batch, tokens, vocabulary, width, layers, heads }, params, ids, cos, sin) {
  const split = (x) => x.reshape([batch, tokens, heads, width / heads]);
  let x = np.take(params.embedding, ids.ref, 0);
  for (let i = 0; i < layers; i++) {
    const w = (name) => params[`${i}.${name}`];
    const h = norm(x.ref, w("norm1"));
    const [q, k] = [w("query"), w("key")].map((m) => rotate(split(np.matmul(h.ref, m)), cos.ref, sin.ref));
    const v = split(np.matmul(h, w("value")));
    const attended = nn.dotProductAttention(q, k, v, { isCausal: true }).reshape([-1, width]);
    x = x.add(np.matmul(attended, w("out")));
    const up = np.matmul(norm(x.ref, w("norm2")), w("up"));
    x = x.add(np.matmul(nn.gelu(up, { approximate: false }), w("down")));
  }
  tree.dispose([cos, sin]);
  const logits = np.matmul(norm(x, params.norm), params.head);
  // `takeAlongAxis` would do, but its gradient does not compile: `jit` wants what a scatter reads in a buffer of its own
  const right = np.sum(logits.ref.mul(nn.oneHot(ids, vocabulary)), -1);
  return np.mean(nn.logsumexp(logits, -1).sub(right));
}

/** p, m and v after a step of AdamW; `bias` are 1 - 0.9^t and 1 - 0.999^t. */
export function adamw(p, m, v, g, rate, bias) {
  const m1 = m.mul(0.9).add(g.ref.mul(0.1));
  const v1 = v.mul(0.999).add(g.ref.mul(g).mul(0.001));
  const step = m1.ref.div(bias[0]).div(np.sqrt(v1.ref.div(bias[1])).add(1e-8));
  return [p.ref.sub(step.add(p.mul(0.1)).mul(rate)), m1, v1];
}

/** Five steps of X = a X + (b A + c A A) X, A = X X^T, from X = x / |x|, on the side that makes A small. */
export function newtonSchulz(x, [a, b, c]) {
  const tall = x.shape[0] > x.shape[1];
  if (tall) x = x.transpose();
  let X = x.ref.div(np.sqrt(np.sum(np.square(x))));
  for (let i = 0; i < 5; i++) {
    const A = np.matmul(X.ref, X.ref.transpose());
    const B = A.ref.mul(b).add(np.matmul(A.ref, A).mul(c));
    X = X.ref.mul(a).add(np.matmul(B, X));
  }
  return tall ? X.transpose() : X;
}

/** p and m after a step of Muon with Nesterov's momentum, of the size of AdamW's steps. */
function muon(p, m, g) {
  const m1 = m.mul(0.95).add(g.ref.mul(0.05));
  const step = newtonSchulz(m1.ref.mul(0.95).add(g.mul(0.05)), keller).mul(0.2 * Math.sqrt(Math.max(...p.shape)));
  return [p.ref.sub(step.add(p.mul(0.1)).mul(rates.muon)), m1];
}

/** @param {import("./training.mjs").Decoder} decoder @param {string} optimizer @returns {import("./training.mjs").Training} */
export function training(decoder, optimizer) {
  const byMuon = muonNames(decoder, optimizer);
  const angles = np.array(rotaryAngles(decoder)).reshape([decoder.tokens, 1, -1]);
  const [cos, sin] = [np.cos(angles.ref), np.sin(angles)];
  const ids = np.array(tokenIds(decoder), { dtype: np.int32 });

  // of each parameter p and m, and v with AdamW
  let state = Object.fromEntries(
    firstWeights(decoder).map(({ name, shape, values }) => {
      const moments = Array.from({ length: byMuon.has(name) ? 1 : 2 }, () => np.zeros(shape));
      return [name, [np.array(values).reshape(shape), ...moments]];
    }),
  );
  let t = np.array(0);

  const run = jit((state, t, ids, cos, sin) => {
    const params = Object.fromEntries(Object.entries(state).map(([name, [p]]) => [name, p.ref]));
    const [loss, grads] = valueAndGrad((params) => lossOf(decoder, params, ids, cos, sin))(params);
    const next = t.add(1);
    const bias = [0.9, 0.999].map((beta) =>
      np
        .exp(next.ref.mul(Math.log(beta)))
        .mul(-1)
        .add(1),
    );
    const updated = Object.entries(state).map(([name, [p, m, v]]) => [
      name,
      byMuon.has(name) ? muon(p, m, grads[name]) : adamw(p, m, v, grads[name], rates.adamw, tree.ref(bias)),
    ]);
    tree.dispose(bias);
    return [loss, Object.fromEntries(updated), next];
  });

  return {
    step() {
      const [loss, newState, newT] = run(state, t, ids.ref, cos.ref, sin.ref);
      [state, t] = [newState, newT];
      return loss;
    },
    parameters: () => tree.leaves(state),
    dispose() {
      tree.dispose([state, t, ids, cos, sin]);
      run.dispose();
    },
  };
}
