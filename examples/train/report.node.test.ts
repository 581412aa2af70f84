import { describe, expect, test } from "vitest";
import type { StepMetrics } from "./metrics.ts";
import { chartsOf, escapeHtml, type Report, renderReport, thin } from "./report.ts";

const metrics = (count: number): StepMetrics[] =>
  Array.from({ length: count }, (_, i) => ({
    step: i + 1,
    loss: 5 - i / count,
    learningRate: 0.01,
    tokensPerSecond: 1000 + (i % 10),
    maxLogit: [
      [i / 10, 3],
      [4, 5],
    ],
    clippedHeads: i % 3,
    gradNorm: 1,
    seconds: i,
    expertLoad: [[0.5 + (i % 2) / 4, 0.5 - (i % 2) / 4]],
    routingEntropy: 0.5,
    droppedTokens: 0,
  }));

const report = (count: number): Report => ({
  title: "A run <of> tests",
  settings: [
    ["optimizer", "muonclip"],
    ["text", 'a "file" & more'],
  ],
  metrics: metrics(count),
  final: { done: true, validationLoss: 1.7, bitsPerByte: 2.45 },
  baselines: [{ name: "order-1 n-gram", loss: 2.57 }],
  tau: 10,
  sample: { prompt: "Once <b>", continuation: " upon & \0" },
});

describe("renderReport(report)", () => {
  test("is one page with five plots, the figures and the sample, and asks for nothing from elsewhere", async () => {
    const page = await renderReport(report(50));
    expect(page.match(/<svg role="img"/g)?.length).toBe(5);
    for (const text of ["1.7000 nats a byte", "2.4500", "order-1 n-gram", "tau = 10", "layer 1, head 1"]) {
      expect(page).toContain(text);
    }
    expect(page).toContain("<b>Once &lt;b&gt;</b> upon &amp; \uFFFD");
    expect(page).toContain("a &quot;file&quot; &amp; more");
    expect(page).not.toMatch(/<script|<link|src=|@import|url\(/);
    expect(page.replace(/xmlns(:\w+)?="[^"]*"/g, "")).not.toMatch(/https?:/);
  });

  test("draws a run of a single step", async () => {
    expect(await renderReport(report(1))).toContain("</html>");
  });
});

describe("chartsOf(report)", () => {
  test("has the tau line only with QK-Clip", () => {
    expect(chartsOf(report(5))[1]!.lines).toEqual([{ value: 10, label: "tau = 10" }]);
    expect(chartsOf({ ...report(5), tau: undefined })[1]!.lines).toEqual([]);
  });

  test("has a series for every head", () => {
    const points = chartsOf(report(5))[1]!.points;
    expect(new Set(points.map(({ series }) => series)).size).toBe(4);
    expect(points.every(({ series, group }) => series === group)).toBe(true);
  });

  test("has a plot of the experts only where there are any", () => {
    const titles = (each: Report) => chartsOf(each).map(({ title }) => title.split(" ")[0]);
    expect(titles(report(5))).toEqual(["Loss,", "Largest", "Heads", "Load", "Tokens"]);
    const dense = { ...report(5), metrics: metrics(5).map((each) => ({ ...each, expertLoad: [] })) };
    expect(titles(dense)).toEqual(["Loss,", "Largest", "Heads", "Tokens"]);
  });

  test("names layers instead of heads in the legend where there are many", () => {
    const many = metrics(5).map((each) => ({ ...each, maxLogit: Array.from({ length: 4 }, () => [1, 2, 3, 4]) }));
    const points = chartsOf({ ...report(5), metrics: many })[1]!.points;
    expect(new Set(points.map(({ series }) => series)).size).toBe(16);
    expect(new Set(points.map(({ group }) => group))).toEqual(new Set(["layer 0", "layer 1", "layer 2", "layer 3"]));
  });
});

describe("thin(metrics, limit)", () => {
  test("keeps short runs whole", () => {
    expect(thin(metrics(10), 10)).toEqual(metrics(10));
  });

  test("keeps means of the loss and every largest logit and count of long ones", () => {
    const all = metrics(1003);
    const bins = thin(all, 100);
    expect(bins.length).toBeLessThanOrEqual(100);
    expect(bins.at(-1)!.step).toBe(1003);
    expect(bins[0]!.loss).toBeCloseTo(all.slice(0, 11).reduce((sum, each) => sum + each.loss, 0) / 11, 12);
    const largest = (list: StepMetrics[]) => Math.max(...list.map((each) => each.maxLogit[0]![0]!));
    expect(largest(bins)).toBe(largest(all));
    expect(Math.max(...bins.map((bin) => bin.clippedHeads))).toBe(2);
  });
});

test("escapeHtml(text) leaves no markup and no control character", () => {
  expect(escapeHtml(`<a href="x">&\x01\n\t`)).toBe("&lt;a href=&quot;x&quot;&gt;&amp;\uFFFD\n\t");
});
