// run/compile.ts: records a function once for each signature and replays its plan.
import type { SchedulerSettings } from "../compiler/schedule.ts";
import { ValueError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import { type Call, readCall, readLike } from "./call.ts";
import { materialise } from "./realise.ts";
import { type Recording, record } from "./record.ts";
import { isRecording } from "./recording.ts";
import { replay } from "./replay.ts";

/** Options of `compile`. */
export interface CompileOptions {
  /**
   * Arguments whose tensors the function may overwrite: positions, or keys of the first argument; `true` for all.
   * Their buffers become the outputs', and the old tensors must not be used afterwards. Default: none.
   */
  readonly donate?: boolean | readonly (string | number)[];
  /** Knobs of the scheduler, for tests and for explaining: every setting gives the same values up to rounding. */
  readonly scheduler?: Partial<SchedulerSettings>;
}

// Variants of one shape that differ only in numbers, before the lesson.
const NUMBER_VARIANTS = 3;

/** @internal A compiled function can be asked for the recording of a call, and for the call's tensors, each once. */
export const recordingOf = new WeakMap<
  (...args: never[]) => unknown,
  (args: readonly unknown[]) => { readonly recording: Recording; readonly tensors: readonly Tensor[] }
>();

/**
 * Records `fn` once for each signature (tree structure, shapes, dtypes, numbers) and replays the plan: no graph work, no new
 * buffers. Learning rates, step counts and random keys belong in tensors: a number is part of the signature.
 *
 * Captured tensors are constants of the plan; a captured variable that is reassigned later, or a counter, stays as it was.
 * Called while another function is compiled or differentiated, the result is `fn` itself.
 *
 * @param fn - a function from trees of tensors (and numbers, booleans, strings) to a tree of tensors
 * @throws ValueError if a value is read inside, if a placeholder escapes, if a number changes with every call, or if a donated tensor is used again
 * @example
 * const step = compile(({ w }: { w: Tensor }, x: Tensor) => ({ w: sub(w, mul(x, 0.1)) }), { donate: ["w"] });
 * ({ w } = step({ w }, x)); // the old w's buffer holds the new one
 */
export function compile<Args extends unknown[], R>(
  fn: (...args: Args) => R,
  { donate = false, scheduler = {} }: CompileOptions = {},
): (...args: Args) => R {
  const recordings = new Map<string, Recording>();
  const numberVariants = new Map<string, number>();
  let latest: Recording | undefined;

  const lookup = (args: readonly unknown[], call: Call): Recording => {
    let recording = recordings.get(call.signature);
    if (!recording) {
      const variants = (numberVariants.get(call.shapes) ?? 0) + 1;
      if (variants > NUMBER_VARIANTS && call.hasNumbers) {
        throw new ValueError(
          `compile: called with ${variants} different numbers for the same shapes; each makes a new plan.
  wrong:  step(params, learningRate)          // a number is part of the recorded plan
  why:    the plan is recorded once for each value of a number
  right:  step(params, tensor(learningRate))  // a tensor is an input of the plan`,
        );
      }
      recording = record(fn as (...args: unknown[]) => unknown, args, call, scheduler);
      numberVariants.set(call.shapes, variants);
      recordings.set(call.signature, recording);
    }
    return recording;
  };

  /** The same signature as last time is seen from the structure alone. */
  const find = (args: readonly unknown[]): { recording: Recording; tensors: readonly Tensor[] } => {
    const tensors = latest && readLike(latest.pattern, args);
    if (latest && tensors) return { recording: latest, tensors };
    const call = readCall(args, donate);
    materialise(call.tensors, "compile");
    latest = lookup(args, call);
    return { recording: latest, tensors: call.tensors };
  };

  const compiled = (...args: Args): R => {
    if (isRecording()) return fn(...args);
    const start = performance.now();
    const { recording, tensors } = find(args);
    const again = recording.kept !== undefined;
    const result = replay(recording, tensors) as R;
    if (again) recording.javascriptMs = Math.min(recording.javascriptMs ?? Infinity, performance.now() - start);
    return result;
  };
  recordingOf.set(compiled as (...args: never[]) => unknown, (args) => {
    const call = readCall(args, donate);
    return { recording: lookup(args, call), tensors: call.tensors };
  });
  return compiled;
}
