// main.ts: `npm run bench -- kernels|optim|train|verify|moe|replay|memory|sweep`: checks, times and prints; exit code 1 if a result is wrong.
import type { ConnectOptions } from "@mc/tensor";
import { kernelCases } from "./kernels/kernels.ts";
import { type Context, withFreshDevice } from "./lib/context.ts";
import { describeMachine } from "./lib/machine.ts";
import { startReport, views } from "./lib/report.ts";
import { runCases } from "./lib/runCases.ts";
import { benchMemory } from "./memory.ts";
import { benchMoe } from "./moe.ts";
import { benchOptim } from "./optim/optim.ts";
import { type Options, readOptions, type Suite, usage } from "./options.ts";
import { runPeers } from "./peers.ts";
import { benchProfile } from "./profile.ts";
import { benchReplay } from "./replay.ts";
import { sweep } from "./sweep.ts";
import { benchTrain } from "./train/train.ts";
import { verify } from "./verify/verify.ts";

const commands: Readonly<Record<Suite, (context: Context, options: Options) => Promise<void>>> = {
  kernels: (context) => runCases(context, kernelCases(context.small)),
  optim: benchOptim,
  train: benchTrain,
  verify,
  moe: benchMoe,
  replay: benchReplay,
  profile: benchProfile,
  sweep,
  memory: benchMemory,
};

/** Runs one sub-command and resolves to the exit code. @param print - where lines go; default standard output */
export async function bench(args: readonly string[], print?: (text: string) => void): Promise<number> {
  const options = readOptions(args);
  if (!options) {
    (print ?? console.log)(usage);
    return 0;
  }
  const { suite, precision, toggles } = options;
  const connection: ConnectOptions = {
    ...(options.device && { device: options.device }),
    ...(toggles.length > 0 && { toggles }),
    ...(suite === "profile" && { timestamps: "exact" as const }),
    ...(precision === "f16" && { matmulPrecision: "f16" as const }),
  };
  // these run on devices of their own, which compute nothing, unless the GPU is asked for
  const context = await withFreshDevice(
    suite === "memory" || (suite === "replay" && options.device !== "webgpu") ? { device: "cpu" } : connection,
    async (device) => {
      const machine = await describeMachine(device, options);
      const { json, peers } = options;
      const report = startReport({ json, machine, view: views[suite], peers, ...(print && { print }) });
      const context: Context = {
        device,
        // as it turned out: a device that was found once is asked for by its kind
        connection: { ...connection, device: device.kind },
        precision,
        small: device.kind === "cpu" || device.software,
        budget: options.budget,
        wanted: (name) => name.includes(options.filter),
        peaks: machine.peaks ?? undefined,
        report,
      };
      await commands[suite](context, options);
      return context;
    },
  );
  // our device is given back by now: the peers have the machine to themselves
  if (options.peers) await runPeers(context, options);
  return context.report.failures > 0 ? 1 : 0;
}
