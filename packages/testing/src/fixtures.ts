// fixtures.ts: reads the committed reference numbers, in Node and in the browser.

/** Folders under `fixtures/`; its README says where the numbers come from. */
export type FixtureName =
  | "llama_gqa_tiny"
  | "llama3_tiny"
  | "mistral_yarn_tiny"
  | "gpt2_tiny"
  | "qwen3_tiny"
  | "qwen3_moe_tiny"
  | "mixtral_tiny"
  | "deepseek_v3_tiny"
  | "deepseek_v3_yarn"
  | "deepseek_v3_groups"
  | "deepseek_v3_direct"
  | "optim"
  | "train_llama_gqa"
  | "train_gpt2"
  | "train_deepseek_v3";

/**
 * The bytes of one fixture file.
 *
 * @param fixture folder under `fixtures/`
 * @param file file name in it
 * @throws Error when there is no such file
 * @example
 * const { tensors } = readSafetensors(await loadFixture("gpt2_tiny", "case.safetensors"));
 */
export async function loadFixture(fixture: FixtureName, file: string): Promise<Uint8Array> {
  // The test server serves the repository under this module's own address, so one relative address does for both hosts.
  const url = new URL(`../fixtures/${fixture}/${file}`, import.meta.url);
  if (url.protocol === "file:") {
    const { readFile } = await import("node:fs/promises");
    return new Uint8Array(await readFile(url));
  }
  const response = await fetch(url);
  if (!response.ok)
    throw new Error(`loadFixture: cannot read ${fixture}/${file}: ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** A fixture file parsed as JSON; `T` is the caller's description of what it holds. */
export async function loadFixtureJson<T>(fixture: FixtureName, file: string): Promise<T> {
  return JSON.parse(new TextDecoder().decode(await loadFixture(fixture, file))) as T;
}
