// lib/attentionOracle.ts: causal attention and its gradients in double precision, as plain loops.

/** Causal attention of one head in doubles: o [T, D], and with dO the gradients of q, k and v. */
export function attentionOracle(
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  v: ArrayLike<number>,
  tokens: number,
  features: number,
  dO?: ArrayLike<number>,
) {
  const make = (): Float64Array => new Float64Array(tokens * features);
  const [o, dq, dk, dv] = [make(), make(), make(), make()];
  const scale = 1 / Math.sqrt(features);
  const dot = (a: ArrayLike<number>, i: number, b: ArrayLike<number>, j: number): number => {
    let sum = 0;
    for (let f = 0; f < features; f++) sum += a[i * features + f]! * b[j * features + f]!;
    return sum;
  };
  const addTo = (to: Float64Array, i: number, factor: number, from: ArrayLike<number>, j: number): void => {
    for (let f = 0; f < features; f++) to[i * features + f]! += factor * from[j * features + f]!;
  };
  for (let i = 0; i < tokens; i++) {
    const s = Array.from({ length: i + 1 }, (_, j) => scale * dot(q, i, k, j));
    const top = s.reduce((a, b) => Math.max(a, b));
    const p = s.map((x) => Math.exp(x - top));
    const total = p.reduce((a, b) => a + b);
    for (let j = 0; j <= i; j++) addTo(o, i, p[j]! / total, v, j);
    if (!dO) continue;
    const delta = dot(dO, i, o, i);
    for (let j = 0; j <= i; j++) {
      const weight = p[j]! / total;
      const dS = weight * (dot(dO, i, v, j) - delta) * scale;
      addTo(dv, j, weight, dO, i);
      addTo(dq, i, dS, k, j);
      addTo(dk, j, dS, q, i);
    }
  }
  return { o, dq, dk, dv };
}
