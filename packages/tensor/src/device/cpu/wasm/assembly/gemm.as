// Matrix product, f32x4. AssemblyScript; the extension keeps TypeScript tools away from it.
//
// C[i,j] (+)= sum over p of A[i,p] B[p,j], the Goto/BLIS way: panels of A and B are packed so that the micro-kernel
// reads both in order, whatever the strides of the operands were.
//
// Order of additions, the same for every element whatever the shape (a product therefore gives the same bits
// however its rows, columns and batches are cut): each block of KC values of p is summed in ascending p from zero;
// the block sums are added to C in ascending order, the first one replacing C unless `accumulate`.

const MR: i32 = 4; // rows and columns of a micro-tile: 8 accumulators, 2 values of B, 4 of A and 1 product fill
const NR: i32 = 8; // the 15 vector registers that V8 hands out on x64; larger tiles and unrolling both spill
const KC: i32 = 256; // a packed panel of B (KC x NR) is 8 KiB and stays in L1
const MC: i32 = 128; // a packed block of A (MC x KC) is 128 KiB and stays in L2
const NC: i32 = 512; // a packed block of B (KC x NC) is 512 KiB

const EDGE_BYTES: i32 = MR * NR * 4;
const A_BYTES: i32 = MC * KC * 4;
const B_BYTES: i32 = KC * NC * 4;

/** Bytes of scratch that gemm needs, 16-byte aligned. */
export function gemmScratchBytes(): i32 {
  return EDGE_BYTES + A_BYTES + B_BYTES;
}

/**
 * C[m,n] (+)= A[m,k] B[k,n]. Pointers are in bytes, strides in elements (any sign); C has unit column stride.
 * C must not overlap A, B or the scratch.
 */
export function gemm(
  a: usize, aRow: i32, aCol: i32,
  b: usize, bRow: i32, bCol: i32,
  c: usize, cRow: i32,
  m: i32, n: i32, k: i32,
  accumulate: bool, scratch: usize,
): void {
  const edge = scratch;
  const packedA = edge + EDGE_BYTES;
  const packedB = packedA + A_BYTES;
  if (k <= 0 && !accumulate) {
    for (let i = 0; i < m; i++) memory.fill(c + (i * cRow << 2), 0, n << 2);
  }
  for (let j = 0; j < n; j += NC) {
    const columns = min(NC, n - j);
    for (let p = 0; p < k; p += KC) {
      const depth = min(KC, k - p);
      packB(packedB, b + ((p * bRow + j * bCol) << 2), bCol << 2, bRow << 2, columns, depth);
      for (let i = 0; i < m; i += MC) {
        const rows = min(MC, m - i);
        packA(packedA, a + ((i * aRow + p * aCol) << 2), aRow << 2, aCol << 2, rows, depth);
        macroKernel(packedA, packedB, c + ((i * cRow + j) << 2), cRow << 2, rows, columns, depth, accumulate || p > 0, edge);
      }
    }
  }
}

function macroKernel(
  packedA: usize, packedB: usize, c: usize, cRow: i32,
  rows: i32, columns: i32, depth: i32, add: bool, edge: usize,
): void {
  for (let j = 0; j < columns; j += NR) {
    let panelA = packedA;
    for (let i = 0; i < rows; i += MR) {
      const to = c + i * cRow + (j << 2);
      if (rows - i >= MR && columns - j >= NR) {
        microKernel(panelA, packedB, depth, to, cRow, add);
      } else {
        microKernel(panelA, packedB, depth, edge, NR * 4, false);
        copyEdge(edge, to, cRow, min(MR, rows - i), min(NR, columns - j), add);
      }
      panelA += depth * (MR * 4);
    }
    packedB += depth * (NR * 4);
  }
}

