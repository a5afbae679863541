/** A panel in the main area. */

import type { Message } from "@lumino/messaging";
import { type ISignal, Signal } from "@lumino/signaling";
import { Widget } from "@lumino/widgets";
import { h } from "../src/dom.ts";
import { messageOf } from "../src/format.ts";
import { askForPanels, isPanels, panelsOnce } from "../src/load_panels.ts";
import type { Panels } from "../src/panels/index.tsx";
import { transport } from "./server.ts";
import { NO_SERVER, trans } from "./words.ts";

export type Values = Record<string, unknown>;

type Shown = ReturnType<Panels["mountAlone"]>;
type Kept = { traits: Shown["traits"]; kept: string[] };

/** Something that can be done about what is wrong. */
export type Way = [label: string, action: () => void];

async function read(): Promise<string> {
  const reply = await askForPanels().catch(() => {
    throw new Error(trans.__("The Jupyter server does not answer."));
  });
  if (reply.status === 404) throw new Error(NO_SERVER());
  if (!reply.ok) throw new Error(trans.__("The Jupyter server answered %1.", reply.status));
  const text = await reply.text();
  if (isPanels(text)) return text;
  throw new Error(
    trans.__(
      "The Jupyter server has another version of comfydeploy_jupyter than this page: reload the page, and restart Jupyter if that does not help.",
    ),
  );
}

/** Loads and shows a panel when it is first seen. */
export class PanelWidget extends Widget {
  /** The panel; null until it is shown. */
  protected shown: Shown | null = null;
  private turn = 0;
  private isLoading = false;
  private readonly changes = new Signal<this, void>(this);
  private readonly said = h("div", { role: "status" });
  private readonly around = h("div");

  constructor(
    readonly panel: string,
    /** The values that the panel had, or begins with. */
    private readonly values: Values = {},
    /** The names of those that a restored one has again. */
    private readonly kept: string[] = [],
    /** The same of panels within it, by their names. */
    private readonly inner: Record<string, string[]> = {},
  ) {
    super();
    Object.assign(this.node.style, { overflow: "auto", padding: "8px", outline: "none" });
    this.node.tabIndex = -1; // JupyterLab finds the current widget by the focus
    this.node.append(this.said, this.around);
    this.title.closable = true;
  }

  /** Emitted when the panel is shown, and when a value that is kept has changed. */
  get changed(): ISignal<this, void> {
    return this.changes;
  }

  /** The values that are kept. */
  get state(): Values {
    const { shown } = this;
    if (!shown) return this.values;
    const of = ({ traits, kept }: Kept) =>
      Object.fromEntries(kept.map((name) => [name, traits[name]?.peek()]));
    const inner = this.within(shown).map(({ name, ...each }) => [name, of(each)] as const);
    const own = of({ traits: shown.traits, kept: this.kept });
    return inner.length ? { ...own, inner: Object.fromEntries(inner) } : own;
  }

  private within(shown: Shown): (Kept & { name: string })[] {
    return Object.entries(this.inner).map(([name, kept]) => ({
      name,
      kept,
      traits: shown.inner(name),
    }));
  }

  /** Say something above the panel, with what can be done; nothing if the text is empty. */
  protected say(text: string, ...ways: Way[]): void {
    this.said.replaceChildren(...(text ? sentence(text, ways) : []));
  }

  /** Show this in place of the panel. */
  protected refuse(text: string, ...ways: Way[]): void {
    this.end();
    this.around.replaceChildren(...sentence(text, ways));
  }

  /** Return the values with which the panel begins; null if it is not shown. */
  protected async prepare(): Promise<Values | null> {
    return this.values;
  }

  /** Return what else can be done if it cannot be shown. */
  protected ways(): Way[] {
    return [];
  }

  /** The panel is there. */
  protected onShown(): void {}

  /** Make the panel again, now or when it is seen. */
  protected again(): void {
    this.turn += 1;
    this.isLoading = false;
    if (this.node.contains(document.activeElement)) this.node.focus({ preventScroll: true });
    this.end();
    if (this.isVisible) this.load();
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.load();
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    if (this.isVisible) this.load();
  }

  protected override onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    this.node.focus({ preventScroll: true });
  }

  override dispose(): void {
    this.turn += 1;
    this.end();
    super.dispose();
  }

  private end(): void {
    this.shown?.end();
    this.shown = null;
  }

  private async load(): Promise<void> {
    if (this.shown || this.isLoading || this.isDisposed) return;
    this.isLoading = true;
    this.turn += 1;
    const turn = this.turn;
    try {
      const { mountAlone } = await panelsOnce(read);
      const values = await this.prepare();
      if (turn !== this.turn || !values) return;
      const el = h("div");
      this.around.replaceChildren(el);
      this.shown = mountAlone(this.panel, el, transport(), values);
      const own = { traits: this.shown.traits, kept: this.kept };
      for (const { traits, kept } of [own, ...this.within(this.shown)]) {
        for (const name of kept) this.onTrait(name, () => this.changes.emit(), traits);
      }
      this.onShown();
      this.changes.emit();
    } catch (error) {
      if (turn !== this.turn) return;
      this.refuse(messageOf(error), [trans.__("Try again"), () => this.again()], ...this.ways());
    } finally {
      if (turn === this.turn) this.isLoading = false;
    }
  }

  /** Call an action at each change of a value of the panel that is shown. */
  protected onTrait(name: string, action: () => void, traits = this.shown?.traits): void {
    const trait = traits?.[name];
    let before = trait?.peek();
    trait?.subscribe((value) => {
      if (value === before) return;
      before = value;
      action();
    });
  }
}

function sentence(text: string, ways: Way[]): Node[] {
  const buttons = ways.map(([label, onclick]) =>
    h("button", { type: "button", className: "jp-Button jp-mod-styled", onclick }, label),
  );
  const line = h("p", {}, ...buttons);
  Object.assign(line.style, { display: "flex", flexWrap: "wrap", gap: "8px" });
  return [h("p", { role: "alert" }, text), line];
}
