// hostTable.ts: tables of positions, computed on the host in float64, once for each device.
import { type Device, sliceAxis, type Tensor, tensor } from "@mc/tensor";

const tables = new WeakMap<Device, Map<string, Tensor>>();

/**
 * f32 [length, size] with `at(position, i)` in each element. GPUs promise an absolute error of only 2^-11 for sine and cosine: the
 * host computes them. The longest table asked for is kept, and shorter ones are its first rows.
 *
 * @param name - equal names on a device mean equal functions `at`
 */
export function hostTable(
  device: Device,
  name: string,
  [length, size]: readonly [length: number, size: number],
  at: (position: number, i: number) => number,
): Tensor {
  let known = tables.get(device);
  if (!known) {
    known = new Map();
    tables.set(device, known);
  }
  let table = known.get(name);
  if (!table || table.shape[0]! < length) {
    const data = Float64Array.from({ length: length * size }, (_, n) => at(Math.floor(n / size), n % size));
    table = tensor(data, { shape: [length, size], dtype: "f32", device });
    known.set(name, table);
  }
  return sliceAxis(table, 0, 0, length);
}
