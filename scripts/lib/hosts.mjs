// hosts.mjs: finds what the GPU test hosts run on: the machine's own GPU driver and browser where they work, and otherwise, on
// Linux x64, the software Vulkan driver and the headless Chromium inside the npm package @sparticuz/chromium. Needs no root.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { unpackBundle } from "./bundle.mjs";
import { root } from "./install.mjs";

/**
 * A host that can run: `what` it is in words, and what the config needs to start it.
 * @typedef {{ what: string, env: Record<string, string>, executablePath?: string, args?: string[] }} Host
 *
 * A host that cannot run on this machine: why, and the command that would add it.
 * @typedef {{ missing: string, remedy: string }} Missing
 */

const require = createRequire(join(root, "package.json"));
// MC_SOFTWARE=1 passes over the machine's own GPU and browser: what a machine without them would run.
const ownHardware = !process.env.MC_SOFTWARE;

/**
 * Dawn in Node: the environment in which a new process finds a Vulkan (or Metal, or Direct3D) adapter.
 * The dynamic loader reads these variables when a process starts, so they must be set before.
 *
 * @returns {Promise<Host | Missing>}
 */
export const dawnHost = () => remember("MC_HOST_DAWN", findDawn);

/**
 * Chromium with WebGPU: the executable and the arguments and environment to launch it with.
 *
 * @returns {Promise<Host | Missing>}
 */
export const chromiumHost = () => remember("MC_HOST_CHROMIUM", findChromium);

/**
 * The environment for a Node program that was asked for `--device webgpu`: where there is no GPU, the software driver's.
 *
 * @param {string[]} args the program's arguments
 * @returns {Promise<NodeJS.ProcessEnv>}
 */
export async function gpuEnvironment(args) {
  if (!/(^| )--device[ =]webgpu( |$)/.test(args.join(" "))) return process.env;
  const host = await dawnHost();
  if ("missing" in host) return process.env; // the program itself reports that there is no device
  console.error(`webgpu: ${host.what}`);
  return { ...process.env, ...host.env };
}

/**
 * Looks once and hands the answer to child processes through the environment.
 *
 * @param {string} variable
 * @param {() => Promise<Host | Missing>} find
 * @returns {Promise<Host | Missing>}
 */
async function remember(variable, find) {
  const known = process.env[variable];
  if (known) return JSON.parse(known);
  const found = await find();
  process.env[variable] = JSON.stringify(found);
  return found;
}

/** @returns {Promise<Host | Missing>} */
async function findDawn() {
  if (ownHardware) {
    const own = probeDawn({});
    if (own.adapter) return { what: own.adapter, env: {} };
  }
  const bundle = unpackBundle();
  if ("missing" in bundle) {
    const remedy =
      process.platform === "linux"
        ? "apt-get install -y libvulkan1 mesa-vulkan-drivers (Mesa 25 or newer), or the GPU vendor's driver"
        : "install the GPU vendor's driver";
    return { missing: `Dawn finds no GPU adapter, and ${bundle.missing}`, remedy };
  }
  const probe = probeDawn(bundle.driver);
  if (probe.adapter) return { what: `${probe.adapter}, from @sparticuz/chromium`, env: bundle.driver };
  return {
    missing: `Dawn finds no adapter: ${probe.error}`,
    remedy: "apt-get install -y libvulkan1 mesa-vulkan-drivers (Mesa 25 or newer)",
  };
}

/**
 * @param {Record<string, string>} env
 * @returns {{ adapter?: string, error?: string }}
 */
function probeDawn(env) {
  const script = fileURLToPath(new URL("probeDawn.mjs", import.meta.url));
  const result = spawnSync(process.execPath, [script], {
    cwd: root,
    env: { ...process.env, ...env },
    encoding: "utf8",
    timeout: 60_000,
  });
  const line = result.stdout?.split("\n").find((text) => text.startsWith("adapter: "));
  if (result.status === 0 && line) return { adapter: line.slice("adapter: ".length) };
  return {
    error: (result.stderr || result.error?.message || `exit ${result.status ?? result.signal}`).trim().split("\n")[0],
  };
}

