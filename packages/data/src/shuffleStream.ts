// shuffleStream.ts: a stream in random order, as far as a buffer reaches.
import { ValueError } from "@mc/tensor";
import { type Cursor, checkSettings, cursorCount, cursorRandom, cursorWithin } from "./cursor.ts";
import { hostRandom, permutation, type RandomState } from "./random.ts";
import { type DataStream, dataStream, type StreamReader } from "./stream.ts";

/** Options of `shuffleStream`. */
export interface ShuffleStreamOptions {
  /** Values that are held and shuffled at once, an integer >= 1. The more, the better they mix, and the more memory it takes. */
  bufferSize: number;
  /** Decides every order, an integer in [0, 2^32). Default 0. */
  seed?: number;
  /** How often to go through the stream, each time in a new order. Default Infinity. */
  epochs?: number;
}

/**
 * A stream in random order: a buffer is filled, emptied in random order, and filled again.
 *
 * So a value moves by less than `bufferSize` places: sort nothing beforehand that has to be mixed. In return the cursor holds where the
 * buffer was filled from and how much of it is used up, rather than the buffer: resuming reads at most `bufferSize` values again.
 * The same seed gives the same order on every machine.
 *
 * @throws ValueError for a buffer size below 1, a seed out of range, `epochs` below 0; from reading, for a stream without a value, or a
 *   cursor of another stream
 * @example
 * const texts = shuffleStream(streamOf(["one", "two", "three"]), { bufferSize: 2, seed: 1, epochs: 1 });
 * const reader = texts.read();
 * await reader.next();
 * const saved = JSON.stringify(reader.cursor());
 * const rest = texts.read(JSON.parse(saved)); // gives the second and the third
 */
export function shuffleStream<T>(
  stream: DataStream<T>,
  { bufferSize, seed = 0, epochs = Infinity }: ShuffleStreamOptions,
): DataStream<T> {
  const op = "shuffleStream";
  if (!Number.isInteger(bufferSize) || bufferSize < 1) {
    throw new ValueError(`${op}: bufferSize must be an integer >= 1, got ${bufferSize}`);
  }
  if (!(epochs >= 0)) throw new ValueError(`${op}: epochs must be >= 0, got ${epochs}`);
  const initial = hostRandom(seed).state();

  return dataStream((resume) => {
    if (resume) checkSettings(op, resume, { bufferSize, seed });
    const random = hostRandom(resume ? cursorRandom(op, resume, "random") : initial);
    let values = resume ? stream.read(cursorWithin(op, resume, "source")) : stream.read();
    let epoch = resume ? cursorCount(op, resume, "epoch") : 0;
    let skipped = resume ? cursorCount(op, resume, "used", bufferSize) : 0; // values of the first buffer that came before
    let hadValues = resume !== undefined;
    let buffer: (T | undefined)[] = []; // in the order in which they come
    let used = 0;
    let before = place(values, random.state()); // where the buffer was filled

    async function fill(): Promise<void> {
      before = place(values, random.state());
      buffer = [];
      used = 0;
      const filled = await take(values, bufferSize);
      const order = permutation(filled.length, random);
      buffer = Array.from(order, (i) => filled[i]);
      used = Math.min(skipped, buffer.length);
      skipped = 0;
      buffer.fill(undefined, 0, used);
    }

    return {
      async pull() {
        while (epoch < epochs) {
          if (used < buffer.length) {
            const value = buffer[used];
            buffer[used++] = undefined; // not held any longer than needed
            return value;
          }
          await fill();
          if (buffer.length > 0) {
            hadValues = true;
          } else {
            if (!hadValues) throw new ValueError(`${op}: the stream must have at least one value, got none`);
            epoch += 1;
            hadValues = false;
            values = stream.read();
            before = place(values, random.state());
          }
        }
        return undefined;
      },
      cursor: () => ({ bufferSize, seed, epoch, used: used + skipped, ...before }),
    };
  });
}

const place = (values: StreamReader<unknown>, random: RandomState): { source: Cursor; random: RandomState } => ({
  source: values.cursor(),
  random,
});

async function take<T>(values: StreamReader<T>, most: number): Promise<T[]> {
  const taken: T[] = [];
  while (taken.length < most) {
    const { done, value } = await values.next();
    if (done) break;
    taken.push(value);
  }
  return taken;
}
