// report.ts: the run as one page that needs nothing but itself.
import { type Chart, drawChart } from "./charts.ts";
import type { FinalMetrics, StepMetrics } from "./metrics.ts";

/** What the page tells. */
export interface Report {
  title: string;
  /** Name and value of each setting. */
  settings: readonly (readonly [name: string, value: string])[];
  metrics: readonly StepMetrics[];
  final: FinalMetrics;
  /** Losses to compare with, in nats a byte. */
  baselines: readonly { name: string; loss: number }[];
  /** The QK-Clip threshold; undefined without QK-Clip. */
  tau: number | undefined;
  sample: { prompt: string; continuation: string };
}

/** The page as HTML: figures, plots as SVG, the sample; no script, no address. */
export async function renderReport(report: Report): Promise<string> {
  const { title, settings, final, sample } = report;
  const drawn: string[] = [];
  for (const chart of chartsOf(report)) {
    drawn.push(`<figure><figcaption>${escapeHtml(chart.title)}</figcaption>${await drawChart(chart)}</figure>`);
  }
  const results = [
    ["validation loss", `${final.validationLoss.toFixed(4)} nats a byte`],
    ["bits per byte", final.bitsPerByte.toFixed(4)],
    ...report.baselines.map(({ name, loss }) => [name, `${loss.toFixed(4)} nats a byte`] as const),
  ] as const;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>${escapeHtml(title)}</h1>
<section class="tables">
${table("Result", results)}
${table("Settings", settings)}
</section>
<section class="charts">
${drawn.join("\n")}
</section>
<section>
<h2>Sample</h2>
<pre><b>${escapeHtml(sample.prompt)}</b>${escapeHtml(sample.continuation)}</pre>
<p class="note">The bold part was given: the beginning of a validation document.</p>
</section>
</main>
</body>
</html>
`;
}

/** The plots, as data: four, and one of the experts where there are any. */
export function chartsOf({ metrics, tau, final, baselines }: Report): Chart[] {
  const bins = thin(metrics, LARGEST_SERIES);
  const one = (field: "loss" | "tokensPerSecond" | "clippedHeads") =>
    bins.map((bin) => ({ step: bin.step, value: bin[field], series: "", group: "" }));
  const headCount = metrics[0]?.maxLogit.flat().length ?? 0;
  return [
    {
      title: "Loss, in nats a byte",
      unit: "nats a byte",
      points: one("loss"),
      lines: [
        { value: final.validationLoss, label: "validation" },
        ...baselines.map(({ name, loss }) => ({ value: loss, label: name })),
      ],
    },
    {
      title: "Largest attention logit of each head",
      unit: "logit",
      points: bins.flatMap(({ step, maxLogit }) =>
        maxLogit.flatMap((heads, layer) =>
          heads.map((value, head) => {
            const series = `layer ${layer}, head ${head}`;
            return { step, value, series, group: headCount > LARGEST_LEGEND ? `layer ${layer}` : series };
          }),
        ),
      ),
      lines: tau === undefined ? [] : [{ value: tau, label: `tau = ${tau}` }],
    },
    { title: "Heads clipped after the step", unit: "heads", points: one("clippedHeads"), lines: [], steps: true },
    ...loadChart(bins),
    { title: "Tokens a second", unit: "tokens/s", points: one("tokensPerSecond"), lines: [] },
  ];
}

/** The share of each expert, every layer in one plot; none without experts. */
function loadChart(bins: readonly StepMetrics[]): Chart[] {
  const shares = bins[0]?.expertLoad ?? [];
  if (shares.length === 0) return [];
  const points = bins.flatMap(({ step, expertLoad }) =>
    expertLoad.flatMap((layer, i) =>
      layer.map((value, expert) => ({
        step,
        value: value * layer.length,
        series: `layer ${i}, expert ${expert}`,
        group: `expert layer ${i}`,
      })),
    ),
  );
  return [
    {
      title: "Load of each expert, as a multiple of an even share",
      unit: "even shares",
      points,
      lines: [{ value: 1, label: "balance" }],
    },
  ];
}

// With more heads than this, a layer's heads share a colour.
const LARGEST_LEGEND = 12;

// More points than this a series cannot be told apart on the page.
const LARGEST_SERIES = 800;

/** At most `limit` records: means of loss, speed and load, and the largest of logits and clipped heads, over neighbouring steps. */
export function thin(metrics: readonly StepMetrics[], limit: number): StepMetrics[] {
  const size = Math.ceil(metrics.length / limit);
  if (size <= 1) return [...metrics];
  const bins: StepMetrics[] = [];
  for (let at = 0; at < metrics.length; at += size) {
    const bin = metrics.slice(at, at + size);
    const mean = (field: "loss" | "tokensPerSecond") => bin.reduce((sum, each) => sum + each[field], 0) / bin.length;
    const last = bin.at(-1)!;
    bins.push({
      ...last,
      loss: mean("loss"),
      tokensPerSecond: mean("tokensPerSecond"),
      clippedHeads: Math.max(...bin.map((each) => each.clippedHeads)),
      maxLogit: last.maxLogit.map((heads, layer) =>
        heads.map((_, head) => Math.max(...bin.map((each) => each.maxLogit[layer]![head]!))),
      ),
      expertLoad: last.expertLoad.map((shares, layer) =>
        shares.map((_, expert) => bin.reduce((sum, each) => sum + each.expertLoad[layer]![expert]!, 0) / bin.length),
      ),
    });
  }
  return bins;
}

function table(caption: string, rows: readonly (readonly [string, string])[]): string {
  const body = rows.map(
    ([name, value]) => `<tr><th scope="row">${escapeHtml(name)}</th><td>${escapeHtml(value)}</td></tr>`,
  );
  return `<table><caption>${caption}</caption><tbody>${body.join("")}</tbody></table>`;
}

/** Text with the characters of markup made harmless, and those that a page cannot show made visible. */
export function escapeHtml(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    .replace(/[\0-\x08\v-\x1f\x7f]/g, "\uFFFD");
}

const STYLE = `
:root { color-scheme: light; font: 15px/1.5 system-ui, sans-serif; color: #1f2328; background: #fff; }
body { margin: 0; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 22px; margin: 0 0 16px; }
h2 { font-size: 17px; margin: 24px 0 8px; }
.tables { display: flex; flex-wrap: wrap; gap: 16px 48px; align-items: flex-start; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: 4px; }
th, td { text-align: left; padding: 2px 16px 2px 0; vertical-align: top; overflow-wrap: anywhere; }
th { font-weight: 400; color: #59636e; white-space: nowrap; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 24px; margin-top: 24px; }
figure { margin: 0; }
figcaption { font-weight: 600; margin-bottom: 4px; }
svg { width: 100%; height: auto; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f8fa; padding: 12px 16px; border-radius: 6px; }
.note { color: #59636e; margin: 4px 0 0; }
`;
