// rope.ts: rotary position embedding (Su et al. 2021, arXiv:2104.09864).
import {
  add,
  type Device,
  expandDims,
  flip,
  mul,
  reshape,
  ShapeError,
  type Tensor,
  take,
  ValueError,
} from "@mc/tensor";
import { formatShape } from "./check.ts";
import { hostTable } from "./hostTable.ts";
import { type RopeScaling, ropeFrequencies, ropeMagnitude } from "./ropeScaling.ts";

/** How rotary embedding turns pairs of features. */
export interface RopeOptions {
  /** Base of the wavelengths; default 10000. */
  readonly theta?: number;
  /** Which features form pair i: "half" (Llama): i and i + D/2, the default; "interleaved" (GPT-J): 2i and 2i + 1. */
  readonly pairing?: "half" | "interleaved";
  /** How the wavelengths are stretched, and with YaRN the vectors; default null. */
  readonly scaling?: RopeScaling | null;
  /**
   * Position of each token, i32 [B, T]; default 0, 1, ..., T-1 in every row.
   * Positions outside [0, maxPositions) give NaN.
   */
  readonly positions?: Tensor;
  /** Bound of `positions`; default T. */
  readonly maxPositions?: number;
  /** Axis of the tokens; default -2. The batch of `positions` is axis 0, and the features are always the last axis. */
  readonly sequenceAxis?: number;
}

/**
 * Turns each pair of features (a, b) of a token at position p by the angle `p * theta^(-2i/D)`, i the number of the pair:
 * (a, b) -> (a cos - b sin, b cos + a sin). The dot product of two turned vectors depends on the distance of their positions.
 *
 * @param x - queries or keys, [B, H, T, D] (or another axis order, see `sequenceAxis`)
 * @throws ValueError if D is odd, ShapeError if `positions` is not [B, T]
 * @example rope(ones([1, 2, 8, 16]), { theta: 50000 }) // shape [1, 2, 8, 16]
 */
export function rope(
  x: Tensor,
  { theta = 10000, pairing = "half", scaling = null, positions, maxPositions, sequenceAxis = -2 }: RopeOptions = {},
): Tensor {
  const size = x.shape.at(-1)!;
  if (size % 2 !== 0)
    throw new ValueError(`rope: the number of features must be even, got shape ${formatShape(x.shape)}`);
  const axis = sequenceAxis < 0 ? sequenceAxis + x.ndim : sequenceAxis;
  const length = x.shape[axis]!;
  if (positions && (positions.ndim !== 2 || positions.shape[0] !== x.shape[0] || positions.shape[1] !== length)) {
    throw new ShapeError(
      `rope: positions must be ${formatShape([x.shape[0]!, length])}, got ${formatShape(positions.shape)}`,
    );
  }
  const rows = positions ? (maxPositions ?? length) : length;
  const { cos, sin } = ropeTable(x.device, [rows, size], { theta, pairing, scaling });
  // [T, D] or [B, T, D], with ones for the axes between tokens and features
  const align = (t: Tensor): Tensor => {
    let out = positions ? take(t, positions) : t;
    for (let a = axis + 1; a < x.ndim - 1; a++) out = expandDims(out, -2);
    if (positions) for (let a = 1; a < axis; a++) out = expandDims(out, 1);
    return out;
  };
  return add(mul(x, align(cos)), mul(partner(x, pairing), align(sin)));
}

/** The other feature of each pair, in place. */
function partner(x: Tensor, pairing: "half" | "interleaved"): Tensor {
  const half = x.shape.at(-1)! / 2;
  const lead = x.shape.slice(0, -1);
  const pairs =
    pairing === "half" ? flip(reshape(x, [...lead, 2, half]), -2) : flip(reshape(x, [...lead, half, 2]), -1);
  return reshape(pairs, x.shape);
}

interface Table {
  /** [length, D]: cos of the angle, for both features of a pair. */
  readonly cos: Tensor;
  /** [length, D]: sin of the angle, negative for the first feature of a pair. */
  readonly sin: Tensor;
}

function ropeTable(
  device: Device,
  shape: readonly [length: number, size: number],
  rotation: Required<Pick<RopeOptions, "theta" | "pairing" | "scaling">>,
): Table {
  const { theta, pairing, scaling } = rotation;
  const [, size] = shape;
  const frequencies = ropeFrequencies(size, theta, scaling);
  const magnitude = ropeMagnitude(scaling);
  const pairOf = (i: number): number => (pairing === "half" ? i % (size / 2) : Math.floor(i / 2));
  const isFirst = (i: number): boolean => (pairing === "half" ? i < size / 2 : i % 2 === 0);
  const name = JSON.stringify([size, rotation]);
  return {
    cos: hostTable(device, `rope cos ${name}`, shape, (p, i) => magnitude * Math.cos(p * frequencies[pairOf(i)]!)),
    sin: hostTable(
      device,
      `rope sin ${name}`,
      shape,
      (p, i) => (isFirst(i) ? -1 : 1) * magnitude * Math.sin(p * frequencies[pairOf(i)]!),
    ),
  };
}
