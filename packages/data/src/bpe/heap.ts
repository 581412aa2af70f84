// bpe/heap.ts: a binary heap.

/** Values of which the first in an order can be taken at any time; adding and taking cost O(log n). */
export class Heap<T> {
  private readonly values: T[] = [];
  private readonly before: (a: T, b: T) => boolean;

  /** @param before whether a comes out before b */
  constructor(before: (a: T, b: T) => boolean) {
    this.before = before;
  }

  push(value: T): void {
    const { values, before } = this;
    let i = values.length;
    values.push(value);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(value, values[parent]!)) break;
      values[i] = values[parent]!;
      i = parent;
    }
    values[i] = value;
  }

  /** Takes the first value; undefined when there is none. */
  pop(): T | undefined {
    const { values, before } = this;
    const first = values[0];
    const last = values.pop();
    if (values.length === 0 || last === undefined) return first;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= values.length) break;
      if (child + 1 < values.length && before(values[child + 1]!, values[child]!)) child += 1;
      if (!before(values[child]!, last)) break;
      values[i] = values[child]!;
      i = child;
    }
    values[i] = last;
    return first;
  }
}
