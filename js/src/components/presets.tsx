/** The presets of a workflow: choose one, save the present values under a name, delete one. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { type ComboBox, comboBox } from "../combo_box.ts";
import { messageOf } from "../format.ts";
import type { FormState, Inputs } from "../state/form.ts";
import { RouteError, type Transport } from "../transport.ts";
import { Button, Drawn, Icon, IconButton, useId } from "./ui.tsx";

const INVALID = "Some values are not valid";

type Preset = { name: string; inputs: Inputs; locked: string[]; revision: string };

type Props = {
  transport: Transport;
  form: FormState;
  /** The id of the stored workflow; null if it is not stored. */
  workflowId: string | null;
  /** Store the workflow, and return its id. */
  store: () => Promise<string>;
};

/**
 * Each change names the revision that the form began with, used or saved. If another panel has
 * changed the preset since then, nothing is changed, and the user decides which values stay.
 */
export function Presets({ transport, form, workflowId, store }: Props) {
  const id = useId();
  const presets = useRef<Preset[]>([]);
  const revisions = useRef<Record<string, string>>({});
  const combo = useRef<ComboBox | null>(null);
  const own = useRef<string | null>(workflowId); // also of one that was stored here
  const name = useSignal("");
  const names = useSignal<string[]>([]);
  /** The preset whose values were put into the form, or saved, and these values. */
  const used = useSignal<{ name: string; values: string } | null>(null);
  const message = useSignal("");
  const kind = useSignal<"" | "problem" | "conflict">("");
  const say = (text: string, as: "" | "problem" | "conflict" = "") => {
    message.value = text;
    kind.value = as;
  };

  const refresh = async (replaceable: boolean) => {
    if (own.current === null) return;
    const query = { workflow_id: own.current };
    const found = await transport.get<Preset[]>("workflow/presets", query);
    presets.current = found;
    if (replaceable) {
      revisions.current = Object.fromEntries(found.map((each) => [each.name, each.revision]));
    }
    names.value = found.map((each) => each.name);
    const options = names.value.map((each) => ({ value: each, text: each }));
    const isTyped = document.activeElement === combo.current?.input;
    combo.current?.setOptions(options, isTyped ? combo.current.input.value : name.value);
  };
  useEffect(() => {
    own.current = workflowId;
    presets.current = [];
    revisions.current = {};
    names.value = [];
    name.value = "";
    used.value = null;
    say("");
    combo.current?.setOptions([], "");
    refresh(true).catch(() => {}); // the next change reports it
  }, [workflowId]);

  const attempt = async (task: () => Promise<void>) => {
    say("");
    try {
      await task();
    } catch (error) {
      if (error instanceof RouteError && error.status === 409) {
        const isThere = Boolean(error.details.preset);
        await refresh(true); // this panel has the other revision now, so the next attempt succeeds
        const happened = isThere ? "changed" : "deleted";
        const text = `Another panel has ${happened} this preset. Your values are still here.`;
        say(text, isThere ? "conflict" : "problem");
      } else say(messageOf(error), "problem");
    }
  };
  const use = () =>
    attempt(async () => {
      await refresh(false);
      const preset = presets.current.find((each) => each.name === name.value);
      if (!preset) return say(`${name.value} has been deleted`, "problem");
      await form.use(preset.inputs, preset.locked);
      used.value = { name: preset.name, values: valuesOf(form) };
      revisions.current[preset.name] = preset.revision;
      const unknown = Object.keys(preset.inputs).filter((key) => !(key in form.changed.value));
      const missing = unknown.filter((key) => !(key in form.values.value));
      if (missing.length) say(`The workflow has no input ${missing.join(", ")}`, "problem");
    });
  const save = () =>
    attempt(async () => {
      if (form.inputs() === null) return say(INVALID, "problem");
      own.current ??= await store();
      const lower = name.value.toLowerCase();
      const known = presets.current.find((each) => each.name.toLowerCase() === lower);
      const body = {
        workflow_id: own.current,
        name: name.value,
        inputs: form.changed.value,
        locked: form.locked.value,
        revision: known ? (revisions.current[known.name] ?? "") : "",
      };
      const preset = await transport.post<Preset>("workflow/preset", body);
      name.value = preset.name;
      used.value = { name: preset.name, values: valuesOf(form) };
      await refresh(true);
      combo.current?.set(preset.name);
      const several = form.axes.value.flatMap(({ members }) => members.map(({ label }) => label));
      const without = several.length ? `, without the several values of ${several.join(", ")}` : "";
      say(`Saved as ${preset.name}${without}`);
    });
  const remove = () =>
    attempt(async () => {
      const revision = revisions.current[name.value] ?? "";
      const body = { workflow_id: own.current, name: name.value, revision };
      await transport.post("workflow/preset/delete", body);
      const gone = name.value;
      name.value = "";
      await refresh(true);
      combo.current?.set("");
      say(`Deleted ${gone}`);
    });

  // a message about values is over when these change, and one about a preset with its name
  const values = valuesOf(form);
  const shownFor = useRef(values);
  useEffect(() => {
    const isOver = kind.value === "" || message.peek() === INVALID;
    if (shownFor.current !== values && isOver) say("");
    shownFor.current = values;
  }, [values, kind, message]);

  const take = (value: unknown) => {
    const taken = String(value ?? "").trim();
    if (taken === name.value) return;
    name.value = taken;
    say("");
  };
  const draw = (root: HTMLElement) => {
    const made = comboBox({
      id,
      label: "Preset",
      value: "",
      options: [],
      free: true,
      hint: "Choose or name",
      choose: take,
      // Leaving the field does not replace the values of the form: the user may be about to save.
      picked: (value) => {
        take(value);
        if (names.value.includes(name.value)) use();
      },
    });
    made.input.maxLength = 255;
    made.input.addEventListener("input", () => take(made.input.value));
    made.input.addEventListener("focus", () => refresh(false).catch(() => {}));
    root.append(made.root);
    combo.current = made;
    return made.end;
  };
  const hint = own.current
    ? "Save the present values under this name"
    : "Save the present values under this name; this also stores the workflow on the server";
  const isOther = names.value.includes(name.value) && used.value?.name !== name.value;
  const isChanged = used.value?.name === name.value && used.value.values !== values;
  const differs = isOther
    ? "The form does not have the values of this preset: choose it in the list to use them."
    : isChanged
      ? "The values were changed since."
      : "";
  return (
    <div class="comfydeploy-view comfydeploy-presets">
      <label htmlFor={id}>Preset</label>
      <div class="cd-line">
        <Drawn class="cd-grow" draw={draw} />
        <button type="button" class="cd-button" title={hint} disabled={!name.value} onClick={save}>
          <Icon name="bookmark-o" /> Save
        </button>
        <IconButton
          icon="trash-o"
          label="Delete this preset"
          disabled={!names.value.includes(name.value)}
          onClick={remove}
        />
      </div>
      {(message.value || differs) && (
        <div
          class={`cd-line cd-message ${kind.value ? "cd-problem" : "cd-faint"}`}
          role="status"
          aria-live="polite"
        >
          <span class="cd-grow">{message.value || differs}</span>
          {kind.value === "conflict" && (
            <>
              <Button label="Use the other values" onClick={use} />
              <Button label="Replace them with mine" onClick={save} />
            </>
          )}
        </div>
      )}
    </div>
  );
}

/** What a preset of a form has: the changes, without seeds that are drawn for each run, as text. */
function valuesOf({ changed, locked, rows }: FormState): string {
  const drawn = rows.value.filter(
    ({ kind, key }) => kind === "seed" && !locked.value.includes(key),
  );
  const left = new Set(drawn.map(({ key }) => key));
  const kept = Object.entries(changed.value).filter(([key]) => !left.has(key));
  return JSON.stringify([
    kept.sort(([one], [two]) => (one < two ? -1 : 1)),
    [...locked.value].sort(),
  ]);
}
