// iterators.mjs: the iterator helpers of newer JavaScript, for Node 20: jax-js uses them.
const prototype = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]()));

const helpers = {
  *map(f) {
    let i = 0;
    for (const x of this) yield f(x, i++);
  },
  *filter(f) {
    let i = 0;
    for (const x of this) if (f(x, i++)) yield x;
  },
  *flatMap(f) {
    let i = 0;
    for (const x of this) yield* f(x, i++);
  },
  *take(n) {
    if (n <= 0) return;
    for (const x of this) {
      yield x;
      if (--n === 0) return;
    }
  },
  *drop(n) {
    for (const x of this) if (n-- <= 0) yield x;
  },
  toArray() {
    return [...this];
  },
  forEach(f) {
    let i = 0;
    for (const x of this) f(x, i++);
  },
  reduce(f, ...start) {
    return [...this].reduce(f, ...start);
  },
  some(f) {
    return [...this].some(f);
  },
  every(f) {
    return [...this].every(f);
  },
  find(f) {
    return [...this].find(f);
  },
};

for (const [name, value] of Object.entries(helpers))
  if (!(name in prototype)) Object.defineProperty(prototype, name, { value, writable: true, configurable: true });
