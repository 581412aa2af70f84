// sweepF32.ts: the f32 half of `npm run bench -- sweep`: every tile that a GPU's products can run on, forced in turn, each
// product checked before it is timed. What `chooseTile` chooses by was chosen by this.
import { matmulVariants, type Variants } from "@mc/tensor";
import { products } from "./kernels/products.ts";
import { type Case, caseName } from "./lib/case.ts";
import { type Context, withFreshDevice } from "./lib/context.ts";
import { runCases } from "./lib/runCases.ts";

/** Squares in all modes, off the tile, the layers of GPT-2 with their gradients, and shapes of few elements or long sums. */
const shapes = [
  ...["matmul [512", "[1024, 1024, 1024]", "[2048, 2048, 2048]", "[4096, 4096, 4096]"],
  ...["matmul [1000", "matmul [2049", "matmul [4095", "matmul A B^T [4097"],
  ...["gpt2 qkv", "gpt2 proj ", "gpt2 fc dW", "gpt2 head forward", "matmul heads", "matmul tall", "matmul split-K"],
  "newton-schulz",
];

/** Shapes that leave most of a GPU idle unless k is cut. */
const fewElements = ["matmul [512", "[1024, 1024, 1024]", "gpt2 proj dW", "matmul tall", "matmul split-K"];

const tiles = matmulVariants.filter((name) => /\d/.test(name));

const anyOf =
  (texts: readonly string[]) =>
  ({ name, shape }: Case): boolean =>
    texts.some((text) => caseName(name, shape).includes(text));

/** Checks and times every variant on every shape that suits it; `--filter` takes names and shapes. */
export async function sweepF32(context: Context): Promise<void> {
  const all = context.small ? products(true).filter(anyOf(["[128, 128, 128]"])) : products(false).filter(anyOf(shapes));
  const settings: { variants: Variants; cases: readonly Case[] }[] = [
    ...tiles.map((matmul) => ({ variants: { matmul }, cases: all })),
    ...tiles.flatMap((name) =>
      [2, 4, 8, 16].map((slices) => ({
        variants: { matmul: name, slices },
        cases: context.small ? all : all.filter(anyOf(fewElements)),
      })),
    ),
  ];
  for (const { variants, cases } of settings)
    await withFreshDevice({ ...context.connection, variants }, (device) => runCases({ ...context, device }, cases));
}
