// device/webgpu/bindGroups.ts: bind groups, kept where the same buffers come again.
import type { GpuMemory } from "./memory.ts";
import type { Layout } from "./pipelines.ts";

/** A part of the device's scratch buffer. */
export interface ScratchPart {
  readonly memory: GpuMemory;
  readonly offset: number;
  readonly size: number;
}

interface Entry {
  readonly memories: readonly GpuMemory[];
  readonly scratch: GpuMemory | undefined;
  readonly group: GPUBindGroup;
}

/** Donated buffers may rotate: two groups a launch serve a period of two. */
const perLaunch = 2;
/** Groups kept for plans that do not replay. */
const perDevice = 512;

/** Bind groups of one device. Binding i is `buffers[slots[i]]`; scratch parts follow. */
export class BindGroups {
  private readonly gpu: GPUDevice;
  private readonly replays = new WeakMap<object, Entry[][]>();
  private readonly recent = new Map<string, GPUBindGroup>();
  created = 0;

  constructor(gpu: GPUDevice) {
    this.gpu = gpu;
  }

  /** Groups of a plan that replays: a list for each launch, to be passed to `ofLaunch`. */
  ofReplay(replay: object): Entry[][] {
    let launches = this.replays.get(replay);
    if (!launches) {
      launches = [];
      this.replays.set(replay, launches);
    }
    return launches;
  }

  /** The group of launch `at` of a plan that replays. */
  ofLaunch(
    launches: Entry[][],
    at: number,
    layout: Layout,
    slots: readonly number[],
    buffers: readonly GpuMemory[],
    scratch: readonly ScratchPart[],
  ): GPUBindGroup {
    launches[at] ??= [];
    const entries = launches[at];
    for (let e = 0; e < entries.length; e++) {
      const entry = entries[e]!;
      let same = entry.scratch === scratch[0]?.memory;
      for (let i = 0; same && i < slots.length; i++) same = entry.memories[i] === buffers[slots[i]!];
      if (same) return entry.group;
    }
    const memories = slots.map((slot) => buffers[slot]!);
    const entry = { memories, scratch: scratch[0]?.memory, group: this.create(layout, memories, scratch) };
    entries.push(entry);
    if (entries.length > perLaunch) entries.shift();
    return entry.group;
  }

  /** A group for one use; kept for a while, because eager loops come back to the same buffers. */
  once(
    layout: Layout,
    slots: readonly number[],
    buffers: readonly GpuMemory[],
    scratch: readonly ScratchPart[],
  ): GPUBindGroup {
    let key = `${layout.id}`;
    for (const slot of slots) key += `,${buffers[slot]!.id}`;
    for (const { memory, offset, size } of scratch) key += `;${memory.id}+${offset}:${size}`;
    const known = this.recent.get(key);
    if (known) {
      this.recent.delete(key); // most recent last
      this.recent.set(key, known);
      return known;
    }
    const group = this.create(
      layout,
      slots.map((slot) => buffers[slot]!),
      scratch,
    );
    this.recent.set(key, group);
    if (this.recent.size > perDevice) this.recent.delete(this.recent.keys().next().value!);
    return group;
  }

  private create(layout: Layout, memories: readonly GpuMemory[], scratch: readonly ScratchPart[]): GPUBindGroup {
    this.created++;
    const resources: GPUBufferBinding[] = [
      ...memories.map(({ buffer }) => ({ buffer })),
      ...scratch.map(({ memory, offset, size }) => ({ buffer: memory.buffer, offset, size })),
    ];
    return this.gpu.createBindGroup({
      layout: layout.bindGroup,
      entries: resources.map((resource, binding) => ({ binding, resource })),
    });
  }
}
