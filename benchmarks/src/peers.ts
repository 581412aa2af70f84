// peers.ts: placeholder
import type { Context } from "./lib/context.ts";
export async function runPeers(_: Context, __: string): Promise<void> {}
