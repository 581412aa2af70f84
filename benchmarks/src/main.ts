// main.ts: `pnpm bench kernels|train|moe|replay`: one JSON object a line.
import { parseArgs } from "node:util";
import { connect } from "@mc/tensor";
import { benchKernels } from "./kernels.ts";
import { benchMoe, moeSizes } from "./moe.ts";
import { benchReplay } from "./replay.ts";
import { benchTrain, models } from "./train.ts";

const usage = `Usage: pnpm bench kernels|train|moe|replay [options]

  --device cpu|webgpu      default: a GPU where there is one, else the CPU
  --large                  kernels: sizes that take long on a CPU as well
  --models ${models.map((m) => m.name).join(",")}   train: which models; default: all on a GPU, the first on a CPU
  --optimizers adamw,muon,muonclip
  --steps N                train, moe, replay: timed steps; default 20
  --list                   replay: the kernels of each step, counted by label`;

async function main(): Promise<number> {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      device: { type: "string" },
      large: { type: "boolean", default: false },
      models: { type: "string" },
      optimizers: { type: "string", default: "adamw,muon,muonclip" },
      steps: { type: "string", default: "20" },
      list: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  const [what] = positionals;
  if (values.help || !["kernels", "train", "moe", "replay"].includes(what ?? "")) {
    console.error(usage);
    return values.help ? 0 : 2;
  }
  if (what === "replay") {
    const chosen = values.models?.split(",") ?? ["10M"];
    await benchReplay({
      models: chosen,
      optimizers: values.optimizers.split(","),
      steps: Number(values.steps),
      kernels: values.list,
    });
    return 0;
  }
  const wanted = values.device;
  if (wanted !== undefined && wanted !== "cpu" && wanted !== "webgpu")
    throw new Error(`--device must be cpu or webgpu, got ${wanted}`);
  const device = await connect(wanted ? { device: wanted } : {});
  if (what === "kernels") await benchKernels(device, values.large);
  else if (what === "moe") await benchMoe(device, moeSizes(device), Number(values.steps));
  else {
    const fast = device.kind === "webgpu" && !device.software;
    const chosen = values.models?.split(",") ?? (fast ? models.map((m) => m.name) : [models[0]!.name]);
    await benchTrain(device, { models: chosen, optimizers: values.optimizers.split(","), steps: Number(values.steps) });
  }
  return 0;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(error instanceof Error ? error.message : String(error));
    process.exit(1);
  },
);
