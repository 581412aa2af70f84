// moe/mixtureOfExperts.ts: a dropless mixture of SwiGLU experts.
import {
  add,
  broadcastTo,
  cast,
  expandDims,
  foldIn,
  greaterEqual,
  less,
  logicalAnd,
  mul,
  normal,
  reshape,
  sliceAxis,
  sub,
  sum,
  type Tensor,
  take,
} from "@mc/tensor";
import { checkPositive } from "../check.ts";
import { type SwigluParams, swigluMlp } from "../feedForward.ts";
import { blocksOf, joinRoles, type Layer, type Roles } from "../layer.ts";
import { swiglu } from "../swiglu.ts";
import { groupedMatmul } from "./groupedMatmul.ts";
import { permuteRows } from "./permuteRows.ts";
import { type RouterOptions, type RouterParams, router } from "./router.ts";
import { type SortedAssignments, sortByExpert } from "./sortByExpert.ts";

/** Parameters of `mixtureOfExperts`. */
export type MoeParams = {
  router: RouterParams;
  experts: {
    /** [E, 2F, D]; of each expert the rows of the gate, then those of the linear branch. */
    gateUp: Tensor;
    /** [E, D, F]. */
    down: Tensor;
  };
  /** The experts that every token visits, as one MLP; absent if there are none. */
  shared?: SwigluParams;
};

/** Options of `mixtureOfExperts`, those of its router included. */
export interface MoeOptions extends RouterOptions {
  /** Width inside an expert, F. */
  readonly intermediateSize: number;
  /** Experts that every token visits: one SwiGLU of `numSharedExperts * F`; default 0. */
  readonly numSharedExperts?: number;
  /** Standard deviation of the initial weights that read x; default `1 / sqrt(D)`. */
  readonly std?: number;
  /** The same for those that write the output; default 1 over the square root of what they read. */
  readonly outputStd?: number;
}

/** What happened to the N tokens of a call. All but `loss` are metrics, without gradient. */
export interface Routing {
  /** i32 [E]: assignments of each expert; their sum is N * k. */
  readonly load: Tensor;
  /** f32 scalar, nats: mean entropy of the tokens' normalised scores; log E when the router does not care. */
  readonly entropy: Tensor;
  /** i32 scalar: assignments that did not reach their expert. Always 0: it is counted, not assumed. */
  readonly dropped: Tensor;
  /** f32 scalar: the configured balance losses times their coefficients, to be added to the loss; the constant 0 if there are none. */
  readonly loss: Tensor;
  /** i32 [N, k]: the chosen experts, the best first. */
  readonly experts: Tensor;
}

/** What `mixtureOfExperts` gives. */
export interface MoeResult {
  /** f32, the shape of x. */
  readonly output: Tensor;
  readonly routing: Routing;
}

/**
 * A mixture of SwiGLU experts: `y = sum over the token's experts e of w_e down_e(silu(gate_e(x)) * up_e(x))`, plus the shared
 * experts' output. Every token visits all of its k experts (dropless): assignments are sorted by expert on the device, each
 * expert multiplies its rows, and each token gathers its own back in the order of its choices. All shapes are static, nothing
 * is read back, and results are the same in every run. The work follows k and not the number of experts. An expert without
 * tokens gets a gradient of exactly zero.
 *
 * @throws ValueError for options that do not fit together; at `apply`, ShapeError if x is not [..., T, D]
 * @example
 * const moe = mixtureOfExperts({ features: 8, intermediateSize: 4, numExperts: 6, numExpertsPerToken: 2, numSharedExperts: 1 });
 * const { output, routing } = moe.apply(moe.init(key(1)), ones([2, 5, 8])); // output: shape [2, 5, 8]; routing.load: [6]
 */
export function mixtureOfExperts(options: MoeOptions): Layer<MoeParams, [x: Tensor], MoeResult> {
  const { features, intermediateSize, numExperts, numExpertsPerToken: k, numSharedExperts = 0 } = options;
  const { std = 1 / Math.sqrt(features), outputStd = 1 / Math.sqrt(intermediateSize) } = options;
  const gate = router(options);
  checkPositive("mixtureOfExperts", "intermediateSize", intermediateSize);
  const shared =
    numSharedExperts > 0
      ? swigluMlp({
          features,
          intermediateSize: numSharedExperts * intermediateSize,
          std,
          ...(options.outputStd && { outputStd: options.outputStd }),
        })
      : undefined;
  const expertRoles: Roles = {
    gateUp: { role: "experts", blocks: blocksOf([intermediateSize, intermediateSize]) },
    down: { role: "experts" },
  };
  return {
    init: (key) => ({
      router: gate.init(foldIn(key, 0)),
      experts: {
        gateUp: normal(foldIn(key, 1), [numExperts, 2 * intermediateSize, features], { std }),
        down: normal(foldIn(key, 2), [numExperts, features, intermediateSize], { std: outputStd }),
      },
      ...(shared && { shared: shared.init(foldIn(key, 3)) }),
    }),
    apply: (params, x) => {
      const { experts, weights, loss, entropy } = gate.apply(params.router, x);
      const sorted = sortByExpert(experts, numExperts);
      const { offsets, order, place } = sorted;
      const tokens = experts.shape[0]!;

      // a row for each assignment, in the order of the experts; a token's row is not copied before it is read
      const rows = broadcastTo(reshape(x, [tokens, 1, features]), [tokens, k, features]);
      const visiting = permuteRows(reshape(rows, [tokens * k, features]), order, place);
      const inside = swiglu(groupedMatmul(visiting, params.experts.gateUp, offsets));
      const leaving = groupedMatmul(inside, params.experts.down, offsets);

      const back = reshape(permuteRows(leaving, place, order), [tokens, k, features]);
      const combined = reshape(sum(mul(back, expandDims(weights, 2)), { axis: 1 }), x.shape);
      return {
        output: shared && params.shared ? add(combined, shared.apply(params.shared, x)) : combined,
        routing: {
          load: sub(sliceAxis(offsets, 0, 1, numExperts + 1), sliceAxis(offsets, 0, 0, numExperts)),
          entropy,
          dropped: countDropped(experts, sorted),
          loss,
          experts,
        },
      };
    },
    roles: joinRoles({ router: gate.roles, experts: expertRoles, ...(shared && { shared: shared.roles }) }),
  };
}

/** Assignments whose place is not among those of their expert. */
function countDropped(experts: Tensor, { offsets, place }: SortedAssignments): Tensor {
  const expert = reshape(experts, [-1]);
  const arrived = logicalAnd(greaterEqual(place, take(offsets, expert)), less(place, take(offsets, add(expert, 1))));
  return sub(expert.size, sum(cast(arrived, "i32")));
}
