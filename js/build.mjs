// Bundles each view and each page script into one file of the package that needs no other file.
//
//   node build.mjs            write the bundles
//   node build.mjs --check    exit with an error if a bundle differs from the result of its source
//   node build.mjs --tests    bundle the tests for node's test runner

import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const PACKAGE = join(HERE, "..", "comfydeploy_jupyter");
const VIEWS = join(PACKAGE, "widgets", "static");
const THREE = readFileSync(join(HERE, "node_modules", "three", "LICENSE"), "utf8");
const UQR = readFileSync(join(HERE, "node_modules", "uqr", "LICENSE"), "utf8");
/** The other packages that bundles contain, with their licenses. */
const PARTS = {
  "src/viewers/model_viewer.ts": ["three.js", THREE],
  "src/views/link.ts": ["uqr", UQR],
};
const TARGETS = [
  // anywidget imports the script of a view as a module; a page executes its scripts as they are.
  { source: "src/views", output: VIEWS, format: "esm" },
  { source: "src/page", output: join(PACKAGE, "static"), format: "iife" },
  // Views load these when they are needed. They contain three.js.
  { source: "src/viewers", output: join(VIEWS, "viewers"), format: "esm", minify: true },
];
const TESTS = { source: "test", output: join(HERE, "build") };
const OPTIONS = { absWorkingDir: HERE, bundle: true, charset: "utf8", target: "es2022" };

/** Return the source files of a folder whose names have this ending. */
function sources(folder, ending = ".ts") {
  const names = readdirSync(join(HERE, folder)).filter((name) => name.endsWith(ending));
  return names.sort().map((name) => `${folder}/${name}`);
}

/** Return the content of each bundle by its path. */
async function bundles() {
  const made = new Map();
  for (const { source, output, format, minify } of TARGETS) {
    for (const path of sources(source)) {
      const origin = `// Made from js/${path} by \`make js-build\`; do not edit it here.`;
      const [part, terms] = PARTS[path] ?? [];
      const license = part ? `\n/*! It contains ${part}:\n\n${terms}*/` : "";
      const banner = { js: origin + license };
      const options = { ...OPTIONS, entryPoints: [path], format, minify, banner, write: false };
      const { outputFiles } = await build(options);
      made.set(join(output, `${basename(path, ".ts")}.js`), outputFiles[0].text);
    }
  }
  return made;
}

/** Return the scripts that are in the package. */
function present() {
  return TARGETS.flatMap(({ output }) =>
    readdirSync(output)
      .filter((name) => name.endsWith(".js"))
      .map((name) => join(output, name)),
  );
}

/** Return the paths of bundles that are missing, outdated, or without a source. */
function outdated(wanted) {
  const found = new Set(present());
  const other = [...wanted]
    .filter(([path, content]) => !found.has(path) || readFileSync(path, "utf8") !== content)
    .map(([path]) => path);
  return [...other, ...[...found].filter((path) => !wanted.has(path))];
}

if (process.argv.includes("--tests")) {
  rmSync(TESTS.output, { recursive: true, force: true });
  await build({
    ...OPTIONS,
    entryPoints: sources(TESTS.source, ".test.ts"),
    format: "esm",
    outdir: TESTS.output,
    outExtension: { ".js": ".mjs" },
    packages: "external",
    platform: "node",
    sourcemap: "inline",
  });
} else if (process.argv.includes("--check")) {
  const paths = outdated(await bundles());
  for (const path of paths) {
    console.error(`not what its source gives: ${relative(join(HERE, ".."), path)}`);
  }
  if (paths.length) {
    console.error("run `make js-build` and commit the result");
    process.exitCode = 1;
  }
} else {
  const made = await bundles();
  for (const path of present()) if (!made.has(path)) rmSync(path);
  for (const [path, content] of made) writeFileSync(path, content);
}
