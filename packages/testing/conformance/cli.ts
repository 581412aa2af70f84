// cli.ts: the command line of the conformance tool.
import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { connect, type Device, McError, writeSafetensors } from "@mc/tensor";
import { type Folder, openFolder } from "./folder.ts";
import { runModel } from "./model.ts";
import { runOptim } from "./optim.ts";
import { formatChecks, type Outcome, passes } from "./report.ts";
import { runRoundtrip } from "./roundtrip.ts";
import { modelFolderOf, runTrain } from "./train.ts";

const usage = `npm run conformance -- [options] FOLDER...

Computes what each folder of reference numbers holds, prints every error beside its bound, and exits with 1 if one is past it.
A folder holds config.json (of a GPT-2, Llama, Mistral, Mixtral, Qwen 3 or DeepSeek-V3), model.safetensors or its shards, and
case.safetensors; or optim.json and optim.safetensors; or train.json and train.safetensors.

  --device cpu|webgpu       where to compute in single precision (default cpu)
  --precision f32|f64|both  default both; f64 is always computed on the CPU
  --write DIR               store the computed tensors as DIR/<folder>/<case|train|optim>.safetensors, in the run's
                            precision; with both, float64 there and single precision beside it as <...>.f32.safetensors
  --roundtrip               instead, read each folder's config and weights, write them again, and compare names, element
                            types, shapes and bytes of all tensors and what is read from both configs; no case.safetensors is
                            needed; --write DIR keeps what was written, as DIR/<folder> (with both precisions, single
                            precision as DIR/<folder>.f32)
  --help                    this text`;

/** A mistake in the command line: exit code 2. */
class UsageError extends Error {}

interface Options {
  readonly device: "cpu" | "webgpu";
  readonly precisions: readonly ("f32" | "f64")[];
  readonly write: string | undefined;
  readonly roundtrip: boolean;
  readonly folders: readonly Folder[];
}

function choice<T extends string>(option: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((a) => a === value);
  if (found === undefined) throw new UsageError(`--${option} must be ${allowed.join(", ")}, got "${value}"`);
  return found;
}

/** Reads the command line; undefined when only help was asked for. */
function readOptions(args: readonly string[], log: Output["log"]): Options | undefined {
  const { values, positionals } = parse(args);
  if (values.help) return undefined;
  const device = choice("device", values.device ?? "cpu", ["cpu", "webgpu"]);
  const precision = choice("precision", values.precision ?? "both", ["f32", "f64", "both"]);
  if (device === "webgpu" && precision === "f64")
    throw new UsageError("--precision f64 exists on the CPU only; leave out --device webgpu, or use --precision both");
  const roundtrip = values.roundtrip ?? false;
  const isFile = (given: string): boolean => statSync(given, { throwIfNoEntry: false })?.isFile() ?? false;
  for (const given of positionals.filter(isFile)) log(`${given}: a file, not a folder; left out`);
  const folders = positionals
    .filter((given) => !isFile(given))
    .map((given) => {
      try {
        const folder = openFolder(given, { onlyWeights: roundtrip });
        if (folder.kind === "train") openFolder(modelFolderOf(folder.path));
        return folder;
      } catch (error) {
        throw new UsageError(messageOf(error));
      }
    });
  if (folders.length === 0) throw new UsageError("name at least one FOLDER");
  const precisions = precision === "both" ? (["f64", "f32"] as const) : [precision];
  return { device, precisions, write: values.write, roundtrip, folders };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        device: { type: "string" },
        precision: { type: "string" },
        write: { type: "string" },
        roundtrip: { type: "boolean" },
        help: { type: "boolean" },
      },
      allowPositionals: true,
    });
  } catch (error) {
    throw new UsageError(messageOf(error));
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const files = { model: "case", optim: "optim", train: "train" } as const;

const run = ({ kind, path }: Folder, device: Device): Promise<Outcome> =>
  kind === "optim" ? runOptim(path, device) : kind === "train" ? runTrain(path, device) : runModel(path, device);

/** Where the tool writes: standard output and standard error. */
export interface Output {
  readonly log: (text: string) => void;
  readonly error: (text: string) => void;
}

/** Runs everything that was asked for; the number of errors past their bounds. */
async function runAll(options: Options, log: Output["log"]): Promise<number> {
  const { device: wanted, precisions, write, roundtrip, folders } = options;
  const devices: Device[] = [];
  for (const precision of precisions)
    devices.push(await connect(precision === "f64" ? { device: "cpu", precision } : { device: wanted }));
  if (write !== undefined) for (const { name } of folders) mkdirSync(resolve(write, name), { recursive: true });
  let checked = 0;
  let failed = 0;
  for (const folder of folders) {
    for (const device of devices) {
      const suffix = devices.length > 1 && device.precision === "f32" ? ".f32" : "";
      log(`${folder.name}: ${folder.label} on ${device.description}, ${device.precision}`);
      const { checks, tensors, metadata } = roundtrip
        ? await runRoundtrip(folder.path, device, write && resolve(write, `${folder.name}${suffix}`))
        : await run(folder, device);
      log(formatChecks(checks));
      checked += checks.length;
      failed += checks.filter((check) => !passes(check)).length;
      if (write === undefined || roundtrip) continue;
      writeFileSync(
        join(resolve(write, folder.name), `${files[folder.kind]}${suffix}.safetensors`),
        writeSafetensors(tensors, metadata),
      );
    }
  }
  log(`${checked} errors computed, ${failed} past their bounds`);
  return failed;
}

/**
 * Runs the tool.
 *
 * @param args the command line after the program's name
 * @returns the exit code: 0 when all errors are within their bounds, 1 when one is not, 2 for a command that cannot be carried out
 */
export async function conformance(args: readonly string[], { log, error }: Output = console): Promise<number> {
  try {
    const options = readOptions(args, log);
    if (options === undefined) {
      log(usage);
      return 0;
    }
    return (await runAll(options, log)) === 0 ? 0 : 1;
  } catch (cause) {
    if (!(cause instanceof UsageError || cause instanceof McError)) throw cause;
    error(`conformance: ${cause.message}`);
    if (cause instanceof UsageError) error("npm run conformance -- --help lists the options");
    return 2;
  }
}
