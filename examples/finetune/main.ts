// main.ts: fine-tunes a checkpoint in Hugging Face's form on a text, and writes another one. Such a checkpoint is also what a run
// of `npm start` leaves in its folder.
//
//   npm run example -- finetune CHECKPOINT TEXT --steps 100 --learning-rate 1e-3 --out DIR
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { valueAndGrad } from "@mc/autograd";
import {
  type Batch,
  byteTokenizer,
  packDocuments,
  shuffledBatches,
  splitDocuments,
  type Tokenizer,
  toTensors,
} from "@mc/data";
import { huggingFaceTokenizer } from "@mc/data/huggingface";
import { generate, loadHuggingFace, saveHuggingFace, type TransformerBatch, type TransformerParams } from "@mc/nn";
import { adamw, clipByGlobalNorm, type OptimizerState, transformGradients, warmupCosine } from "@mc/optim";
import { compile, connect, McError, ValueError } from "@mc/tensor";
import { Command, InvalidArgumentError } from "commander";

interface Options {
  steps: number;
  learningRate: number;
  context: number;
  batch: number;
  out?: string;
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0 && Number.isFinite(value))) throw new InvalidArgumentError("It must be a positive number.");
  return value;
}

function count(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError("It must be a whole number from 1.");
  return Number(text);
}

const command = new Command("npm run example -- finetune")
  .argument(
    "<checkpoint>",
    "folder with config.json, model.safetensors (or shards), and tokenizer.json unless it is a model of bytes",
  )
  .argument("<text>", "a UTF-8 text file; an empty line ends a document")
  .option("--steps <n>", "training steps", count, 100)
  .option("--learning-rate <x>", "peak learning rate", positive, 1e-3)
  .option("--context <n>", "tokens a sequence", count, 128)
  .option("--batch <n>", "sequences a step", count, 4)
  .option("--out <dir>", "folder of the new checkpoint (default: CHECKPOINT-finetuned)")
  .parse();
const from = (path: string) => resolve(process.env.INIT_CWD ?? process.cwd(), path);
const [checkpoint, textFile] = command.args.map(from) as [string, string];
const options = command.opts<Options>();

try {
  await finetune();
} catch (error) {
  const told = error instanceof McError || (error as NodeJS.ErrnoException).code !== undefined;
  if (!told) throw error;
  process.stderr.write(`error: ${(error as Error).message}\n`);
  process.exitCode = 2;
}

async function finetune(): Promise<void> {
  const device = await connect();
  const {
    config,
    model,
    params: loaded,
  } = await loadHuggingFace((name) => {
    const path = join(checkpoint, name);
    return existsSync(path) ? readFileSync(path) : undefined;
  });
  const tokenizer = openTokenizer();
  if (tokenizer.vocabSize > model.config.vocabSize) {
    throw new ValueError(
      `the model has ${model.config.vocabSize} tokens, the tokenizer ${tokenizer.vocabSize}; put the model's tokenizer.json beside its weights`,
    );
  }
  const { steps, learningRate, context, batch: wantedBatch } = options;

  // Documents keep to themselves: masks between them, positions that begin anew.
  const documents = readFileSync(textFile, "utf8")
    .split(/\n\s*\n/)
    .filter((text) => text.trim() !== "")
    .map(tokenizer.encodeDocument);
  const { train, validation } = splitDocuments(documents, { validationFraction: 0.1, seed: 1 });
  const [sequences, unseen] = [train, validation].map((part) =>
    packDocuments(part, { length: context, packing: "masked" }),
  ) as [ReturnType<typeof packDocuments<"masked">>, ReturnType<typeof packDocuments<"masked">>];

  // AdamW: checkpoints that were trained with it gain nothing from another optimizer now (Moonlight, section 3.5.2).
  const optimizer = transformGradients(
    clipByGlobalNorm(1),
    adamw({
      learningRate: warmupCosine({
        peak: learningRate,
        warmupSteps: Math.ceil(steps / 10),
        totalSteps: steps,
      }),
      weightDecay: 0.01,
      roles: model.roles,
    }),
  );
  const step = compile(
    ({ params, state, batch }: { params: TransformerParams; state: OptimizerState; batch: TransformerBatch }) => {
      const { grads, aux } = valueAndGrad(model.loss, { hasAux: true })(params, batch);
      return { ...optimizer.update(grads, state, params), loss: aux.crossEntropy };
    },
    { donate: ["params", "state"] },
  );
  const lossOf = compile(
    (args: { params: TransformerParams; batch: TransformerBatch }) =>
      model.loss(args.params, args.batch).aux.crossEntropy,
  );
  const batchSize = Math.min(wantedBatch, sequences.count);
  const unseenBatch = [...shuffledBatches(unseen, { batchSize: Math.min(batchSize, unseen.count), epochs: 1 })][0]!;
  const unseenLoss = async (params: TransformerParams) =>
    (await lossOf({ params, batch: toTensors(unseenBatch, { device }) }).item()).toFixed(4);

  console.log(`device      ${device.description}`);
  console.log(`checkpoint  ${config.model_type}, ${model.config.numLayers} layers, width ${model.config.hiddenSize}`);
  console.log(`text        ${documents.length} documents, ${sequences.count} sequences of ${sequences.length} tokens`);
  console.log(`before      loss ${await unseenLoss(loaded)} on unseen documents`);

  let params = loaded;
  let state = optimizer.init(params);
  const batches = shuffledBatches(sequences, { batchSize, seed: 1 });
  for (let count = 1; count <= steps; count++) {
    const { value: batch } = batches.next() as IteratorYieldResult<Batch<"masked">>;
    const next = step({ params, state, batch: toTensors(batch, { device }) });
    ({ params, state } = next);
    if (count % Math.ceil(steps / 10) === 0) console.log(`step ${count}  loss ${(await next.loss.item()).toFixed(4)}`);
  }
  console.log(`after       loss ${await unseenLoss(params)} on unseen documents`);

  const prompt = [...validation[0]!.subarray(0, 16)];
  const written: number[] = [];
  const sampling = { maxTokens: 100, temperature: 0.8, seed: 1, contextLength: context };
  for await (const id of generate(model, params, prompt, { ...sampling, stopTokens: tokenizer.endOfDocument })) {
    written.push(id);
  }
  console.log(
    `sample      ${JSON.stringify(tokenizer.decode(prompt))} -> ${JSON.stringify(tokenizer.decode(written))}`,
  );

  const out = options.out === undefined ? `${checkpoint}-finetuned` : from(options.out);
  mkdirSync(out, { recursive: true });
  for await (const { name, bytes } of saveHuggingFace(model.config, params)) writeFileSync(join(out, name), bytes);
  console.log(`wrote       ${out}`);
}

function openTokenizer(): Tokenizer {
  const path = join(checkpoint, "tokenizer.json");
  return existsSync(path) ? huggingFaceTokenizer(readFileSync(path, "utf8")) : byteTokenizer();
}
