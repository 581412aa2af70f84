// kernels/kernels.ts: `pnpm bench kernels`.
import type { Case } from "../lib/case.ts";
import { layers } from "./layers.ts";
import { memory } from "./memory.ts";
import { products } from "./products.ts";

/** Every kernel case that suits a device: `small` for CPUs. */
export const kernelCases = (small: boolean): Case[] => [
  ...products(small),
  ...memory(small ? 2 ** 18 : 2 ** 24),
  ...layers(small),
];
