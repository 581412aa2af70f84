// run/recording.ts: which traces and gradients are being recorded right now.
import { ValueError } from "../errors.ts";
import { activeTraces, createNode, type Node, topologicalOrder } from "../node.ts";
import { Tensor } from "../tensor.ts";

const activeVariables = new Set<Node>();

/** Whether a compiled function is being traced or a gradient recorded: then values do not exist yet. */
export const isRecording = (): boolean => activeTraces.size > 0 || activeVariables.size > 0;

/** Whether a gradient is being recorded. */
export const isDifferentiating = (): boolean => activeVariables.size > 0;

/**
 * Runs `f` on fresh variables that stand for `tensors`. Until it returns, reading anything that depends on them throws.
 * The walk back must happen inside `f` as well: once realised, a value has no history.
 */
export function withVariables<R>(tensors: readonly Tensor[], f: (variables: Tensor[]) => R): R {
  const variables = tensors.map((t) => new Tensor(createNode({ kind: "variable" }, [t.node], t.shape, t.dtype)));
  for (const v of variables) activeVariables.add(v.node);
  try {
    return f(variables);
  } finally {
    for (const v of variables) activeVariables.delete(v.node);
  }
}

/** Throws the lesson if a value is asked for that does not exist yet. */
export function checkReadable(op: string, roots: readonly Node[]): void {
  if (!isRecording()) return;
  for (const node of topologicalOrder(roots)) {
    if (node.kind.kind === "input") {
      throw new ValueError(
        `${op}: a tensor's value was read inside a compiled function, where it does not exist yet.
  wrong:  compile((x) => { const s = await sum(x).item(); return mul(x, 1 / s); })
  why:    compile runs the function once to record it; values exist only when the plan runs
  right:  compile((x) => div(x, sum(x)))`,
      );
    }
    if (activeVariables.has(node)) {
      throw new ValueError(
        `${op}: a value that a gradient is being taken through was read inside the function; realising it would cut the gradient.
  wrong:  grad((w) => { console.log(await loss(w).item()); return loss(w); })
  right:  valueAndGrad(loss, { hasAux: true }) and read the value or the auxiliary outputs afterwards`,
      );
    }
  }
}