/** @returns {Promise<Host | Missing>} */
async function findChromium() {
  /** @type {string[]} */
  const reasons = [];
  const flags = [
    "--enable-unsafe-webgpu",
    "--js-flags=--expose-gc",
    ...(process.platform === "linux" ? ["--no-sandbox"] : []),
  ];
  if (ownHardware) {
    // On Linux Chromium uses a hardware GPU for WebGPU only with its Vulkan feature on; without one the plain flags find SwiftShader.
    const attempts = process.platform === "linux" ? [[...flags, "--enable-features=Vulkan"], flags] : [flags];
    for (const executablePath of installedBrowsers()) {
      for (const args of attempts) {
        const probe = await probeChromium({ executablePath, args, env: {} });
        if (probe.adapter) return { what: `${probe.adapter}, ${executablePath}`, env: {}, executablePath, args };
        reasons.push(`${executablePath}: ${probe.error}`);
      }
    }
  }
  const bundle = unpackBundle();
  if (!("missing" in bundle)) {
    const host = { executablePath: bundle.executablePath, args: flags, env: bundle.browser };
    const probe = await probeChromium(host);
    if (probe.adapter) return { ...host, what: `${probe.adapter}, from @sparticuz/chromium` };
    reasons.push(`@sparticuz/chromium: ${probe.error}`);
  } else reasons.push(bundle.missing);
  return {
    missing: `no Chromium with WebGPU (${reasons.join("; ")})`,
    remedy:
      process.platform === "linux"
        ? "apt-get install -y chromium"
        : "install Google Chrome, or set MC_CHROMIUM to a Chromium executable",
  };
}

/** @returns {string[]} */
function installedBrowsers() {
  const env = process.env;
  if (env.MC_CHROMIUM) return [env.MC_CHROMIUM];
  if (process.platform === "darwin") {
    return ["Google Chrome", "Chromium", "Microsoft Edge"]
      .map((app) => `/Applications/${app}.app/Contents/MacOS/${app}`)
      .filter(existsSync);
  }
  if (process.platform === "win32") {
    const folders = [env.PROGRAMFILES, env["PROGRAMFILES(X86)"], env.LOCALAPPDATA].filter(
      (folder) => folder !== undefined,
    );
    const programs = ["Google/Chrome/Application/chrome.exe", "Microsoft/Edge/Application/msedge.exe"];
    return folders.flatMap((folder) => programs.map((program) => join(folder, program))).filter(existsSync);
  }
  const names = ["google-chrome-stable", "google-chrome", "chromium", "chromium-browser", "microsoft-edge"];
  const folders = (env.PATH ?? "").split(delimiter);
  return names.flatMap((name) =>
    folders
      .map((folder) => join(folder, name))
      .filter(existsSync)
      .slice(0, 1),
  );
}

/**
 * Opens a page in the browser and asks it for an adapter.
 *
 * @param {{ executablePath: string, args: string[], env: Record<string, string> }} host
 * @returns {Promise<{ adapter?: string, error?: string }>}
 */
async function probeChromium({ executablePath, args, env }) {
  const { chromium } = require("playwright");
  let browser;
  try {
    browser = await chromium.launch({ executablePath, args, env: { ...process.env, ...env }, timeout: 30_000 });
    const page = await browser.newPage();
    await page.route("**/*", (/** @type {any} */ route) =>
      route.fulfill({ contentType: "text/html", body: "<!doctype html>" }),
    );
    await page.goto("http://localhost:1/"); // a secure context, answered by the line above: elsewhere navigator.gpu is hidden
    const info = await page.evaluate(async () => {
      const adapter = await navigator.gpu?.requestAdapter();
      return adapter && { vendor: adapter.info.vendor, architecture: adapter.info.architecture };
    });
    if (!info) return { error: "its pages get no WebGPU adapter" };
    return { adapter: `Chromium ${browser.version()}, ${info.vendor} ${info.architecture}`.trim() };
  } catch (error) {
    return { error: String(error).split("\n")[0] };
  } finally {
    await browser?.close();
  }
}
