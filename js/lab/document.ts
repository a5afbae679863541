/** Workflow files as documents: a panel whose changed values are saved into the file. */

import { Notification } from "@jupyterlab/apputils";
import { ABCWidgetFactory, type DocumentRegistry, DocumentWidget } from "@jupyterlab/docregistry";
import type { Contents } from "@jupyterlab/services";
import { ToolbarButton } from "@jupyterlab/ui-components";
import type { CommandRegistry } from "@lumino/commands";
import type { Message } from "@lumino/messaging";
import { messageOf, parseJson } from "../src/format.ts";
import { RouteError } from "../src/transport.ts";
import { type Opened, open, openFile, openText } from "../src/workflows/source.ts";
import { OPEN_EDITOR } from "./editor.ts";
import { comfyIcon } from "./icons.ts";
import { PanelWidget, type Values, type Way } from "./panel_widget.ts";
import { baseUrl, transport } from "./server.ts";
import { tell } from "./tell.ts";
import { trans } from "./words.ts";
import { formatOf, isEmpty, MAX_FILE, standard } from "./workflow_file.ts";

export const FACTORY = "ComfyUI";
/** The factory for pictures, videos and sounds that carry a workflow. */
export const CARRIER = "ComfyUI: workflow in a file";
export const CARRIERS = [
  ".png",
  ".webp",
  ".mp4",
  ".flac",
  ".webm",
  ".mp3",
  ".opus",
  ".jpg",
  ".jpeg",
];
/** The button that opens a workflow in ComfyUI's editor. */
export const EDIT = "comfydeploy-edit";
/** The model of these, which does not contain the file. */
export const ABOUT = "comfydeploy-about";

const QUIET = 400; // ms without a change until it is put into the document
const LOOK = 5000; // ms between two looks whether the file has changed, while it is seen
const SAME = 500; // ms between two times that a server may give to one change
const MAX_CARRIER = 200 << 20; // bytes of a file that the page sends to the server

type Context = DocumentRegistry.IContext<DocumentRegistry.ICodeModel>;
type Version = { workflow_id: string; version: number };

/** What views need of JupyterLab. */
export type Lab = { contents: Contents.IManager; commands: CommandRegistry };

