import { ValueError } from "@mc/tensor";
import { describe, expect, test } from "vitest";
import { shuffleStream } from "./shuffleStream.ts";
import { dataStream, mapStream, streamOf } from "./stream.ts";

const all = async <T>(values: AsyncIterable<T>) => {
  const list: T[] = [];
  for await (const value of values) list.push(value);
  return list;
};
const numbers = (count: number) => Array.from({ length: count }, (_, i) => i);

describe("shuffleStream(stream, { bufferSize, seed, epochs })", () => {
  test("gives every value once an epoch, moved by less than the buffer's size", async () => {
    for (const [count, bufferSize] of [
      [10, 3],
      [9, 3],
      [5, 100],
      [7, 1],
      [1, 4],
    ] as const) {
      const values = await all(shuffleStream(streamOf(numbers(count)), { bufferSize, seed: count, epochs: 3 }));
      expect(values.length).toBe(3 * count);
      for (let epoch = 0; epoch < 3; epoch++) {
        const order = values.slice(epoch * count, (epoch + 1) * count);
        expect([...order].sort((a, b) => a - b)).toEqual(numbers(count));
        expect(Math.max(...order.map((value, i) => Math.abs(value - i)))).toBeLessThan(bufferSize);
      }
    }
  });

  test("has another order each epoch and for another seed, and the same for the same", async () => {
    const order = (seed: number, epochs = 2) =>
      all(shuffleStream(streamOf(numbers(50)), { bufferSize: 20, seed, epochs }));
    const values = await order(1);
    expect(values.slice(0, 50)).not.toEqual(values.slice(50));
    expect(await order(1)).toEqual(values);
    expect(await order(2)).not.toEqual(values);
  });

  test("resumes at a cursor saved as JSON with exactly what would have come, from any place", async () => {
    for (const [count, bufferSize] of [
      [7, 3],
      [6, 3],
      [4, 9],
      [3, 1],
    ] as const) {
      const stream = shuffleStream(
        mapStream(streamOf(numbers(count)), (x) => 10 * x),
        { bufferSize, seed: 8, epochs: 3 },
      );
      const expected = await all(stream);
      const reader = stream.read();
      for (let taken = 0; taken <= expected.length; taken++) {
        const cursor = JSON.parse(JSON.stringify(reader.cursor()));
        expect(await all(stream.read(cursor))).toEqual(expected.slice(taken));
        await reader.next();
      }
    }
  });

  test("holds no more values than the buffer's size, and reads no more than those again to resume", async () => {
    let reads = 0;
    const counted = mapStream(streamOf(numbers(1000)), (x) => {
      reads += 1;
      return x;
    });
    const stream = shuffleStream(counted, { bufferSize: 10, epochs: 1 });
    const reader = stream.read();
    for (let taken = 1; taken <= 995; taken++) {
      await reader.next();
      expect(reads - taken).toBeLessThan(10);
    }
    reads = 0;
    await stream.read(reader.cursor()).next();
    expect(reads).toBe(10);
  });

  test("refuses settings out of range, a stream of nothing, and cursors of other settings", async () => {
    const stream = streamOf([1, 2]);
    expect(() => shuffleStream(stream, { bufferSize: 0 })).toThrow(
      "shuffleStream: bufferSize must be an integer >= 1, got 0",
    );
    expect(() => shuffleStream(stream, { bufferSize: 1, seed: -1 })).toThrow(ValueError);
    expect(() => shuffleStream(stream, { bufferSize: 1, epochs: Number.NaN })).toThrow(ValueError);
    await expect(shuffleStream(streamOf([]), { bufferSize: 1 }).read().next()).rejects.toThrow(
      "shuffleStream: the stream must have at least one value, got none",
    );
    const cursor = shuffleStream(stream, { bufferSize: 2, seed: 1 }).read().cursor();
    expect(() => shuffleStream(stream, { bufferSize: 2, seed: 2 }).read(cursor)).toThrow("with seed 1, got 2");
    expect(() => shuffleStream(stream, { bufferSize: 2 }).read({ file: 0 })).toThrow(
      'the cursor must be one that shuffleStream gave, whose "bufferSize" is 2, got undefined',
    );
  });

  test("goes on at the same place after an error of the source that has gone away", async () => {
    let fails = true;
    const flaky = dataStream<number>((cursor) => {
      let at = cursor ? Number(cursor.at) : 0;
      return {
        async pull() {
          if (at === 5 && fails) throw new Error("gone");
          return at < 8 ? at++ : undefined;
        },
        cursor: () => ({ at }),
      };
    });
    const stream = shuffleStream(flaky, { bufferSize: 3, epochs: 2 });
    const reader = stream.read();
    const before = [await reader.next(), await reader.next(), await reader.next()].map(({ value }) => value);
    await expect(reader.next()).rejects.toThrow("gone");
    fails = false;
    expect([...before, ...(await all(stream.read(reader.cursor())))]).toEqual(await all(stream));
  });
});
