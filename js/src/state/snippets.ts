/** The present values of a form as code that runs the workflow: Python, or a request with curl. */

import { toJson } from "../exact.ts";
import type { Opened } from "../workflows/source.ts";
import type { FormState, Inputs } from "./form.ts";

/** What is to be run. */
export type Wanted = {
  workflow: Opened;
  inputs: Inputs;
  /** How the server chooses the seeds that `inputs` do not have; by default as the editor would. */
  seedMode: string | null;
  machine: string | null;
  times: number;
};

/** Return what the form would run; null if a value is not valid, which its field then says. */
export function wantedOf(
  form: FormState,
  workflow: Opened,
  machine: string | null,
  times: number,
): Wanted | null {
  const isBatch = form.axes.value.length > 0;
  const all = isBatch ? form.inputsOfAll(times) : form.inputs();
  if (!all) return null;
  const seeds = form.rows.value.filter(({ kind }) => kind === "seed");
  const isDrawn = (key: string) => !form.locked.value.includes(key) && !(key in form.varied.value);
  const isByEditor = (key: string) => form.unlocked.includes(key);
  // Seeds that the editor would keep are drawn in one mode only, which draws all that are not given.
  const isRandom = !isBatch && seeds.some(({ key }) => isDrawn(key) && !isByEditor(key));
  const keysOf = (isOne: (key: string) => boolean) =>
    new Set(seeds.filter(({ key }) => isOne(key)).flatMap(({ keys }) => keys));
  // A batch keeps the seeds that it does not get, and all its runs have the ones that are drawn here.
  const left = keysOf((key) => !isBatch && isDrawn(key));
  const given = keysOf((key) =>
    isBatch ? isDrawn(key) : !isDrawn(key) && (isRandom || isByEditor(key)),
  );
  for (const key of Object.keys(all)) if (isSeveral(all[key])) given.add(key);
  for (const key of Object.keys(form.changed.value)) {
    for (const each of form.row(key)?.keys ?? [key]) given.add(each);
    if (key in form.values.value) continue;
    // the values in the rows of a group
    for (const each of Object.keys(all)) if (each.startsWith(`${key}.`)) given.add(each);
  }
  const inputs = Object.entries(all).filter(([key]) => given.has(key) && !left.has(key));
  const seedMode = isRandom ? "random" : null;
  const number = isBatch ? 1 : times;
  return { workflow, inputs: Object.fromEntries(inputs), seedMode, machine, times: number };
}

type SeveralValues = { $vary: unknown[]; $with?: string };

/** Whether a value stands for several, as `FormState.inputs` writes them. */
function isSeveral(value: unknown): value is SeveralValues {
  return typeof value === "object" && value !== null && "$vary" in value;
}

/** Return the several values among inputs as the points that `comfy.sweep` takes. */
function pointsOf(inputs: Inputs): string {
  const axes = new Map<string, [key: string, values: unknown[]][]>();
  for (const [key, value] of Object.entries(inputs)) {
    if (!isSeveral(value)) continue;
    const { $vary, $with = key } = value;
    axes.set($with, [...(axes.get($with) ?? []), [key, $vary]]);
  }
  const python = (value: unknown) => toPython(toJson(value));
  const tuple = (texts: string[]) => (texts.length > 1 ? `(${texts.join(", ")})` : texts.join());
  const lines = [...axes.values()].map((members) => {
    const name = tuple(members.map(([key]) => python(key)));
    const rows = members[0]?.[1].map((_, place) =>
      tuple(members.map(([, values]) => python(values[place]))),
    );
    return `  ${name}: [${rows?.map((row) => `\n    ${row},`).join("")}\n  ],`;
  });
  return `{\n${lines.join("\n")}\n}`;
}

const indented = (text: string) => text.replace(/\n/g, "\n  ");

/** Return JSON as an expression of Python. */
function toPython(json: string): string {
  const words: Record<string, string> = {
    true: "True",
    false: "False",
    null: "None",
    NaN: 'float("nan")',
    Infinity: 'float("inf")',
  };
  return json.replace(/"(?:[^"\\]|\\.)*"|\b(?:true|false|null|NaN|Infinity)\b/g, (token) =>
    // escapes of JSON that Python reads otherwise are resolved
    token.startsWith('"') ? JSON.stringify(JSON.parse(token)) : (words[token] ?? token),
  );
}

export function asPython(wanted: Wanted, url: string): string {
  const { workflow, inputs, seedMode, machine, times } = wanted;
  const { source, key = "" } = workflow;
  const graph = source.workflow ?? source.workflow_api ?? "";
  const path = key.startsWith("file:") ? key.slice("file:".length) : "";
  const isBatch = Object.values(inputs).some(isSeveral);
  const same = Object.entries(inputs).filter(([, value]) => !isSeveral(value));
  const { workflow_id, version } = source;
  const named: [string, unknown][] = [
    ["workflow_id", isBatch ? null : workflow_id],
    ["version", isBatch ? null : version],
    ["inputs", same.length ? Object.fromEntries(same) : null],
    ["seed_mode", seedMode],
    ["machine", machine],
  ];
  const given = path ? JSON.stringify(path) : toPython(graph.trim());
  const stored = `comfy.workflows.version(${[workflow_id, version ?? "latest"].map((each) => JSON.stringify(each)).join(", ")}).load()`;
  const lines = !workflow_id ? [given] : isBatch ? [stored] : [];
  if (isBatch) lines.push(pointsOf(inputs));
  for (const [name, value] of named) {
    if (value) lines.push(`${name}=${toPython(toJson(value, 2))}`);
  }
  const call = (name: string) => `comfy.${name}(\n  ${lines.map(indented).join(",\n  ")},\n)`;
  const run = isBatch
    ? `sweep = ${call("sweep")}\nsweep`
    : times > 1
      ? `runs = [${call("submit")} for _ in range(${times})]\nresults = [run.wait() for run in runs]\nresults[-1]`
      : `result = ${call("run")}\nresult`;
  return [
    "from comfydeploy_jupyter import connect",
    "",
    `comfy = connect()  # elsewhere: connect(${JSON.stringify(url)}, token)`,
    `${run}\n`,
  ].join("\n");
}

export function asCurl(wanted: Wanted, url: string): string {
  const { workflow, inputs, seedMode, machine, times } = wanted;
  const { workflow_api, workflow: ui, ...stored } = workflow.source;
  const fields: [string, string][] = Object.entries({
    ...stored,
    ...(Object.keys(inputs).length && { inputs }),
    ...(seedMode && { seed_mode: seedMode }),
    ...(machine && { machine }),
  }).map(([name, value]) => [name, toJson(value, 2)]);
  const isBatch = Object.values(inputs).some(isSeveral);
  if (workflow_api) fields.unshift(["workflow_api", workflow_api.trim()]);
  if (ui) fields.unshift(["workflow", ui.trim()]);
  const body = fields.map(([name, value]) => `  "${name}": ${indented(value)}`).join(",\n");
  const request = [
    `curl -sS '${url.replace(/'/g, "%27")}comfyui-deploy/${isBatch ? "batch" : "run"}' \\`,
    '  -H "Authorization: token $JUPYTER_TOKEN" \\',
    "  -H 'Content-Type: application/json' \\",
    `  --data-binary @- <<'JSON'\n{\n${body}\n}\nJSON\n`,
  ].join("\n");
  return times > 1 ? `for run in $(seq ${times}); do\n${request}echo\ndone\n` : request;
}
