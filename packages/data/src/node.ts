// @mc/data/node: files by their path, for Node.
import { type ByteSource, DataError } from "./files/source.ts";

/**
 * A file by its path, for `textDocuments`, `jsonlDocuments` and `parquetDocuments`. It is opened when it is read, for as long as that takes.
 *
 * @throws DataError from reading, for a file that is missing, is a folder, or may not be read
 * @example
 * const texts = jsonlDocuments(["a.jsonl", "b.jsonl"].map(fileSource), { field: "text" });
 */
export function fileSource(path: string): ByteSource {
  return {
    name: path,
    async size() {
      const status = await files()
        .stat(path)
        .catch((cause) => unreadable(path, cause));
      if (!status.isFile()) throw new DataError(`${path}: cannot be read: it is not a file`);
      return status.size;
    },
    async read(start, end) {
      const file = await files()
        .open(path)
        .catch((cause) => unreadable(path, cause));
      try {
        const bytes = new Uint8Array(end - start);
        let filled = 0;
        while (filled < bytes.length) {
          const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, start + filled);
          if (bytesRead === 0) break;
          filled += bytesRead;
        }
        return bytes.subarray(0, filled);
      } finally {
        await file.close();
      }
    },
  };
}

// Asked for at run time, because the packages' builds, which serve browsers too, know no modules of Node.
const files = () => process.getBuiltinModule("node:fs/promises");

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  ENOTDIR: "there is no such file",
  EACCES: "reading is not allowed",
};

function unreadable(path: string, cause: NodeJS.ErrnoException): never {
  throw new DataError(`${path}: cannot be read: ${REASONS[cause.code ?? ""] ?? cause.message}`, { cause });
}
