// The arrows between packages, as a check: who may import whom. Everything not listed is an error.

/** What the sources of each package may import. @type {Record<string, string[]>} */
const arrows = {
  tensor: [],
  autograd: ["tensor"],
  nn: ["tensor"],
  data: ["tensor"],
  qkclip: ["tensor"],
  optim: ["tensor", "qkclip"],
  testing: ["tensor", "autograd"],
};

/** What its tests may import besides; every test may import @mc/testing. @type {Record<string, string[]>} */
const testArrows = { nn: ["autograd", "optim"], testing: ["nn", "optim", "qkclip"] };

/** Applications inside a package: they may import what its tests may. */
const application = "^packages/testing/conformance/";

/** Tests, and what only they read. */
const test = "(\\.test(-d)?\\.ts|/fixtures/.+)$";
const names = Object.keys(arrows);
const others = (name, allowed) => names.filter((other) => other !== name && !allowed.includes(other));
const sources = (...folders) => `^packages/(${folders.join("|")})/`;

const between = names.flatMap((name) => {
  const forTests = [...arrows[name], ...(testArrows[name] ?? []), "testing"];
  const list = (allowed) =>
    allowed.length > 0 ? allowed.map((other) => `@mc/${other}`).join(", ") : "no other package";
  return [
    {
      name: `arrows-${name}`,
      comment: `@mc/${name} may import ${list(arrows[name])}`,
      severity: "error",
      from: { path: sources(name), pathNot: [test, application] },
      to: { path: sources(...others(name, arrows[name])) },
    },
    {
      name: `arrows-${name}-tests`,
      comment: `the tests of @mc/${name} may import ${list(forTests)}`,
      severity: "error",
      from: { path: `${sources(name)}.*${test}` },
      to: { path: sources(...others(name, forTests)) },
    },
  ].filter((rule) => rule.to.path !== sources());
});

module.exports = {
  forbidden: [
    ...between,
    {
      name: "packages-stand-alone",
      comment: "packages never import examples or benchmarks",
      severity: "error",
      from: { path: "^packages/" },
      to: { path: "^(examples|benchmarks)/" },
    },
    {
      name: "only-by-name",
      comment: "another package is imported by its name (so by its exports), never by a relative path into it",
      severity: "error",
      from: { path: "^(packages/[^/]+|examples|benchmarks)/" },
      to: { path: "^packages/", pathNot: "^$1/", dependencyTypes: ["local"] },
    },
    {
      name: "not-through-its-own-entry",
      comment: "a source file imports its neighbours, not the package's own index.ts (tests may)",
      severity: "error",
      from: { path: "^packages/([^/]+)/src/", pathNot: test },
      to: { path: "^packages/$1/src/index\\.ts$" },
    },
    {
      name: "no-cycles",
      comment: "no import cycles",
      severity: "error",
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
    {
      name: "runs-in-browsers",
      comment: "published packages import no Node built-in statically: they run in browsers (build.ts files are tools)",
      severity: "error",
      from: { path: "^packages/", pathNot: [test, "/build\\.ts$", "^packages/testing/"] },
      to: { dependencyTypes: ["core"], dynamic: false },
    },
    {
      name: "resolvable",
      comment: "every import resolves, and to a declared dependency",
      severity: "error",
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    // the peers have packages of their own, installed on demand
    exclude: { path: "(^|/)(dist|node_modules)/|^benchmarks/peers/" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["@mc/source", "import", "node", "default"],
      extensions: [".ts", ".mjs", ".js", ".json"],
    },
    skipAnalysisNotInRules: true,
  },
};
