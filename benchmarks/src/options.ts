// options.ts: the command line of the benchmarks.
import { parseArgs } from "node:util";
import type { MatmulPrecision } from "@mc/tensor";
import { models, optimizerNames } from "./train/models.ts";

/** Sub-commands that measure. */
export const suites = ["kernels", "optim", "train", "verify", "moe", "replay", "memory", "profile", "sweep"] as const;
/** A sub-command that measures. */
export type Suite = (typeof suites)[number];

/** What was asked for. */
export interface Options {
  readonly suite: Suite;
  readonly json: boolean;
  readonly peers: boolean;
  readonly filter: string;
  readonly device: "cpu" | "webgpu" | undefined;
  readonly precision: MatmulPrecision;
  readonly toggles: readonly string[];
  readonly budget: number;
  readonly machine: string | undefined;
  readonly models: readonly string[] | undefined;
  readonly optimizers: readonly string[] | undefined;
  readonly steps: number;
  readonly list: boolean;
  readonly updates: boolean;
}

/** What `--help` prints. */
export const usage = `Usage: npm run bench -- ${suites.join("|")} [options]
       npm run bench -- tables             writes the tables of benchmarks/README.md from benchmarks/results
       npm run bench -- bundle --out DIR   a folder that runs the benchmarks where there is no network

       npm run bench -- picture RESULTS SVG [NAME]   draws a profile of a file of profile --json

  --json                   one JSON object a line, the machine first; default: a table
  --filter TEXT            only cases whose name or shape contains it
  --device cpu|webgpu      default: a GPU where there is one, else the CPU; replay: a device that computes nothing, else webgpu
  --precision f32|f16      of matrix products; f16 needs tensor cores; default f32
  --toggles a,b            Dawn features, for example disable_robustness
  --budget SECONDS         time for a case; default 0.25
  --machine NAME           the machine's name in the results, where it does not say it itself
  --peers                  kernels, optim, train: also time jax-js, TensorFlow.js and PyTorch, where the machine has them
  --models ${models.map((m) => m.name).join(",")}   train, replay, memory: which; default: all on a GPU, the first on a CPU
  --optimizers ${optimizerNames.join(",")}
  --steps N                train: most timed steps; moe, replay, profile: timed steps; default 20
  --list                   replay: the kernels of each step, counted by label
  --updates                profile: the optimizer steps of optim instead of training steps`;

/** Reads the command line. @returns undefined if it asks for help @throws Error for anything it does not know */
export function readOptions(args: readonly string[]): Options | undefined {
  const { positionals, values } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      json: { type: "boolean", default: false },
      peers: { type: "boolean", default: false },
      filter: { type: "string", default: "" },
      device: { type: "string" },
      precision: { type: "string", default: "f32" },
      toggles: { type: "string" },
      budget: { type: "string", default: "0.25" },
      machine: { type: "string" },
      models: { type: "string" },
      optimizers: { type: "string" },
      steps: { type: "string", default: "20" },
      list: { type: "boolean", default: false },
      updates: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return undefined;
  const [suite] = positionals;
  return {
    suite: oneOf("the first argument", suite, suites),
    json: values.json,
    peers: values.peers,
    filter: values.filter,
    device: values.device === undefined ? undefined : oneOf("--device", values.device, ["cpu", "webgpu"] as const),
    precision: oneOf("--precision", values.precision, ["f32", "f16"] as const),
    toggles: values.toggles?.split(",") ?? [],
    budget: positive("--budget", values.budget),
    machine: values.machine,
    models: values.models?.split(",").map((name) =>
      oneOf(
        "--models",
        name,
        models.map((m) => m.name),
      ),
    ),
    optimizers: values.optimizers?.split(",").map((name) => oneOf("--optimizers", name, optimizerNames)),
    steps: positive("--steps", values.steps),
    list: values.list,
    updates: values.updates,
  };
}

function oneOf<T extends string>(what: string, value: string | undefined, known: readonly T[]): T {
  const found = known.find((k) => k === value);
  if (!found) throw new Error(`bench: ${what} must be ${known.join(", ")}, got ${value ?? "none"}; see --help`);
  return found;
}

function positive(what: string, text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new Error(`bench: ${what} must be a positive number, got ${text}`);
  return value;
}
