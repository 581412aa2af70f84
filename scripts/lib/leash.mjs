// leash.mjs: loaded into a child before its program. Should the parent die without a word, the child is interrupted, as if by Ctrl-C.
process.on("disconnect", () => process.kill(process.pid, "SIGINT"));
process.channel?.unref(); // waiting for that must not keep a finished program alive
