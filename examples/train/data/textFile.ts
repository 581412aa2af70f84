// textFile.ts: a text file of one's own as documents.
import { readFileSync, statSync } from "node:fs";
import { UsageError } from "../options.ts";

const LARGEST_FILE = 100e6;

/**
 * Reads a UTF-8 text file and cuts it into documents.
 *
 * @throws UsageError for a file that is missing, unreadable, empty, over 100 MB, or not text
 */
export function loadTextFile(path: string): string[] {
  const bytes = read(path);
  if (bytes.includes(0)) throw new UsageError(`--text: ${path} must be text, got a binary file (it holds a zero byte)`);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new UsageError(`--text: ${path} must be text in UTF-8, got bytes that are not`);
  }
  if (text.trim() === "") throw new UsageError(`--text: ${path} must hold text, got an empty file`);
  return cutText(text.replace(/\r\n?/g, "\n"));
}

function read(path: string): Uint8Array {
  const reasons: Record<string, string> = {
    ENOENT: "there is no such file",
    ENOTDIR: "there is no such file",
    EISDIR: "it is a folder",
    EACCES: "reading is not allowed",
  };
  try {
    const { size } = statSync(path);
    if (size > LARGEST_FILE)
      throw new UsageError(`--text: ${path} must be at most 100 MB, got ${Math.ceil(size / 1e6)} MB`);
    return readFileSync(path);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    throw new UsageError(`--text: cannot read ${path}: ${reasons[code ?? ""] ?? message}`);
  }
}

/**
 * Cuts a text, which has no marks where a document ends, into about two hundred pieces of at least 1,000 characters.
 *
 * Each piece ends with a paragraph where one ends near enough, else with a line, else with a word, else anywhere.
 */
export function cutText(text: string): string[] {
  const size = Math.max(1000, Math.ceil(text.length / 200));
  const pieces: string[] = [];
  for (let start = 0; start < text.length; ) {
    const end = text.length - start < 1.5 * size ? text.length : cutAfter(text, start + size, start + 2 * size);
    pieces.push(text.slice(start, end));
    start = end;
  }
  return pieces.filter((piece) => piece.trim() !== "");
}

/** Where the first paragraph, line or word ends in text[low, high); else high. */
function cutAfter(text: string, low: number, high: number): number {
  for (const end of ["\n\n", "\n", " "]) {
    const at = text.indexOf(end, low);
    if (at >= 0 && at + end.length <= high) return at + end.length;
  }
  const splitsPair = /^[\uD800-\uDBFF][\uDC00-\uDFFF]$/.test(text.slice(high - 1, high + 1));
  return Math.min(splitsPair ? high + 1 : high, text.length);
}
