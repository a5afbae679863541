// Bundles the panels and each page script into one file of the package that needs no other file.
//
//   node build.mjs            write the bundles
//   node build.mjs --check    exit with an error if a bundle differs from the result of its source
//   node build.mjs --tests    bundle the tests for node's test runner
//   node build.mjs --stories  write the page build/stories.html, which shows states of the panels

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const PACKAGE = join(HERE, "..", "comfydeploy_jupyter");
const VIEWS = join(PACKAGE, "widgets", "static");
const THREE = readFileSync(join(HERE, "node_modules", "three", "LICENSE"), "utf8");
const UQR = readFileSync(join(HERE, "node_modules", "uqr", "LICENSE"), "utf8");
const PREACT = readFileSync(join(HERE, "node_modules", "preact", "LICENSE"), "utf8");
const ICONS = readFileSync(
  join(HERE, "node_modules", "@fortawesome", "free-solid-svg-icons", "LICENSE.txt"),
  "utf8",
);
const PANELS = "src/panels/index.tsx";
/** The other packages that bundles contain, with their licenses. */
const PARTS = {
  [PANELS]: ["Preact, @preact/signals, uqr and icons of Font Awesome", PREACT + UQR + ICONS],
  "src/viewers/model_viewer.ts": ["three.js", THREE],
};
const TARGETS = [
  // anywidget imports the script of a panel as a module; a page executes its scripts as they are.
  { source: "src/hosts", output: VIEWS, format: "esm" },
  { source: "src/page", output: join(PACKAGE, "static"), format: "iife" },
  // Panels load these when they are needed. They contain three.js.
  { source: "src/viewers", output: join(VIEWS, "viewers"), format: "esm", minify: true },
];
const TESTS = { source: "test", output: join(HERE, "build") };
const OPTIONS = {
  absWorkingDir: HERE,
  bundle: true,
  charset: "utf8",
  jsx: "automatic",
  jsxImportSource: "preact",
  loader: { ".css": "text" },
  target: "es2022",
};

function originOf(path) {
  return `Made from js/${path} by \`make js-build\`; do not edit it here.`;
}

/** Return the source files of a folder whose names have this ending. */
function sources(folder, ending = ".ts") {
  const names = readdirSync(join(HERE, folder)).filter((name) => name.endsWith(ending));
  return names.sort().map((name) => `${folder}/${name}`);
}

/** Return the text of one bundle; `origin` is its first line. */
async function bundle(path, origin, options) {
  const [part, terms] = PARTS[path] ?? [];
  const license = part ? `\n/*! It contains ${part}:\n\n${terms}*/` : "";
  const banner = { js: origin + license };
  const made = await build({ ...OPTIONS, entryPoints: [path], banner, write: false, ...options });
  return made.outputFiles[0].text;
}

/** Return the content of each bundle by its path. */
async function bundles() {
  const made = new Map();
  // The script of each panel's widget finds the panels of its own version by their hash.
  const text = await bundle(PANELS, "", { format: "esm", minify: true });
  const hash = createHash("sha256").update(text).digest("hex").slice(0, 16);
  made.set(join(VIEWS, "panels.js"), `// ${hash} ${originOf(PANELS)}\n${text}`);
  const define = { PANELS: JSON.stringify(hash) };
  for (const { source, output, format, minify } of TARGETS) {
    for (const path of sources(source)) {
      const content = await bundle(path, `// ${originOf(path)}`, { format, minify, define });
      made.set(join(output, `${basename(path, ".ts")}.js`), content);
    }
  }
  return made;
}

/** Return the scripts that are in the package. */
function present() {
  const folders = [...new Set(TARGETS.map(({ output }) => output))];
  return folders.flatMap((output) =>
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
    entryPoints: [...sources(TESTS.source, ".test.ts"), ...sources(TESTS.source, ".test.tsx")],
    format: "esm",
    outdir: TESTS.output,
    outExtension: { ".js": ".mjs" },
    packages: "external",
    platform: "node",
    sourcemap: "inline",
  });
} else if (process.argv.includes("--stories")) {
  const text = await bundle("stories/index.tsx", "", { format: "esm" });
  mkdirSync(TESTS.output, { recursive: true });
  const script = text.replaceAll("</script", "<\\/script");
  const page = `<!doctype html><meta charset="utf-8"><title>Panels</title><body><script type="module">${script}</script>`;
  writeFileSync(join(TESTS.output, "stories.html"), page);
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
