import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

test("RunPanel alone is light", async () => {
  const folder = dirname(dirname(fileURLToPath(import.meta.url)));
  const made = await build({
    entryPoints: [join(folder, "src/panels/run.tsx")],
    bundle: true,
    format: "esm",
    jsx: "automatic",
    jsxImportSource: "preact",
    minify: true,
    target: "es2022",
    write: false,
  });
  const sizes = made.outputFiles.map(({ contents }) => gzipSync(contents, { level: 9 }).length);
  assert.ok(sizes.length === 1 && Number(sizes[0]) <= 80_000, String(sizes));
});
