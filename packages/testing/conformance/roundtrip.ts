// roundtrip.ts: a model folder read, written again and compared: what we write must be what we read.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  configFromHuggingFace,
  type HuggingFaceConfig,
  type HuggingFaceModelType,
  type SavedDType,
  saveHuggingFace,
} from "@mc/nn";
import type { Device } from "@mc/tensor";
import { readJson, weightFiles } from "./folder.ts";
import { loadModel } from "./model.ts";
import type { Check, Outcome } from "./report.ts";

/** A tensor as it stands in a file. */
interface Raw {
  readonly dtype: string;
  readonly shape: string;
  readonly bytes: Uint8Array;
}

/**
 * Reads a model folder, writes its config and weights into `target` (by default a temporary folder), with the element types of the
 * original and shards where it has shards, and compares names, element types, shapes and bytes of all tensors, and the
 * configurations that are read from both.
 */
export async function runRoundtrip(path: string, device: Device, target?: string): Promise<Outcome> {
  const temporary = target === undefined ? mkdtempSync(join(tmpdir(), "mc-roundtrip-")) : undefined;
  const folder = target ?? temporary!;
  mkdirSync(folder, { recursive: true });
  try {
    const original = readRaw(path);
    const { model, params, config } = await loadModel(path, device);
    const files = weightFiles(path);
    const sizes = files.map((file) =>
      Object.values(readRawFile(path, file)).reduce((sum, t) => sum + t.bytes.length, 0),
    );
    const written = saveHuggingFace(model.config, params, {
      modelType: config.model_type as HuggingFaceModelType,
      dtype: (name) => (original.get(name)?.dtype ?? "F32") as SavedDType,
      ...(files.length > 1 && { maxShardBytes: Math.max(...sizes) }),
      fields: Object.fromEntries(Object.entries(config).filter(([name]) => name.endsWith("_token_id"))),
    });
    for await (const { name, bytes } of written) writeFileSync(join(folder, name), bytes);
    const again = readRaw(folder);
    return { checks: [...compareTensors(original, again), compareConfigs(path, folder)], tensors: {} };
  } finally {
    if (temporary !== undefined) rmSync(temporary, { recursive: true, force: true });
  }
}

function readRaw(folder: string): Map<string, Raw> {
  return new Map(weightFiles(folder).flatMap((file) => Object.entries(readRawFile(folder, file))));
}

/** The header's entries with their bytes: nothing is decoded, so nothing can hide. */
function readRawFile(folder: string, file: string): Record<string, Raw> {
  const bytes = new Uint8Array(readFileSync(join(folder, file)));
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const { __metadata__: _, ...entries } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  return Object.fromEntries(
    Object.entries(entries).map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [from, to],
        },
      ]) => [name, { dtype, shape: JSON.stringify(shape), bytes: bytes.subarray(8 + length + from, 8 + length + to) }],
    ),
  );
}

/** A line with the number of differing things, and one for each of the first few. */
function counted(what: string, differing: readonly string[]): Check[] {
  const details = differing.slice(0, 8).map((name) => ({ name: `  ${name}`, error: 1, bound: undefined }));
  return [{ name: what, error: differing.length, bound: 0 }, ...details];
}

function compareTensors(original: ReadonlyMap<string, Raw>, again: ReadonlyMap<string, Raw>): Check[] {
  const both = [...original.keys()].filter((name) => again.has(name));
  const differ = (same: (a: Raw, b: Raw) => boolean): string[] =>
    both.filter((name) => !same(original.get(name)!, again.get(name)!));
  const only = (a: ReadonlyMap<string, Raw>, b: ReadonlyMap<string, Raw>): string[] =>
    [...a.keys()].filter((name) => !b.has(name));
  return [
    ...counted(`names not written, of ${original.size}`, only(original, again)),
    ...counted("names written beside them", only(again, original)),
    ...counted(
      "tensors of another dtype",
      differ((a, b) => a.dtype === b.dtype),
    ),
    ...counted(
      "tensors of another shape",
      differ((a, b) => a.shape === b.shape),
    ),
    ...counted(
      "tensors of other bytes",
      differ((a, b) => Buffer.compare(a.bytes, b.bytes) === 0),
    ),
  ];
}

function compareConfigs(path: string, folder: string): Check {
  const [a, b] = [path, folder].map((where) =>
    flat(configFromHuggingFace(readJson<HuggingFaceConfig>(where, "config.json"))),
  );
  const names = new Set([...Object.keys(a!), ...Object.keys(b!)]);
  const error = [...names].filter((name) => a![name] !== b![name]).length;
  return { name: "settings of the configuration that differ", error, bound: 0 };
}

/** Leaves by their path. */
function flat(value: unknown, path = ""): Record<string, unknown> {
  if (typeof value !== "object" || value === null) return { [path]: value };
  return Object.assign({}, ...Object.entries(value).map(([name, inner]) => flat(inner, `${path}.${name}`))) as Record<
    string,
    unknown
  >;
}
