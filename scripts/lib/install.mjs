// install.mjs: brings the packages that a command needs, from the frozen lock file, with pnpm through npx. Needs only Node and npm.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository's root folder. */
export const root = fileURLToPath(new URL("../../", import.meta.url));

const path = (/** @type {string} */ name) => join(root, name);
const read = (/** @type {string} */ name) => (existsSync(path(name)) ? readFileSync(path(name), "utf8") : "");

/**
 * Installs what is missing and says so in one line; does nothing when the installed packages already match the lock file.
 *
 * @param {"run" | "all"} scope "run": what the examples run with, no tools; "all": everything. A full install also serves "run".
 */
export function ensureInstalled(scope) {
  const full = hasFullInstall();
  if (full || (scope === "run" && read(stampFile) === lockHash())) return;

  // On a machine that already has the tools, an outdated "run" install would remove them: keep the full set there.
  const all = scope === "all" || hasDevDependencies();
  console.log(
    `install: ${all ? "all packages" : "the run-time packages"} from the lock file, with ${packageManager()} (once)`,
  );
  const filter = all ? [] : ["--prod", "--filter-prod", "@mc/examples..."];
  pnpm(["install", "--frozen-lockfile", ...filter]);
  if (!all) writeFileSync(path(stampFile), lockHash());
}

// Written after a "run" install; pnpm itself records what a full one needs.
const stampFile = "node_modules/.mc-run";

const lockHash = () =>
  createHash("sha256").update(read("pnpm-lock.yaml")).update(read("pnpm-workspace.yaml")).digest("hex");

// pnpm copies the lock file to node_modules/.pnpm/lock.yaml as the last act of an install.
const hasFullInstall = () => hasDevDependencies() && read("node_modules/.pnpm/lock.yaml") === read("pnpm-lock.yaml");

function hasDevDependencies() {
  try {
    return JSON.parse(read("node_modules/.modules.yaml")).included.devDependencies === true;
  } catch {
    return false;
  }
}

/** @returns {string} for example "pnpm@10.34.9", as pinned in package.json */
const packageManager = () => JSON.parse(read("package.json")).packageManager;

/** @param {string[]} args */
function pnpm(args) {
  const env = { ...process.env };
  delete env.NODE_ENV; // NODE_ENV=production would leave the tools out of a full install
  const windows = process.platform === "win32";
  const result = spawnSync("npx", ["-y", packageManager(), ...args], {
    cwd: root,
    env,
    encoding: "utf8",
    shell: windows,
  });
  if (result.status === 0) return;
  console.error(`${result.stdout ?? ""}${result.stderr ?? ""}${result.error?.message ?? ""}`);
  console.error(`install: failed (see above); try again, or run "npx -y ${packageManager()} install" by hand`);
  process.exit(1);
}
