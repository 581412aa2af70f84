// stream.ts: values that come one after another and need not all fit into memory, read from any place that was saved.
import { type Cursor, cursorCount } from "./cursor.ts";

/**
 * Values of any number, such as the documents of a large file, that can be read as often as wanted: from the start, or from a place
 * where an earlier reading was.
 *
 * Streams are joined like pipes: `batchStream(packStream(mapStream(shuffleStream(texts, ...), encode), ...), ...)`. Nothing is read
 * until the last one is, and the cursor of the last one holds the places of all.
 */
export interface DataStream<T> extends AsyncIterable<T> {
  /** Reads from the start, or from where `cursor` was taken. */
  read(cursor?: Cursor): StreamReader<T>;
}

/** One reading of a stream. */
export interface StreamReader<T> extends AsyncIterableIterator<T, undefined, undefined> {
  /** The place before the next value, to be asked for between two values: the stream's `read(cursor)` goes on there. */
  cursor(): Cursor;
}

/** What a reading of `dataStream` does. */
export interface StreamSource<T> {
  /** The next value; undefined at the end. Never called while an earlier call is still running. */
  pull(): Promise<T | undefined>;
  /** The place before the next value. */
  cursor(): Cursor;
}

/**
 * A stream out of two functions, for data that comes from somewhere else than a file.
 *
 * @param open begins a reading, at the start or at a cursor that an earlier reading gave
 * @example
 * const countdown = dataStream((cursor) => {
 *   let left = cursor ? Number(cursor.left) : 3;
 *   return { pull: async () => (left > 0 ? left-- : undefined), cursor: () => ({ left }) };
 * });
 * for await (const number of countdown) console.log(number); // 3, 2, 1
 */
export function dataStream<T>(open: (cursor?: Cursor) => StreamSource<T>): DataStream<T> {
  const read = (cursor?: Cursor) => reader(open(cursor));
  return { read, [Symbol.asyncIterator]: () => read() };
}

function reader<T>(source: StreamSource<T>): StreamReader<T> {
  const end = { done: true, value: undefined } as const;
  let last: Promise<unknown> = Promise.resolve();
  let ended = false;
  async function take(): Promise<IteratorResult<T, undefined>> {
    if (ended) return end;
    try {
      const value = await source.pull();
      if (value !== undefined) return { done: false, value };
    } catch (error) {
      ended = true; // as a generator does: after an error there is nothing more
      throw error;
    }
    ended = true;
    return end;
  }
  return {
    next() {
      const taken = last.then(take, take);
      last = taken;
      return taken;
    },
    async return() {
      ended = true;
      return end;
    },
    cursor: () => source.cursor(),
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}

/**
 * A stream of values that are in memory.
 *
 * @example
 * for await (const text of streamOf(["one", "two"])) console.log(text);
 */
export function streamOf<T>(values: readonly T[]): DataStream<T> {
  return dataStream((cursor) => {
    let at = cursor ? cursorCount("streamOf", cursor, "index", values.length) : 0;
    return {
      pull: async () => values[at++],
      cursor: () => ({ index: Math.min(at, values.length) }),
    };
  });
}

/**
 * A stream of what a function makes of each value, for example `tokenizer.encodeDocument` of each text.
 *
 * @param fn may give a promise
 * @example
 * const documents = mapStream(streamOf(["one", "two"]), byteTokenizer().encodeDocument);
 * for await (const ids of documents) console.log(ids.length); // 4, 4
 */
export function mapStream<T, U>(stream: DataStream<T>, fn: (value: T) => U | Promise<U>): DataStream<U> {
  return dataStream((cursor) => {
    const values = stream.read(cursor);
    return {
      async pull() {
        const { done, value } = await values.next();
        return done ? undefined : await fn(value);
      },
      cursor: () => values.cursor(),
    };
  });
}
