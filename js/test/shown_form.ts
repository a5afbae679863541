/** A form of fields that a test says, with a server that makes it. */

import type { TestContext } from "node:test";
import type { Field, Value } from "../src/form/field.ts";
import { drawForm } from "../src/form/form.ts";
import { FormState } from "../src/state/form.ts";
import type { Transport } from "../src/transport.ts";
import { type Answer, Recorded } from "./recorded.ts";

export function field(key: string, kind: string, original: unknown, more: object = {}): Field {
  const hint = kind;
  return { key, label: key, kind, hint, original: original as Value, options: null, ...more };
}

/** Return the reply of the route that makes forms. */
function replyOf(fields: Field[], given: Record<string, Value>, more: object) {
  const choices = [...new Set(fields.map(({ options }) => options).filter(Boolean))];
  const rows = fields.map(({ options, ...row }) => {
    const [node = "", input = ""] = row.key.split(/\.(.*)/);
    const place = options ? choices.indexOf(options) : null;
    return {
      dynamic: false,
      least: null,
      most: null,
      keys: [row.key],
      ...row,
      node,
      input,
      choices: place,
    };
  });
  const valued = fields.filter(({ kind }) => kind !== "group");
  const own = Object.fromEntries(valued.map(({ key, original }) => [key, original]));
  const values = { ...own, ...given };
  const empty = { title: "", unlocked: [], outputs: [], structure: "", unknown: {}, untold: [] };
  const facts = { problems: {}, others: {}, notes: [], price: "", defined: true };
  return { ...empty, ...facts, rows, choices, values, given, ...more };
}

type Settings = {
  answers?: Record<string, Answer>;
  /** The base URL of the server, if the page comes from it. */
  base?: string | null;
  transport?: Transport;
  machine?: string | null;
  /** What the form has besides. */
  more?: object;
};

export async function showForm(t: TestContext, fields: Field[], settings: Settings = {}) {
  const { base = null, machine = null, more = {} } = settings;
  const now = { fields, more };
  const form: Answer = ({ body }) => {
    const { inputs } = body as { inputs: Record<string, Value> };
    return replyOf(now.fields, inputs, now.more);
  };
  const server = new Recorded({ "workflow/form": form, ...settings.answers }, base);
  const transport = settings.transport ?? server;
  const state = new FormState({
    post: server.post.bind(server),
    send: transport.send.bind(transport),
  } as unknown as Transport);
  state.machine = machine;
  await state.open({ workflow_id: "w" });
  const el = document.createElement("div");
  el.className = "comfydeploy-form";
  document.body.replaceChildren(el);
  const painted: [key: string, name: string][] = [];
  const shown = drawForm(el, state, transport, async (...asked) => {
    painted.push(asked);
  });
  t.after(shown.end);
  /** Let the server make the form of other fields. */
  const remake = (other: Field[] = now.fields, besides: object = {}) => {
    now.fields = other;
    now.more = besides;
    return state.remake();
  };
  return { el, state, server, now, painted, remake, ...shown };
}

/** Let answers arrive. */
export const settled = () => new Promise((resolve) => setTimeout(resolve, 5));
