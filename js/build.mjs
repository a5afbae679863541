// Bundles the panels and each page script into one file of the package that needs no other file.
//
//   node build.mjs            write the bundles, and the extension of JupyterLab
//   node build.mjs --check    exit with an error if a bundle differs from the result of its source
//   node build.mjs --tests    bundle the tests for node's test runner
//   node build.mjs --stories  write the page build/stories.html, which shows states of the panels

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const PACKAGE = join(HERE, "..", "comfydeploy_jupyter");
const VIEWS = join(PACKAGE, "widgets", "static");
const LAB = join(PACKAGE, "labextension");
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
  "src/viewers/mask_painter.tsx": [
    "Preact, @preact/signals and icons of Font Awesome",
    PREACT + ICONS,
  ],
  "src/viewers/model_viewer.ts": ["three.js", THREE],
};
const TARGETS = [
  // anywidget imports the script of a panel as a module; a page executes its scripts as they are.
  { source: "src/hosts", output: VIEWS, format: "esm" },
  { source: "src/page", output: join(PACKAGE, "static"), format: "iife" },
  // Panels load these when they are needed.
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

/** Return the source files of a folder whose names have one of these endings. */
function sources(folder, ...endings) {
  const path = join(HERE, folder);
  const all = existsSync(path) ? readdirSync(path) : []; // git keeps no empty folder
  const names = all.filter((name) => endings.some((ending) => name.endsWith(ending)));
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
    for (const path of sources(source, ".ts", ".tsx")) {
      const content = await bundle(path, `// ${originOf(path)}`, { format, minify, define });
      made.set(join(output, basename(path).replace(/\.tsx?$/, ".js")), content);
    }
  }
  for (const [path, content] of await extension(define)) made.set(join(LAB, path), content);
  return made;
}

/**
 * Return the files of the extension for JupyterLab and Notebook: its script, what these read to find
 * it, and its settings.
 *
 * JupyterLab gives the packages that it shares to a container (`lab/container.ts`), which is what its
 * own builder would make of webpack's module federation. So the script contains none of them.
 */
async function extension(define) {
  const names = new Set();
  const shared = {
    name: "shared",
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^@(jupyterlab|lumino)\// }, ({ path }) => {
        names.add(path);
        return { path, namespace: "shared" };
      });
      onLoad({ filter: /./, namespace: "shared" }, ({ path }) => ({
        contents: `module.exports = SHARED[${JSON.stringify(path)}]`,
      }));
    },
  };
  const [, version] = readFileSync(join(PACKAGE, "_version.py"), "utf8").match(
    /__version__ = "(.+)"/,
  );
  const options = {
    format: "esm", // it exports nothing, so it is a plain script
    minify: true,
    plugins: [shared],
    loader: { ...OPTIONS.loader, ".svg": "text" },
    define: { ...define, VERSION: JSON.stringify(version) },
  };
  const text = await bundle("lab/container.ts", "", options);
  const needed = JSON.stringify([...names].sort());
  const script = `// ${originOf("lab")}\n(() => {const SHARED={},NEEDED=${needed};${text.trim()}\n})();\n`;
  const hash = createHash("sha256").update(script).digest("hex").slice(0, 16);
  const about = {
    name: "comfydeploy-jupyter",
    version,
    description: "ComfyUI in JupyterLab: workflows as documents, panels, and what runs.",
    license: "BSD-3-Clause",
    dependencies: { "@jupyterlab/application": "^4.2.0" },
    jupyterlab: {
      extension: true,
      schemaDir: "schema",
      _build: { load: `static/remoteEntry.js?v=${hash}`, extension: "./extension" },
    },
  };
  const install = {
    packageManager: "python",
    packageName: about.name,
    uninstallInstructions: `pip uninstall ${about.name}`,
  };
  const schemas = `schemas/${about.name}`;
  const made = [
    ["static/remoteEntry.js", script],
    ["install.json", JSON.stringify(install, null, 2)],
    ["package.json", JSON.stringify(about, null, 2)],
    // JupyterLab's server reads the version of the settings there
    [`${schemas}/package.json.orig`, JSON.stringify({ name: about.name, version }, null, 2)],
  ];
  for (const path of sources("lab/schema", ".json")) {
    made.push([`${schemas}/${basename(path)}`, readFileSync(join(HERE, path), "utf8")]);
  }
  return made.map(([path, content]) => [path, `${content.trimEnd()}\n`]);
}

/** Return the files in the package that this script makes. */
function present() {
  const folders = [...new Set(TARGETS.map(({ output }) => output))];
  const scripts = folders.flatMap((output) =>
    readdirSync(output)
      .filter((name) => name.endsWith(".js"))
      .map((name) => join(output, name)),
  );
  const inside = existsSync(LAB) ? readdirSync(LAB, { recursive: true, withFileTypes: true }) : [];
  const files = inside.filter((each) => each.isFile());
  return [...scripts, ...files.map(({ parentPath, name }) => join(parentPath, name))];
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
    entryPoints: sources(TESTS.source, ".test.ts", ".test.tsx"),
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
  for (const [path, content] of made) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
  }
}
