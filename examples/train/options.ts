// options.ts: the command line of the main job, read and checked before anything else happens.
import { resolve } from "node:path";
import type { Packing } from "@mc/data";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";

/** A mistake of the person at the keyboard: told in one line, exit code 2. */
export class UsageError extends Error {
  override name = "UsageError";
}

export const optimizerNames = ["adamw", "muon", "muonclip"] as const;
export type OptimizerName = (typeof optimizerNames)[number];

/** Everything the job can be told, with the defaults filled in. */
export interface TrainOptions {
  steps: number;
  /** Undefined: a GPU where there is one, else the CPU. */
  device: "cpu" | "webgpu" | undefined;
  optimizer: OptimizerName;
  /** Peak learning rate, after the warm-up. */
  learningRate: number;
  /** Largest attention logit that QK-Clip leaves alone. */
  tau: number;
  seed: number;
  width: number;
  layers: number;
  heads: number;
  /** Experts of each layer but the first, besides the shared one. */
  experts: number;
  /** Absolute path of a Hugging Face config.json; undefined: Kimi K2 in miniature, of the sizes above. */
  config: string | undefined;
  /** How documents become sequences. */
  packing: Packing;
  /** Tokens a sequence. */
  context: number;
  /** Sequences a step. */
  batch: number;
  /** Absolute path of a text file; undefined: the World Factbook. */
  text: string | undefined;
  /** Absolute path of the run folder. */
  out: string;
  /** Show the live line. */
  progress: boolean;
}

// Measured on the World Factbook at the default sizes. At 0.02 a few heads pass a logit of 16, the default tau, between steps 115 and
// 200 (seeds 2 and 3), then all stay below it. With seed 1 single batches reach 17 late in the run as well.
const defaultLearningRate: { [K in OptimizerName]: number } = { adamw: 3e-3, muon: 2e-2, muonclip: 2e-2 };

/**
 * Reads the arguments after `--`.
 *
 * @param args the arguments, without program and script
 * @param from the folder that relative paths start at. Default: where npm was called, else the working directory
 * @throws UsageError for an unknown option, a value out of range, or values that do not go together
 */
export function parseOptions(
  args: readonly string[],
  from: string = process.env.INIT_CWD ?? process.cwd(),
): TrainOptions | { help: string } {
  let help = "";
  const command = describeCommand().configureOutput({
    writeOut: (text) => {
      help += text;
    },
    writeErr: () => {}, // the message travels with the error
  });
  try {
    command.parse([...args], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return { help };
    throw new UsageError(`${error.message.replace(/^error: /, "")}\n--help shows the options`);
  }

  const given = command.opts<Omit<TrainOptions, "learningRate" | "out"> & Partial<TrainOptions>>();
  if (given.config === undefined) checkHeads(given.width, given.heads);
  else checkNoSizes(command);
  return {
    ...given,
    device: given.device,
    learningRate: given.learningRate ?? defaultLearningRate[given.optimizer],
    config: given.config === undefined ? undefined : resolve(from, given.config),
    text: given.text === undefined ? undefined : resolve(from, given.text),
    out: resolve(from, given.out ?? `runs/${timestamp()}-${given.optimizer}`),
  };
}

function describeCommand(): Command {
  const command = new Command("npm start --")
    .usage("[options]")
    .description("Trains a small byte-level transformer and leaves metrics, weights and a report in a folder.")
    .exitOverride()
    .allowExcessArguments(false)
    .helpOption("--help", "show this text");
  const option = (flags: string, description: string) => new Option(flags, description);
  const options = [
    option("--steps <n>", "training steps").argParser(integer(1, 1_000_000)).default(700),
    option("--device <name>", "where to run (default: a GPU where there is one, else cpu)").choices(["cpu", "webgpu"]),
    option("--optimizer <name>", "how to train")
      .choices([...optimizerNames])
      .default("muonclip"),
    option("--learning-rate <x>", "peak learning rate (default: 0.02, adamw 0.003)").argParser(positive(10)),
    option("--tau <x>", "largest attention logit that QK-Clip leaves alone").argParser(positive(1e6)).default(16),
    option("--seed <n>", "decides weights, batches and sample")
      .argParser(integer(0, 2 ** 32 - 1))
      .default(2),
    option("--width <n>", "hidden size").argParser(integer(2, 8192)).default(64),
    option("--layers <n>", "transformer layers").argParser(integer(1, 128)).default(2),
    option("--heads <n>", "attention heads; they divide the width").argParser(integer(1, 128)).default(4),
    option("--experts <n>", "experts a layer, of which a token visits two; the first layer has none")
      .argParser(integer(1, 1024))
      .default(16),
    option(
      "--config <file>",
      "a Hugging Face config.json to take the model from, instead of the sizes above",
    ).argParser(nonEmpty),
    option("--packing <name>", "documents end to end, the same with masks between them, or each on its own")
      .choices(["chunks", "masked", "padded"] satisfies Packing[])
      .default("chunks"),
    option("--context <n>", "tokens a sequence").argParser(integer(2, 8192)).default(128),
    option("--batch <n>", "sequences a step").argParser(integer(1, 4096)).default(8),
    option("--text <file>", "a UTF-8 text file to train on (default: the World Factbook)").argParser(nonEmpty),
    option("--out <dir>", "run folder (default: runs/<time>-<optimizer>)").argParser(nonEmpty),
    option("--no-progress", "no live line"),
  ];
  for (const each of options) command.addOption(each);
  return command;
}

const sizeNames = ["width", "layers", "heads", "experts"] as const;

/** A configuration brings its sizes along. */
function checkNoSizes(command: Command): void {
  const given = sizeNames.filter((name) => command.getOptionValueSource(name) === "cli");
  if (given.length > 0) {
    const names = given.map((name) => `'--${name}'`).join(", ");
    throw new UsageError(`option '--config' brings the model's sizes along, so leave out ${names}`);
  }
}

/** Each head has an equal share of the width. */
function checkHeads(width: number, heads: number): void {
  if (width % heads !== 0) {
    throw new UsageError(`option '--heads' must divide the width, got ${heads} heads and width ${width}`);
  }
}

function integer(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < low || value > high) {
      throw new InvalidArgumentError(`It must be a whole number from ${low} to ${high}.`);
    }
    return value;
  };
}

function positive(high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === "" || !(value > 0 && value <= high)) {
      throw new InvalidArgumentError(`It must be a number above 0 and at most ${high}.`);
    }
    return value;
  };
}

function nonEmpty(text: string): string {
  if (text.trim() === "") throw new InvalidArgumentError("It must not be empty.");
  return text;
}

/** Local time as a folder name that sorts: 2025-03-01T14-05-09. */
function timestamp(now: Date = new Date()): string {
  const two = (n: number) => String(n).padStart(2, "0");
  const date = [now.getFullYear(), two(now.getMonth() + 1), two(now.getDate())].join("-");
  return `${date}T${[two(now.getHours()), two(now.getMinutes()), two(now.getSeconds())].join("-")}`;
}