const nameOf = (path: string) => path.replace(/^.*\//, "");

/** Return what opens a file that may be a workflow or carry one; null for other files. */
export function factoryOf(path = ""): string | null {
  const name = path.toLowerCase();
  if (CARRIERS.some((end) => name.endsWith(end))) return CARRIER;
  return name.endsWith(".json") ? FACTORY : null;
}

/** Return the folder of a file, as the routes name it. */
export function folderOf(path: string): string {
  return path.includes("/") ? path.replace(/\/[^/]*$/, "") : ".";
}

function sizeOf(bytes: number): string {
  return `${Math.round(bytes / (1 << 20))} MiB`;
}

/** The panel of a workflow file. */
class WorkflowView extends PanelWidget {
  /** The text of the document, as far as the panel knows it. */
  private text = "";
  /** The source of the workflow that the panel shows. */
  private source: object = {};
  /** Whether values were changed that are not in the document yet. */
  private isAhead = false;
  /** Whether they could not be put into it. */
  private isStuck = false;
  private isSaving = false;
  /** Those, for a panel that is made again. */
  private ahead: Values = {};
  private wait: ReturnType<typeof setTimeout> | undefined;
  private readonly timer = setInterval(() => this.look(), LOOK);
  /** The change of the file about which the user was asked: its hash or time, or its end. */
  private asked = "";
  /** What ComfyUI's editor edits. */
  private edited: Version | null = null;

  constructor(
    private readonly context: Context,
    private readonly lab: Lab,
  ) {
    super("RunPanel");
    const save = context.save.bind(context);
    context.save = async () => {
      await this.flush();
      this.isSaving = true;
      await save().finally(() => {
        this.isSaving = false;
      });
      this.settle();
    };
    const revert = context.revert.bind(context);
    context.revert = async () => {
      await revert();
      this.forget();
      this.settle();
      context.model.dirty = false; // JupyterLab 4.6 leaves this to extensions, too
      this.again();
    };
    // panels keep JupyterLab's shortcuts out, because their fields take keys
    this.node.addEventListener("keydown", (event) => {
      const isSave = (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey;
      if (!isSave || event.key.toLowerCase() !== "s" || event.defaultPrevented) return;
      event.preventDefault();
      this.lab.commands.execute("docmanager:save");
    });
    context.ready.then(() => context.model.contentChanged.connect(this.onContent, this));
  }

  override dispose(): void {
    clearInterval(this.timer);
    this.flush().catch(() => {}); // another view may show the document
    super.dispose();
  }

  /** Open the workflow in ComfyUI's editor. */
  async edit(): Promise<void> {
    await this.flush();
    const { path, model } = this.context;
    const text = standard(model.toString());
    const graph = formatOf(text) === "api" ? { workflow_api: text } : { workflow: text };
    const name = nameOf(path).replace(/\.json$/i, "");
    const { workflow_id } = this.edited ?? {};
    this.edited = workflow_id
      ? await transport().post<Version>("workflow/version", { ...graph, workflow_id })
      : await transport().post<Version>("workflow", { ...graph, name });
    await this.lab.commands.execute(OPEN_EDITOR, { workflow_id: this.edited.workflow_id });
  }

  protected override async prepare(): Promise<Values | null> {
    const { context } = this;
    await context.ready;
    const { path, localPath, contentsModel, model } = context;
    const text = model.toString();
    const size = contentsModel?.size ?? text.length;
    const format = size > MAX_FILE ? null : formatOf(text);
    if (text.trim() && !format) {
      const other = trans.__("This file is not a workflow of ComfyUI.");
      const limit = sizeOf(MAX_FILE);
      const large = trans.__("This file has %1; a workflow has at most %2.", sizeOf(size), limit);
      this.refuse(size > MAX_FILE ? large : other, ...this.ways());
      return null;
    }
    this.text = text;
    const runs = parseJson<string[]>(sessionStorage.getItem(this.key)) ?? [];
    const values = { document: true, directory: folderOf(localPath), runs };
    if (!format || (format === "ui" && isEmpty(text))) return values;
    const graph = standard(text);
    const given = { title: "", warnings: [], source: { [GRAPHS[format]]: graph } };
    const opened = (await openText(transport(), graph).catch(() => null)) ?? given;
    this.source = opened.source;
    const shown_workflow = { ...opened, title: nameOf(path) };
    return { ...values, shown_workflow, values: this.isAhead ? this.ahead : {} };
  }

  protected override ways(): Way[] {
    const { path } = this.context;
    const open = () => this.lab.commands.execute("docmanager:open", { path, factory: "Editor" });
    return [[trans.__("Open as text"), open]];
  }

  protected override onShown(): void {
    this.onTrait("runs", () => {
      sessionStorage.setItem(this.key, JSON.stringify(this.shown?.traits.runs?.peek()));
    });
    this.onTrait("edits", () => {
      this.isAhead = true;
      this.ahead = this.edits;
      this.context.model.dirty = true;
      clearTimeout(this.wait);
      this.wait = setTimeout(() => this.flush().catch(() => {}), QUIET); // the view says what failed
    });
    this.onTrait("shown_workflow", () => {
      const chosen = this.shown?.traits.shown_workflow?.peek() as Opened | null;
      if (chosen && chosen.source !== this.source) this.take(chosen);
    });
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.look();
  }

  /** Under which the page keeps the runs that go on, for when it is loaded again. */
  private get key(): string {
    return `comfydeploy-runs:${this.context.path}`;
  }

  private get edits(): Values {
    return (this.shown?.traits.edits?.peek() ?? {}) as Values;
  }

  /** Put the changed values into the document. */
  private async flush(): Promise<void> {
    clearTimeout(this.wait);
    while (this.isAhead && !this.context.isDisposed) {
      const { ahead } = this;
      try {
        const text = await this.textOf(this.source, ahead);
        if (this.ahead !== ahead || !this.isAhead || this.context.isDisposed) continue;
        if (this.isStuck) this.say("");
        this.isAhead = this.isStuck = false;
        this.write(text);
      } catch (error) {
        const why = messageOf(error);
        const said = trans.__("The changed values are not in the document yet: %1", why);
        const isOut = error instanceof RouteError && error.code === "signed_out";
        const signIn = () => void window.open(baseUrl(), "_blank", "noopener");
        this.say(said, ...(isOut ? [[trans.__("Sign in"), signIn] as Way] : []));
        this.isStuck = true;
        throw new Error(said);
      }
    }
  }

  /** Return a workflow with changed values, as the text of this file. */
  private async textOf(source: object, inputs: Values): Promise<string> {
    const to = formatOf(this.text) ?? "ui";
    const given = Object.keys(inputs).length ? { inputs } : {};
    const body = { ...source, ...given, to, text: true };
    const made = await transport().post<Record<string, string>>("workflow/convert", body);
    return `${made[GRAPHS[to]]}\n`;
  }

  private write(text: string): void {
    this.text = text;
    const { model } = this.context;
    if (model.toString() === text) return;
    model.fromString(text);
    model.dirty = true; // JupyterLab 4.6 leaves this to extensions
  }

  /** Take a workflow that was chosen in the panel, with the values that were changed. */
  private async take({ source }: Opened): Promise<void> {
    this.source = source;
    try {
      const text = await this.textOf(source, this.edits);
      if (this.source !== source) return;
      this.isAhead = false;
      this.write(text);
      this.again();
    } catch (error) {
      this.say(messageOf(error));
    }
  }

  /** The document has another content: it was read again, or changed in another tab. */
  private onContent(): void {
    clearTimeout(this.reading);
    this.reading = setTimeout(() => {
      if (!this.isDisposed && this.context.model.toString() !== this.text) this.again();
    }, QUIET);
  }

  private reading: ReturnType<typeof setTimeout> | undefined;

  /** Look whether the file was changed or removed, or saved in ComfyUI's editor. */
  private look(): void {
    if (!this.isVisible || document.hidden || !this.context.isReady) return;
    const quietly = () => {}; // the panel says if the server does not answer
    if (this.isStuck) this.flush().catch(quietly);
    this.lookAtFile().catch(quietly);
    this.lookAtEditor().catch(quietly);
  }

  private async lookAtFile(): Promise<void> {
    const { context } = this;
    let found: Contents.IModel;
    try {
      found = await this.lab.contents.get(context.path, { content: false, hash: true });
    } catch (error) {
      const { response } = error as { response?: Response };
      if (response?.status !== 404 || this.asked === "gone" || this.isDisposed) return;
      this.asked = "gone";
      context.model.dirty = true; // so that nothing is lost when the tab is closed
      this.say(trans.__("The file was removed or renamed; saving writes it again."));
      return;
    }
    if (this.isDisposed) return;
    if (this.asked === "gone") this.settle();
    const known = context.contentsModel;
    if (this.isSaving || !known) return;
    const isSame =
      found.hash && known.hash
        ? found.hash === known.hash
        : Date.parse(found.last_modified) - Date.parse(known.last_modified) < SAME;
    const change = found.hash || found.last_modified;
    if (isSame || change === this.asked) return;
    this.asked = change;
    if (!context.model.dirty) return context.revert();
    this.say(
      trans.__("The file was changed by something else, and has changes here too."),
      [trans.__("Load it, without the changes here"), () => this.drop(() => context.revert())],
      [trans.__("Keep the changes here"), () => this.say("")],
    );
  }

  /** Forget the changed values that are not in the document yet. */
  private forget(): void {
    clearTimeout(this.wait);
    this.isAhead = this.isStuck = false;
  }

  /** Ask nothing any more: the document is as the file is. */
  private settle(): void {
    this.asked = "";
    this.say("");
  }

  /** Take another content in place of what was changed here. */
  private async drop(read: () => Promise<void>): Promise<void> {
    this.say("");
    await read().catch((error) => this.say(messageOf(error)));
  }

  private async lookAtEditor(): Promise<void> {
    if (!this.edited) return;
    const { workflow_id, version: before } = this.edited;
    const query = { workflow_id, version: "latest" };
    const { version } = await transport().get<Version>("workflow/version", query);
    if (version === before || this.isDisposed) return;
    this.edited = { workflow_id, version };
    const read = async () => {
      const saved = await this.textOf(this.edited ?? {}, {});
      this.forget();
      this.context.model.fromString(saved);
      await this.context.save();
      const text = trans.__("%1 is as it was saved in ComfyUI's editor.", this.context.path);
      Notification.info(text, { autoClose: 4000 });
    };
    if (!this.context.model.dirty) return read();
    this.say(
      trans.__("This workflow was saved in ComfyUI's editor, and has changes here too."),
      [trans.__("Take what was saved, without the changes here"), () => this.drop(read)],
      [trans.__("Keep the changes here"), () => this.say("")],
    );
  }
}

const GRAPHS = { api: "workflow_api", ui: "workflow" } as const;

/** The panel of the workflow in a picture, video or sound. */
class CarrierView extends PanelWidget {
  constructor(
    private readonly context: DocumentRegistry.IContext<DocumentRegistry.IModel>,
    private readonly lab: Lab,
  ) {
    super("RunPanel");
  }

  protected override async prepare(): Promise<Values> {
    const { path, localPath } = this.context;
    const shown_workflow = await openCarrier(this.lab.contents, path);
    return { document: true, directory: folderOf(localPath), shown_workflow };
  }
}

/** Open the workflow in a file of the file browser. */
export async function openCarrier(contents: Contents.IManager, path: string): Promise<Opened> {
  const name = nameOf(path);
  if (!contents.driveName(path)) {
    const entry = { kind: "file", name: contents.localPath(path), title: name, note: "" } as const;
    try {
      return { ...(await open(transport(), entry)), title: name };
    } catch (error) {
      throw new Error(messageOf(error).replace(/^filename: /, `${name} `));
    }
  }
  return openFile(transport(), await fileOf(contents, path));
}

/** Return a file of the file browser with its content. */
export async function fileOf(contents: Contents.IManager, path: string): Promise<File> {
  const { size = 0 } = await contents.get(path, { content: false });
  if ((size ?? 0) > MAX_CARRIER) {
    const found = sizeOf(size ?? 0);
    throw new Error(trans.__("%1 has %2: too much to be sent by the page", nameOf(path), found));
  }
  const reply = await fetch(await contents.getDownloadUrl(path));
  if (!reply.ok) throw new Error(trans.__("%1 cannot be read: %2", nameOf(path), reply.status));
  const content = await reply.blob();
  return new File([content], nameOf(path), { type: content.type });
}

type WorkflowWidget = DocumentWidget<PanelWidget, DocumentRegistry.ICodeModel>;

/** Opens workflow files. */
export class WorkflowFactory extends ABCWidgetFactory<WorkflowWidget, DocumentRegistry.ICodeModel> {
  constructor(
    options: DocumentRegistry.IWidgetFactoryOptions<WorkflowWidget>,
    private readonly lab: Lab,
  ) {
    super(options);
  }

  protected override createNewWidget(context: Context): WorkflowWidget {
    const content = new WorkflowView(context, this.lab);
    const widget = new DocumentWidget({ content, context });
    widget.title.icon = comfyIcon;
    const edit = new ToolbarButton({
      icon: comfyIcon,
      label: trans.__("Edit in ComfyUI"),
      onClick: () => {
        content.edit().catch((error) => tell(error));
      },
    });
    widget.toolbar.addItem(EDIT, edit);
    return widget;
  }
}

type CarrierWidget = DocumentWidget<PanelWidget, DocumentRegistry.IModel>;

/** Opens pictures, videos and sounds that carry a workflow. */
export class CarrierFactory extends ABCWidgetFactory<CarrierWidget> {
  constructor(
    options: DocumentRegistry.IWidgetFactoryOptions<CarrierWidget>,
    private readonly lab: Lab,
  ) {
    super(options);
  }

  protected override createNewWidget(
    context: DocumentRegistry.IContext<DocumentRegistry.IModel>,
  ): CarrierWidget {
    const widget = new DocumentWidget({ content: new CarrierView(context, this.lab), context });
    widget.title.icon = comfyIcon;
    return widget;
  }
}
