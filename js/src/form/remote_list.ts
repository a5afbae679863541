/** Options that a route of ComfyUI gives: they are loaded when the list is opened. */

import { type ComboBox, comboBox, type Option } from "../combo_box.ts";
import { h, iconButton, setText } from "../dom.ts";
import { messageOf } from "../format.ts";
import type { Control, Field, Form, Value } from "./field.ts";

/** The reply of the route `node-options`. */
export type RemoteOptions = {
  options: { value: string | number; label: string; note: string }[];
  /** How many items of the list are no values, or too many. */
  left_out: number;
  /** Seconds after which the list may be another one; null: not before the page is loaded again. */
  refresh: number | null;
};

/** Loads the options of a field into its combo box, and tells how that goes. */
export class RemoteList {
  readonly state = h("span", { className: "cd-faint cd-remote", role: "status" });
  readonly button: HTMLButtonElement;
  options: Option[] = [];
  private combo: ComboBox | null = null;
  private last: Promise<RemoteOptions> | null = null; // earlier answers are not used any more
  private outdated = 0; // ms, when the list is to be loaded again

  constructor(
    private readonly form: Form,
    field: Field,
    /** Called with a list that was loaded. */
    private readonly show: () => void,
  ) {
    this.button = iconButton("refresh", `${field.label}: load the list again`, () => this.load());
  }

  /** Load the list as soon as this combo box is opened. */
  for(combo: ComboBox): void {
    this.combo = combo;
  }

  /** Call it when the list is opened. */
  opened(): void {
    if (!this.last && Date.now() >= this.outdated) this.load();
  }

  end(): void {
    this.last = null;
    this.outdated = Number.POSITIVE_INFINITY;
  }

  private async load(): Promise<void> {
    const request = this.form.options();
    this.last = request;
    this.tell("Loading the list …");
    this.button.setAttribute("aria-busy", "true");
    try {
      const { options, left_out, refresh } = await request;
      if (this.last !== request) return;
      this.options = options.map(({ value, label, note }) => ({
        value,
        text: label,
        note: note || (label === String(value) ? undefined : String(value)),
      }));
      this.outdated = refresh === null ? Number.POSITIVE_INFINITY : Date.now() + 1000 * refresh;
      this.tell(
        left_out
          ? `${left_out.toLocaleString()} more cannot be shown; any value can be typed.`
          : options.length
            ? ""
            : "The list is empty; any value can be typed.",
      );
      this.show();
    } catch (error) {
      if (this.last !== request) return;
      this.outdated = 0; // it is tried again when the list is opened the next time
      this.tell(`${messageOf(error).replace(/\.$/, "")}. Any value can be typed.`);
    } finally {
      if (this.last === request) {
        this.last = null;
        this.button.removeAttribute("aria-busy");
      }
    }
  }

  private tell(text: string): void {
    setText(this.state, text);
    this.combo?.setNote(text);
  }
}

/** The control of such an input: any text can be typed, too. */
export function remoteChoice(form: Form, field: Field): Control {
  const fixed = (field.options ?? []).map((option) => ({ value: option, text: String(option) }));
  let now = form.value;
  const all = () => [...fixed, ...list.options];
  const list = new RemoteList(form, field, () => combo.setOptions(all(), now));
  const combo = comboBox({
    id: form.id,
    label: field.label,
    value: now,
    options: all(),
    free: true,
    hint: "choose or type",
    describedBy: form.hintId,
    choose: (chosen) => {
      now = chosen as Value;
      form.change(now);
    },
    opened: () => list.opened(),
  });
  list.for(combo);
  const grows = h("div", { className: "cd-grow" }, combo.root);
  const line = h("div", { className: "cd-line" }, grows, list.button);
  return {
    root: h("div", { className: "cd-remote-choice" }, line, list.state),
    set: (wanted) => {
      now = wanted;
      combo.set(wanted);
    },
    end: () => {
      list.end();
      combo.end();
    },
  };
}
