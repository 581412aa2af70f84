// walk.ts: the one walk back through the graph. Everything else in this package is a way of calling it.
import type { Tensor } from "@mc/tensor";
import { accumulate, inputGradients, type Node, topologicalOrder } from "@mc/tensor/graph";

/**
 * Cotangents of `inputs`, given those of `outputs`: for y = f(x), x_bar = y_bar * dy/dx, accumulated over all paths.
 * Nodes that no input reaches are never visited. Entries are undefined where nothing flows.
 */
export function walkBack(
  outputs: readonly Tensor[],
  inputs: readonly Tensor[],
  cotangents: readonly (Tensor | undefined)[],
): (Tensor | undefined)[] {
  const reached = new Set<Node>(inputs.map((t) => t.node));
  const wanted = new Set(reached);
  const order = topologicalOrder(
    outputs.map((t) => t.node),
    (n) => (wanted.has(n) ? [] : n.inputs),
  );
  for (const node of order) if (node.kind.kind !== "stop" && node.inputs.some((n) => reached.has(n))) reached.add(node);

  const bars = new Map<Node, Tensor>();
  // a fused node or a checkpoint has one cotangent for each output
  const outputBars = new Map<Node, (Tensor | undefined)[]>();
  const give = (node: Node, bar: Tensor | undefined): void => {
    if (bar && reached.has(node)) bars.set(node, accumulate(bars.get(node), bar)!);
  };
  outputs.forEach((t, i) => {
    give(t.node, cotangents[i]);
  });

  for (let i = order.length - 1; i >= 0; i--) {
    const node = order[i]!;
    if (!reached.has(node) || wanted.has(node)) continue;
    if (node.kind.kind === "pick") {
      const bar = bars.get(node);
      const source = node.inputs[0]!;
      if (!bar) continue;
      const list = outputBars.get(source) ?? [];
      list[node.kind.output] = accumulate(list[node.kind.output], bar);
      outputBars.set(source, list);
      continue;
    }
    const bar = outputBars.get(node) ?? (bars.has(node) ? [bars.get(node)] : undefined);
    if (!bar) continue;
    const gradients = inputGradients(node, bar, (k) => reached.has(node.inputs[k]!), walkBack);
    gradients.forEach((g, k) => {
      give(node.inputs[k]!, g);
    });
  }
  return inputs.map((t) => bars.get(t.node));
}
