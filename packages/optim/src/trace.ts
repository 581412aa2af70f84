// trace.ts: momentum.
import { add, mul } from "@mc/tensor";
import { checkFraction } from "./checks.ts";
import { part, zerosOf, zip } from "./paths.ts";
import type { Params, Transform } from "./types.ts";

/** Options of `trace`. */
export interface TraceOptions {
  /** Decay mu of the accumulated updates, in [0, 1); default 0.9. */
  readonly momentum?: number;
  /** Look ahead: pass on mu*M + G instead of M. Default false. */
  readonly nesterov?: boolean;
}

/**
 * Momentum in sum form: M = mu*M + G, passed on as M, or as mu*M + G with Nesterov.
 * State: `momentum`.
 *
 * @throws ValueError if momentum is outside [0, 1)
 * @example chain(trace({ momentum: 0.9, nesterov: true }), scaleByLearningRate(0.01))
 */
export function trace({ momentum: mu = 0.9, nesterov = false }: TraceOptions = {}): Transform {
  checkFraction("trace", "momentum", mu);
  return {
    name: "trace",
    init: (params) => ({ momentum: zerosOf(params) }),
    update(updates, state) {
      const { momentum, direction } = accumulate("trace", updates, part(state, "momentum"), mu, nesterov);
      return { updates: direction, state: { momentum } };
    },
  };
}

/** M = mu*M + G, and what to follow: M, or mu*M + G with Nesterov. */
export function accumulate(
  op: string,
  updates: Params,
  old: Params,
  mu: number,
  nesterov: boolean,
): { momentum: Params; direction: Params } {
  const momentum = zip(op, updates, { momentum: old }, (G, { momentum: M }) => add(mul(M, mu), G));
  const direction = nesterov ? zip(op, updates, { momentum }, (G, { momentum: M }) => add(mul(M, mu), G)) : momentum;
  return { momentum, direction };
}
