// proof/record.ts: what one host computed, kept for the hosts that run after it. `npm test` names the run (MC_RUN) and the hosts
// that have finished (MC_RAN); records of other runs are of no interest.

import { env } from "../env.ts";

/** Which host this is. */
export const host: string = env("MC_HOST") ?? "unknown";

/** Hosts of this run that have finished. */
export const finishedHosts: readonly string[] = (env("MC_RAN") ?? "").split(",").filter((name) => name !== "");

interface Files {
  write(path: string, text: string): Promise<unknown>;
  read(path: string): Promise<string>;
}

// below node_modules, where nothing is committed; from the repository's root
const folder = "node_modules/.cache/mc";
const pathOf = (name: string, of: string): string => `${folder}/${name}.${of}.json`;

async function files(): Promise<Files> {
  if (!import.meta.url.startsWith("file:")) {
    const { commands } = await import("vitest/browser"); // its paths begin at the root
    return { write: (path, text) => commands.writeFile(path, text), read: (path) => commands.readFile(path) };
  }
  const { mkdir, readFile, writeFile } = await import("node:fs/promises");
  const root = new URL("../../../../", import.meta.url);
  await mkdir(new URL(folder, root), { recursive: true });
  return {
    write: (path, text) => writeFile(new URL(path, root), text),
    read: (path) => readFile(new URL(path, root), "utf8"),
  };
}

/** Keeps this host's record. */
export async function writeRecord(name: string, record: unknown): Promise<void> {
  await (await files()).write(pathOf(name, host), JSON.stringify({ run: env("MC_RUN"), record }));
}

/** The record of a finished host of this run. @throws Error if there is none, or one of another run */
export async function readRecord<T>(name: string, of: string): Promise<T> {
  const { run, record } = JSON.parse(await (await files()).read(pathOf(name, of))) as {
    run: string | undefined;
    record: T;
  };
  if (run !== env("MC_RUN")) throw new Error(`readRecord: ${of} left no ${name} in this run`);
  return record;
}
