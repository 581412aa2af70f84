// device/webgpu/pipelines.ts: programs to pipelines, each text compiled once.
import { DeviceError } from "../../errors.ts";
import type { Executable } from "../device.ts";
import type { Program } from "./program.ts";

/** A bind group layout; layouts with equal access lists are one object, so that bind groups serve every pipeline that has it. */
export interface Layout {
  readonly id: number;
  readonly bindGroup: GPUBindGroupLayout;
  readonly pipeline: GPUPipelineLayout;
}

interface CompiledPass {
  readonly pipeline: GPUComputePipeline;
  readonly workgroups: readonly [number, number, number];
}

/** A program on its way to pipelines. */
export interface GpuExecutable extends Executable {
  readonly program: Program;
  readonly layout: Layout;
  /** Filled in by the time `ready` resolves, unless `failure` is. */
  passes: readonly CompiledPass[];
  /** Never rejects; undefined once compiled. */
  ready: Promise<void> | undefined;
  failure: DeviceError | undefined;
}

/** Caches by text. Compilation runs in the background. */
export class PipelineCache {
  private readonly gpu: GPUDevice;
  private readonly executables = new Map<string, GpuExecutable>();
  private readonly layouts = new Map<string, Layout>();
  created = 0;

  constructor(gpu: GPUDevice) {
    this.gpu = gpu;
  }

  get(program: Program): GpuExecutable {
    const key = `${program.variant}|${program.passes.map((p) => `${p.entry}:${p.workgroups.join("x")}`).join(" ")}|${program.access.join("")}|${program.scratch.join(",")}|${program.code}`;
    const known = this.executables.get(key);
    if (known) return known;
    const executable = this.compile(program);
    this.executables.set(key, executable);
    return executable;
  }

  private layout(access: readonly ("read" | "write")[]): Layout {
    const key = access.join();
    const known = this.layouts.get(key);
    if (known) return known;
    const bindGroup = this.gpu.createBindGroupLayout({
      entries: access.map((a, binding) => ({
        binding,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: a === "read" ? "read-only-storage" : "storage" },
      })),
    });
    const layout = {
      id: this.layouts.size,
      bindGroup,
      pipeline: this.gpu.createPipelineLayout({ bindGroupLayouts: [bindGroup] }),
    };
    this.layouts.set(key, layout);
    return layout;
  }

  private compile(program: Program): GpuExecutable {
    const { label, variant, code } = program;
    const gpu = this.gpu;
    const limit = gpu.limits.maxStorageBuffersPerShaderStage;
    if (program.access.length > limit) {
      throw new DeviceError(
        "limit",
        `${label}: needs ${program.access.length} storage buffers, this device binds ${limit} at once; split the operation`,
      );
    }
    const executable: GpuExecutable = {
      label,
      variant,
      dispatches: program.passes.length,
      code,
      program,
      layout: this.layout(program.access),
      passes: [],
      ready: undefined,
      failure: undefined,
    };
    if (program.passes.length === 0) return executable;
    gpu.pushErrorScope("validation");
    const module = gpu.createShaderModule({ label, code });
    const outcome = gpu.popErrorScope();
    const pipelines = program.passes.map(({ entry, workgroups }) => {
      this.created++;
      return gpu
        .createComputePipelineAsync({
          label,
          layout: executable.layout.pipeline,
          compute: { module, entryPoint: entry },
        })
        .then((pipeline) => ({ pipeline, workgroups }));
    });
    executable.ready = Promise.all([Promise.all(pipelines), outcome])
      .then(
        ([passes]) => {
          executable.passes = passes;
        },
        async (error: unknown) => {
          const info = await module.getCompilationInfo().catch(() => undefined);
          const lines =
            info?.messages.filter((m) => m.type === "error").map((m) => `line ${m.lineNum}: ${m.message}`) ?? [];
          const reason = lines.length > 0 ? lines.join("; ") : error instanceof Error ? error.message : String(error);
          executable.failure = new DeviceError("kernel", `${label}: the GPU kernel could not be compiled: ${reason}`, {
            cause: error,
          });
        },
      )
      .then(() => {
        executable.ready = undefined;
      });
    return executable;
  }
}
