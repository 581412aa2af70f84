import { describe, expect, test } from "vitest";
import { dataStream, mapStream, streamOf } from "./stream.ts";

const all = async <T>(values: AsyncIterable<T>) => {
  const list: T[] = [];
  for await (const value of values) list.push(value);
  return list;
};

describe("streamOf(values), mapStream(stream, fn)", () => {
  test("give every value in order, as often as they are read", async () => {
    const squares = mapStream(streamOf([1, 2, 3]), async (x) => x * x);
    expect(await all(squares)).toEqual([1, 4, 9]);
    expect(await all(squares.read())).toEqual([1, 4, 9]);
    expect(await all(streamOf([]))).toEqual([]);
  });

  test("resume at a cursor from every place", async () => {
    const words = mapStream(streamOf(["a", "b", "c"]), (text) => text + text);
    const reader = words.read();
    for (let taken = 0; taken <= 3; taken++) {
      const cursor = JSON.parse(JSON.stringify(reader.cursor()));
      expect(await all(words.read(cursor))).toEqual(["aa", "bb", "cc"].slice(taken));
      await reader.next();
    }
    expect(() => words.read({ index: 4 })).toThrow('the cursor must be one that streamOf gave, whose "index" is');
  });
});

describe("dataStream(open)", () => {
  test("asks for one value at a time, also when its reader does not wait", async () => {
    let running = 0;
    const stream = dataStream(() => {
      let next = 0;
      return {
        async pull() {
          running += 1;
          expect(running).toBe(1);
          await new Promise((resolve) => setTimeout(resolve, 1));
          running -= 1;
          return next < 3 ? next++ : undefined;
        },
        cursor: () => ({ next }),
      };
    });
    const reader = stream.read();
    const results = await Promise.all([reader.next(), reader.next(), reader.next(), reader.next()]);
    expect(results.map(({ value }) => value)).toEqual([0, 1, 2, undefined]);
  });

  test("ends with an error, and when its reader stops", async () => {
    const failing = dataStream<number>(() => ({
      pull: () => Promise.reject(new Error("no more")),
      cursor: () => ({}),
    })).read();
    await expect(failing.next()).rejects.toThrow("no more");
    expect(await failing.next()).toEqual({ done: true, value: undefined });

    const reader = streamOf([1, 2, 3]).read();
    for await (const value of reader) if (value === 2) break;
    expect(await reader.next()).toEqual({ done: true, value: undefined });
    expect(reader.cursor()).toEqual({ index: 2 });
  });
});