// One micro-tile: C[4,8] (+)= A[4,depth] B[depth,8] from packed panels. One step of p per turn on purpose: V8 hoists
// every load of the body, and two steps would need more registers than there are.
function microKernel(a: usize, b: usize, depth: i32, c: usize, cRow: i32, add: bool): void {
  let c00 = f32x4.splat(0), c01 = f32x4.splat(0);
  let c10 = f32x4.splat(0), c11 = f32x4.splat(0);
  let c20 = f32x4.splat(0), c21 = f32x4.splat(0);
  let c30 = f32x4.splat(0), c31 = f32x4.splat(0);
  const end = a + depth * (MR * 4);
  while (a < end) {
    const b0 = v128.load(b), b1 = v128.load(b, 16);
    const a0 = v128.load_splat<f32>(a), a1 = v128.load_splat<f32>(a, 4);
    const a2 = v128.load_splat<f32>(a, 8), a3 = v128.load_splat<f32>(a, 12);
    c00 = f32x4.add(c00, f32x4.mul(a0, b0)); c01 = f32x4.add(c01, f32x4.mul(a0, b1));
    c10 = f32x4.add(c10, f32x4.mul(a1, b0)); c11 = f32x4.add(c11, f32x4.mul(a1, b1));
    c20 = f32x4.add(c20, f32x4.mul(a2, b0)); c21 = f32x4.add(c21, f32x4.mul(a2, b1));
    c30 = f32x4.add(c30, f32x4.mul(a3, b0)); c31 = f32x4.add(c31, f32x4.mul(a3, b1));
    a += MR * 4;
    b += NR * 4;
  }
  storeRow(c, c00, c01, add);
  storeRow(c + cRow, c10, c11, add);
  storeRow(c + cRow * 2, c20, c21, add);
  storeRow(c + cRow * 3, c30, c31, add);
}

// @ts-ignore: decorator
@inline
function storeRow(to: usize, low: v128, high: v128, add: bool): void {
  if (add) {
    low = f32x4.add(v128.load(to), low);
    high = f32x4.add(v128.load(to, 16), high);
  }
  v128.store(to, low);
  v128.store(to, high, 16);
}

function copyEdge(edge: usize, c: usize, cRow: i32, rows: i32, columns: i32, add: bool): void {
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      const value = load<f32>(edge + (j << 2));
      const to = c + (j << 2);
      store<f32>(to, add ? load<f32>(to) + value : value);
    }
    edge += NR * 4;
    c += cRow;
  }
}

// Packed A: panels of 4 rows, packedA[panel][p][row]; packed B: panels of 8 columns, packedB[panel][p][column].
// `across` is the stride in bytes between the lines of a panel, `along` the stride along p. Lines past the edge are 0.

function packA(to: usize, from: usize, across: i32, along: i32, lines: i32, depth: i32): void {
  for (; lines > 0; lines -= MR) {
    pack4(to, MR * 4, from, across, along, lines, depth);
    to += depth * (MR * 4);
    from += across * MR;
  }
}

function packB(to: usize, from: usize, across: i32, along: i32, lines: i32, depth: i32): void {
  for (; lines > 0; lines -= NR) {
    if (across == 4 && lines >= NR) {
      let source = from;
      const end = to + depth * (NR * 4);
      for (let target = to; target < end; target += NR * 4) {
        v128.store(target, v128.load(source));
        v128.store(target, v128.load(source, 16), 16);
        source += along;
      }
    } else {
      pack4(to, NR * 4, from, across, along, lines, depth);
      pack4(to + 16, NR * 4, from + across * 4, across, along, lines - 4, depth);
    }
    to += depth * (NR * 4);
    from += across * NR;
  }
}

// Four lines side by side: to[p * pitch + line] = from[line * across + p * along].
function pack4(to: usize, pitch: i32, from: usize, across: i32, along: i32, lines: i32, depth: i32): void {
  if (lines < 4) {
    for (; depth > 0; depth--) {
      v128.store(to, f32x4.splat(0));
      let source = from;
      for (let line = 0; line < lines; line++) {
        store<f32>(to + (line << 2), load<f32>(source));
        source += across;
      }
      to += pitch;
      from += along;
    }
    return;
  }
  if (across == 4) {
    for (; depth > 0; depth--) {
      v128.store(to, v128.load(from));
      to += pitch;
      from += along;
    }
    return;
  }
  if (along == 4) {
    for (; depth >= 4; depth -= 4) {
      // a 4x4 transpose in registers
      const r0 = v128.load(from), r1 = v128.load(from + across);
      const r2 = v128.load(from + across * 2), r3 = v128.load(from + across * 3);
      const t0 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5), t1 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
      const t2 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7), t3 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
      v128.store(to, v128.shuffle<f32>(t0, t1, 0, 1, 4, 5));
      v128.store(to + pitch, v128.shuffle<f32>(t0, t1, 2, 3, 6, 7));
      v128.store(to + pitch * 2, v128.shuffle<f32>(t2, t3, 0, 1, 4, 5));
      v128.store(to + pitch * 3, v128.shuffle<f32>(t2, t3, 2, 3, 6, 7));
      to += pitch * 4;
      from += 16;
    }
  }
  for (; depth > 0; depth--) {
    store<f32>(to, load<f32>(from));
    store<f32>(to, load<f32>(from + across), 4);
    store<f32>(to, load<f32>(from + across * 2), 8);
    store<f32>(to, load<f32>(from + across * 3), 12);
    to += pitch;
    from += along;
  }
}
