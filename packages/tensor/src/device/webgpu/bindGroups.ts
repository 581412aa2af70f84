// device/webgpu/bindGroups.ts: bind groups, kept where the same buffers come again.
import type { GpuMemory } from "./memory.ts";
import type { GpuExecutable } from "./pipelines.ts";

interface Entry {
  readonly memories: readonly GpuMemory[];
  /** Undefined for kernels without scratch. */
  readonly scratch: GpuMemory | undefined;
  readonly group: GPUBindGroup;
}

/** Donated buffers may rotate: so many groups a launch serve a period as long. */
const perLaunch = 4;
/** Groups kept for plans that do not replay. */
const perDevice = 512;
/** Storage buffers start at multiples of this. */
const scratchAlignment = 256;

/** Where in the device's scratch buffer each scratch array of a kernel lies, and the bytes of all together. */
export function scratchParts(sizes: readonly number[]): { parts: { offset: number; size: number }[]; bytes: number } {
  let bytes = 0;
  const parts = sizes.map((elements) => {
    const part = { offset: bytes, size: elements * 4 };
    bytes += Math.ceil(part.size / scratchAlignment) * scratchAlignment;
    return part;
  });
  return { parts, bytes };
}

/** Bind groups of one device. Binding i is `buffers[slots[i]]`; parts of the device's scratch buffer follow. */
export class BindGroups {
  private readonly gpu: GPUDevice;
  private readonly replays = new WeakMap<object, (Entry[] | undefined)[]>();
  private readonly recent = new Map<string, GPUBindGroup>();
  created = 0;

  constructor(gpu: GPUDevice) {
    this.gpu = gpu;
  }

  /** Groups of a plan that replays: a list for each launch, to be passed to `ofLaunch`. */
  ofReplay(replay: object): (Entry[] | undefined)[] {
    let launches = this.replays.get(replay);
    if (!launches) {
      launches = [];
      this.replays.set(replay, launches);
    }
    return launches;
  }

  /** The group of launch `at` of a plan that replays. */
  ofLaunch(
    launches: (Entry[] | undefined)[],
    at: number,
    executable: GpuExecutable,
    slots: readonly number[],
    buffers: readonly GpuMemory[],
    scratch: GpuMemory | undefined,
  ): GPUBindGroup {
    const entries = (launches[at] ??= []);
    const mine = executable.program.scratch.length > 0 ? scratch : undefined;
    for (let e = 0; e < entries.length; e++) {
      const entry = entries[e]!;
      let same = entry.scratch === mine;
      for (let i = 0; same && i < slots.length; i++) same = entry.memories[i] === buffers[slots[i]!];
      if (same) return entry.group;
    }
    const memories = slots.map((slot) => buffers[slot]!);
    const entry = { memories, scratch: mine, group: this.create(executable, memories, mine) };
    entries.push(entry);
    if (entries.length > perLaunch) entries.shift();
    return entry.group;
  }

  /** A group for one use; kept for a while, because eager loops come back to the same buffers. */
  once(
    executable: GpuExecutable,
    slots: readonly number[],
    buffers: readonly GpuMemory[],
    scratch: GpuMemory | undefined,
  ): GPUBindGroup {
    let key = `${executable.layout.id}`;
    for (const slot of slots) key += `,${buffers[slot]!.id}`;
    const { scratch: sizes } = executable.program;
    if (sizes.length > 0) key += `;${scratch?.id}:${sizes.join(",")}`;
    const known = this.recent.get(key);
    if (known) {
      this.recent.delete(key); // most recent last
      this.recent.set(key, known);
      return known;
    }
    const group = this.create(
      executable,
      slots.map((slot) => buffers[slot]!),
      scratch,
    );
    this.recent.set(key, group);
    if (this.recent.size > perDevice) this.recent.delete(this.recent.keys().next().value!);
    return group;
  }

  private create(
    { layout, program }: GpuExecutable,
    memories: readonly GpuMemory[],
    scratch: GpuMemory | undefined,
  ): GPUBindGroup {
    this.created++;
    const resources: GPUBufferBinding[] = [
      ...memories.map(({ buffer, offset, bytes }) => ({ buffer, offset, size: bytes })),
      ...(scratch ? scratchParts(program.scratch).parts.map((part) => ({ buffer: scratch.buffer, ...part })) : []),
    ];
    return this.gpu.createBindGroup({
      layout: layout.bindGroup,
      entries: resources.map((resource, binding) => ({ binding, resource })),
    });
  }
}
