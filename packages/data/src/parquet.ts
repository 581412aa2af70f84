// @mc/data/parquet: the documents of Parquet files of any size.
import {
  type AsyncBuffer,
  type Compressors,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
  type RowGroup,
  readOffsetIndex,
} from "hyparquet";
import { cursorCount } from "./cursor.ts";
import { type ByteSource, DataError, kindOf, overSources, type Sources } from "./files/source.ts";
import type { DataStream } from "./stream.ts";

/** Options of `parquetDocuments`. */
export interface ParquetDocumentsOptions {
  /** The column of texts that holds the documents. */
  column: string;
}

/**
 * The documents of Parquet files, of any size: each row of one column is a document.
 *
 * What is in memory is that column's part of one row group, or about 1 MiB (compressed) of it where the file has a page index. All
 * compressions but LZO can be read.
 *
 * @param sources a `Blob` or `File`, a `ByteSource` such as `fileSource(path)` of `@mc/data/node`, or a list of them
 * @throws DataError from reading, for a file that cannot be read or is not Parquet, a column that is missing (the error names what there
 *   is), or a row that holds no text
 * @example
 * import { fileSource } from "@mc/data/node";
 *
 * const texts = parquetDocuments(fileSource("corpus.parquet"), { column: "text" });
 * for await (const text of texts) console.log(text.length);
 *
 * @see hyparquet, which decodes the files: https://github.com/hyparam/hyparquet
 */
export function parquetDocuments(sources: Sources, { column }: ParquetDocumentsOptions): DataStream<string> {
  const op = "parquetDocuments";
  return overSources(op, sources, (source, cursor) => {
    let file: ParquetColumn | undefined;
    let row = cursor ? cursorCount(op, cursor, "row") : 0;
    let values: readonly unknown[] = []; // of the rows from `first` on
    let first = 0;
    return {
      async pull() {
        file ??= await openColumn(op, source, column);
        if (row >= first + values.length) {
          first = row;
          values = await file.read(row);
          if (values.length === 0) return undefined;
        }
        const value = values[row - first];
        if (typeof value !== "string") {
          throw new DataError(
            `${op}: ${source.name} row ${row} must have a text in the column ${JSON.stringify(column)}, got ${kindOf(value)}`,
          );
        }
        row += 1;
        return value;
      },
      cursor: () => ({ row }),
    };
  });
}

/** One column of one file. */
interface ParquetColumn {
  /** The values from a row on, as many as are stored together; none behind the last row. */
  read(row: number): Promise<readonly unknown[]>;
}

// Pages of a column are read together up to this size.
const READ_BYTES = 2 ** 20;

async function openColumn(op: string, source: ByteSource, column: string): Promise<ParquetColumn> {
  const where = `${op}: ${source.name}`;
  const decoded = async <T>(reading: Promise<T>): Promise<T> => {
    try {
      return await reading;
    } catch (cause) {
      if (cause instanceof DataError) throw cause;
      throw new DataError(`${where} must be a Parquet file that can be decoded: ${(cause as Error).message}`, {
        cause,
      });
    }
  };
  const file = await asyncBuffer(source);
  const metadata = await decoded(parquetMetadataAsync(file));
  const columns = parquetSchema(metadata).children.map(({ element }) => element.name);
  if (!columns.includes(column)) {
    const names = columns.map((name) => JSON.stringify(name));
    throw new DataError(
      `${where} must have the column ${JSON.stringify(column)}, got ${names.join(", ") || "no column"}`,
    );
  }
  const compressors = await compressorsFor(metadata, column);
  let last: { group: RowGroup; pages: number[] } | undefined;

  return {
    async read(row) {
      let start = 0;
      for (const group of metadata.row_groups) {
        const end = start + Number(group.num_rows);
        if (row < end) {
          if (last?.group !== group) last = { group, pages: await decoded(pageStarts(file, group, column)) };
          const next = last.pages.find((page) => start + page > row);
          const rowEnd = next === undefined ? end : start + next;
          const options = {
            file,
            metadata,
            columns: [column],
            compressors,
            useOffsetIndex: true,
            rowStart: row,
            rowEnd,
          };
          const rows = await decoded(parquetReadObjects(options));
          return rows.map((object) => object[column]);
        }
        start = end;
      }
      return [];
    },
  };
}

async function asyncBuffer(source: ByteSource): Promise<AsyncBuffer> {
  const byteLength = await source.size();
  return {
    byteLength,
    async slice(start, end = byteLength) {
      const bytes = await source.read(start, end);
      return bytes.byteLength === bytes.buffer.byteLength
        ? (bytes.buffer as ArrayBuffer)
        : (bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer);
    },
  };
}

/** Rows of a group at which a read may begin, apart from each other by about READ_BYTES; only 0 without a page index. */
async function pageStarts(file: AsyncBuffer, group: RowGroup, column: string): Promise<number[]> {
  const chunk = chunkOf(group, column);
  if (!chunk?.offset_index_offset || !chunk.offset_index_length) return [0];
  const start = Number(chunk.offset_index_offset);
  const buffer = await file.slice(start, start + chunk.offset_index_length);
  const starts: number[] = [];
  let bytes = READ_BYTES;
  for (const page of readOffsetIndex({ view: new DataView(buffer), offset: 0 }).page_locations) {
    if (bytes >= READ_BYTES) {
      starts.push(Number(page.first_row_index));
      bytes = 0;
    }
    bytes += page.compressed_page_size;
  }
  return starts;
}

/** What hyparquet does not decompress by itself, loaded only for a file that needs it. */
async function compressorsFor({ row_groups }: FileMetaData, column: string): Promise<Compressors | undefined> {
  const codecs = new Set(row_groups.map((group) => chunkOf(group, column)?.meta_data?.codec));
  const builtIn = [...codecs].every((codec) => codec === "UNCOMPRESSED" || codec === "SNAPPY" || codec === undefined);
  return builtIn ? undefined : (await import("hyparquet-compressors")).compressors;
}

const chunkOf = (group: RowGroup, column: string) =>
  group.columns.find(({ meta_data }) => meta_data?.path_in_schema[0] === column);
