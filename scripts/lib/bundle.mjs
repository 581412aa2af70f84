// bundle.mjs: the software Vulkan driver and the headless Chromium inside the npm package @sparticuz/chromium, unpacked.
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { root } from "./install.mjs";

/**
 * `driver` is the environment in which Vulkan programs find SwiftShader, `browser` the one that Chromium needs.
 * @typedef {{ driver: Record<string, string>, browser: Record<string, string>, executablePath: string }} Bundle
 */

const require = createRequire(join(root, "package.json"));

/**
 * Unpacks the bundle, once for each version, into node_modules/.cache/mc. Linux x64 only.
 *
 * @returns {Bundle | { missing: string }}
 */
export function unpackBundle() {
  if (process.platform !== "linux" || process.arch !== "x64") {
    return { missing: `the npm driver and browser are for Linux x64, not for ${process.platform} ${process.arch}` };
  }
  let packed;
  try {
    packed = join(dirname(require.resolve("@sparticuz/chromium")), "../../bin");
  } catch {
    return { missing: "the package @sparticuz/chromium is not installed" };
  }
  const { version } = JSON.parse(readFileSync(join(packed, "../package.json"), "utf8"));
  const folder = join(root, "node_modules/.cache/mc", `chromium-${version}`);
  if (!existsSync(folder)) unpack(packed, folder);

  const icd = join(folder, "vk_swiftshader_icd.json");
  const libraries = (/** @type {string[]} */ ...folders) =>
    [...folders, process.env.LD_LIBRARY_PATH].filter(Boolean).join(":");
  const driver = {
    LD_LIBRARY_PATH: libraries(folder),
    VK_DRIVER_FILES: icd,
    VK_ICD_FILENAMES: icd,
    XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? "/tmp", // without one the driver complains on standard error
  };
  const browser = { ...driver, LD_LIBRARY_PATH: libraries(folder, join(folder, "lib")), FONTCONFIG_PATH: folder };
  return { driver, browser, executablePath: join(folder, "chromium") };
}

/**
 * @param {string} packed
 * @param {string} folder
 */
function unpack(packed, folder) {
  const partial = `${folder}.${process.pid}`; // renamed when complete: an interrupted run leaves no half-filled folder
  const open = (/** @type {string} */ name) => brotliDecompressSync(readFileSync(join(packed, name)));
  for (const name of ["swiftshader.tar.br", "al2023.tar.br", "fonts.tar.br"]) untar(open(name), partial);
  writeFileSync(join(partial, "chromium"), open("chromium.br"), { mode: 0o755 });
  // The font list names folders of the cloud machines that the package was made for.
  const fonts = readFileSync(join(partial, "fonts.conf"), "utf8");
  writeFileSync(join(partial, "fonts.conf"), fonts.replaceAll("/tmp/fonts", join(folder, "fonts")));
  try {
    renameSync(partial, folder);
  } catch (error) {
    rmSync(partial, { recursive: true });
    if (!existsSync(folder)) throw error; // else another process was first
  }
}

/**
 * Writes the plain files of a tar archive. Each is a block of 512 bytes, with name, mode and size (octal), then its bytes in
 * whole blocks; the archive ends with an empty block.
 *
 * @param {Buffer} tar
 * @param {string} folder
 */
function untar(tar, folder) {
  const text = (/** @type {number} */ start, /** @type {number} */ end) =>
    tar.toString("latin1", start, end).split("\0")[0].trim();
  let at = 0;
  while (text(at, at + 100) !== "") {
    const path = join(folder, text(at, at + 100));
    const mode = Number.parseInt(text(at + 100, at + 108), 8);
    const size = Number.parseInt(text(at + 124, at + 136), 8);
    const type = text(at + 156, at + 157);
    at += 512;
    if (type === "0" || type === "") {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, tar.subarray(at, at + size));
      chmodSync(path, mode);
    }
    at += Math.ceil(size / 512) * 512;
  }
}
