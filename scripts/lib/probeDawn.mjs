// probeDawn.mjs: prints "adapter: ..." if Dawn finds one in this process's environment. A process of its own, because a broken
// driver may end it, and because the dynamic loader reads its variables only when a process starts.
import { create } from "webgpu";

const gpu = create([]);
const adapter = await gpu.requestAdapter();
if (adapter)
  console.log(
    `adapter: ${[adapter.info.vendor, adapter.info.description || adapter.info.architecture].filter(Boolean).join(", ")}`,
  );
// `gpu` must outlive the adapter: Dawn ends the process when it is collected first.
process.exit(adapter && gpu ? 0 : 1);
