import { describe, expect, test } from "vitest";
import { parseOptions, type TrainOptions, UsageError } from "./options.ts";

const parse = (...args: string[]) => parseOptions(args, "/home/someone") as TrainOptions;

describe("parseOptions(args)", () => {
  test("without arguments gives the documented model and run", () => {
    const { out, ...options } = parse();
    expect(options).toMatchObject({ layers: 2, heads: 4, width: 64, experts: 16, context: 128, batch: 8 });
    expect(options).toMatchObject({ optimizer: "muonclip", learningRate: 2e-2, packing: "chunks", progress: true });
    expect(options).toMatchObject({ device: undefined, text: undefined, config: undefined });
    expect(out).toMatch(/^\/home\/someone\/runs\/\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-muonclip$/);
  });

  test("reads every option", () => {
    const args =
      "--steps 7 --device cpu --optimizer adamw --learning-rate 2e-3 --tau 30.5 --seed 0 --width 32 --layers 1 --heads 2 --experts 4 " +
      "--packing masked --context 16 --batch 3 --text a.txt --out ../b --no-progress";
    expect(parse(...args.split(" "))).toEqual({
      steps: 7,
      device: "cpu",
      optimizer: "adamw",
      learningRate: 2e-3,
      tau: 30.5,
      seed: 0,
      width: 32,
      layers: 1,
      heads: 2,
      experts: 4,
      config: undefined,
      packing: "masked",
      context: 16,
      batch: 3,
      text: "/home/someone/a.txt",
      out: "/home/b",
      progress: false,
    });
  });

  test("takes a model's sizes from --config, by a path relative to the caller", () => {
    expect(parse("--config", "../k2/config.json").config).toBe("/home/k2/config.json");
  });

  test("the learning rate's default depends on the optimizer", () => {
    expect(parse("--optimizer", "adamw").learningRate).toBe(3e-3);
    expect(parse("--optimizer", "muon").learningRate).toBe(2e-2);
  });

  test("--help gives the text and every option", () => {
    const { help } = parseOptions(["--help"]) as { help: string };
    const names =
      "steps device optimizer learning-rate tau seed width layers heads experts config packing context batch text out no-progress help";
    for (const name of names.split(" ")) expect(help).toContain(`--${name}`);
  });

  test.each([
    [["--stepz", "3"], "unknown option '--stepz'"],
    [["more"], "too many arguments"],
    [["--steps"], "argument missing"],
    [["--steps", "0"], "must be a whole number from 1 to"],
    [["--steps", "1e3"], "must be a whole number"],
    [["--steps", "-5"], "must be a whole number"],
    [["--steps", "2.5"], "must be a whole number"],
    [["--steps", ""], "must be a whole number"],
    [["--seed", "4294967296"], "must be a whole number from 0 to 4294967295"],
    [["--learning-rate", "0"], "must be a number above 0"],
    [["--learning-rate", "nan"], "must be a number above 0"],
    [["--learning-rate", "-1"], "must be a number above 0"],
    [["--learning-rate", "Infinity"], "must be a number above 0"],
    [["--tau", "x"], "must be a number above 0"],
    [["--tau", " "], "must be a number above 0"],
    [["--device", "gpu"], "Allowed choices are cpu, webgpu"],
    [["--optimizer", "sgd"], "Allowed choices are adamw, muon, muonclip"],
    [["--heads", "3"], "option '--heads' must divide the width, got 3 heads and width 64"],
    [["--experts", "0"], "must be a whole number from 1 to"],
    [["--packing", "loose"], "Allowed choices are chunks, masked, padded"],
    [["--config", ""], "must not be empty"],
    [["--config", "a.json", "--width", "32", "--layers", "2"], "leave out '--width', '--layers'"],
    [["--text", ""], "must not be empty"],
    [["--out", ""], "must not be empty"],
  ])("%j is refused: %s", (args, message) => {
    expect(() => parse(...args)).toThrow(UsageError);
    expect(() => parse(...args)).toThrow(message);
  });
});
