/** The form of a workflow, drawn by `js/src/views/form.ts` from the state in the page. */

import { effect, signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { FormTraits, Value } from "../form/field.ts";
import { viewQuery } from "../form/media_control.ts";
import { messageOf } from "../format.ts";
import type { Buffers, Model } from "../model.ts";
import type { FormState } from "../state/form.ts";
import { sendFile } from "../transfers/transfer.ts";
import type { Transport } from "../transport.ts";
import formView from "../views/form.ts";
import { MaskPainter } from "./mask_painter.tsx";
import { Drawn } from "./ui.tsx";

type Listener = (...details: unknown[]) => void;
// biome-ignore lint/suspicious/noExplicitAny: the view declares its messages
type Message = any;

/** The model of the view: what it reads is in the state, and what it sends changes that. */
class FormModel {
  private readonly listeners: [string, Listener][] = [];
  private readonly ends: (() => void)[] = [];
  private opened = false;
  widget_manager = {};
  /** The picture of an input on which the user paints. */
  readonly painting = signal<{ key: string; name: string } | null>(null);

  constructor(
    private readonly state: FormState,
    private readonly transport: Transport,
    private readonly server: object,
  ) {
    const tell = (name: string, read: () => unknown) => {
      let isFirst = true;
      const stop = effect(() => {
        read();
        if (!isFirst) this.emit(`change:${name}`);
        isFirst = false;
      });
      this.ends.push(stop);
    };
    tell("fields", () => state.rows.value);
    tell("values", () => state.values.value);
    tell("problems", () => state.problems.value);
    tell("others", () => state.others.value);
    tell("locked", () => state.locked.value);
    tell("form_number", () => state.number.value);
  }

  get(name: string): unknown {
    const { state } = this;
    if (name === "fields") return state.rows.peek();
    if (name === "values") return state.values.peek();
    if (name === "problems") return state.problems.peek();
    if (name === "locked") return state.locked.peek();
    if (name === "form_number") return state.number.peek();
    if (name === "machine") return state.machine;
    if (name === "can_paint") return true;
    if (name === "send_file") return this.sendFile;
    if (name === "server") return this.server;
    if (name === "opened") return this.opened;
    const others = Object.entries(state.others.peek());
    return name === "others" ? others.map(([key, value]) => ({ key, value })) : undefined;
  }

  // The state is changed by messages; the view also sets what it has sent.
  set(name: string, value: unknown): void {
    if (name === "opened") this.opened = Boolean(value);
  }

  save_changes(): void {}

  on(names: string, listener: Listener): void {
    for (const name of names.split(" ")) this.listeners.push([name, listener]);
  }

  off(names: string, listener: Listener): void {
    for (const name of names.split(" ")) {
      const place = this.listeners.findIndex(([each, own]) => each === name && own === listener);
      if (place >= 0) this.listeners.splice(place, 1);
    }
  }

  send(message: Message): void {
    const { state } = this;
    const { kind, key } = message;
    if (kind === "typed") {
      for (const [name, value] of Object.entries(message.values)) {
        state.change(name, value as Value);
      }
      this.receive({ kind: "took", id: message.id });
    } else if (kind === "draw") state.draw(key);
    else if (kind === "lock") state.lock(key, message.locked);
    else if (kind === "grow") state.grow(key, message.more);
    else if (kind === "arrange") state.arrange(key, message.order);
    else if (kind === "reset") state.reset();
    else if (kind === "uploaded" && message.form_number === state.number.peek()) {
      state.change(key, message.name);
    } else if (kind === "paint") this.painting.value = { key, name: message.name };
    else if (kind === "file") this.fetch(message);
    else if (kind === "options") this.options(message);
  }

  receive(message: object, buffers: Buffers = []): void {
    this.emit("msg:custom", message, buffers);
  }

  end(): void {
    for (const end of this.ends) end();
  }

  private emit(name: string, ...details: unknown[]): void {
    for (const [each, listener] of [...this.listeners]) if (each === name) listener(...details);
  }

  private readonly sendFile: FormTraits["send_file"] = async (file, progress, signal) => {
    const { machine } = this.state;
    const destination = { type: "input", subfolder: "", overwrite: false, machine };
    return (await sendFile(this.transport, file, destination, progress, signal)).name;
  };

  private async fetch({ id, query, side, only_size }: Message): Promise<void> {
    try {
      const fields = Object.fromEntries(new URLSearchParams(query));
      if (only_size) {
        this.receive({ kind: "file", id, size: await this.transport.size("view", fields) });
        return;
      }
      const options = { query: { ...fields, thumbnail: side || null } };
      const content = await this.transport.content("view", options);
      const buffer = new DataView(await content.arrayBuffer());
      this.receive({ kind: "file", id, mime: content.type }, [buffer]);
    } catch (error) {
      this.receive({ kind: "file", id, error: messageOf(error) });
    }
  }

  private async options({ id, key }: Message): Promise<void> {
    const { remote = "" } = this.state.row(key) ?? {};
    const query = {
      ...Object.fromEntries(new URLSearchParams(remote)),
      machine: this.state.machine,
    };
    try {
      this.receive({ kind: "options", id, reply: await this.transport.get("node-options", query) });
    } catch (error) {
      this.receive({ kind: "options", id, error: messageOf(error) });
    }
  }
}

type Props = {
  state: FormState;
  transport: Transport;
  /** The facts with which the page finds its server, see `pageServer`. */
  server: object;
  /** Filled with a function that moves the focus to the first field with a problem. */
  focus: { current: () => void };
};

export function FormView({ state, transport, server, focus }: Props) {
  const model = useRef<FormModel | null>(null);
  const isDrawn = useSignal(false);
  useEffect(() => () => model.current?.end(), []);
  const painting = isDrawn.value ? model.current?.painting : null;
  return (
    <>
      {painting?.value && (
        <MaskPainter
          transport={transport}
          query={viewQuery(painting.value.name, state.machine)}
          name={painting.value.name}
          machine={state.machine}
          onDone={(name) => painting.value && state.change(painting.value.key, name)}
          onClose={() => {
            painting.value = null;
          }}
        />
      )}
      <Drawn
        class="comfydeploy-view"
        draw={(el) => {
          const made = new FormModel(state, transport, server);
          model.current = made;
          focus.current = () => {
            const problems = state.problems.peek();
            const row = state.rows.peek().find(({ key }) => key in problems);
            if (row) made.receive({ kind: "focus", key: row.key });
          };
          isDrawn.value = true;
          return formView.render({ model: made as unknown as Model, el } as never);
        }}
      />
    </>
  );
}
