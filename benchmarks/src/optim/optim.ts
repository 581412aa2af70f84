// optim/optim.ts: `pnpm bench optim`.
import type { Context } from "../lib/context.ts";
import { runCases } from "../lib/runCases.ts";
import { runClip } from "./clip.ts";
import { newtonSchulzCases } from "./newtonSchulz.ts";
import { runUpdates } from "./update.ts";
import { updates } from "./updates.ts";

/** Optimizer steps, Newton-Schulz by itself, and what QK-Clip adds. */
export async function benchOptim(context: Context): Promise<void> {
  await runUpdates(context, updates(context.small));
  await runCases(context, newtonSchulzCases(context.small));
  if (context.precision === "f32") await runClip(context);
}
