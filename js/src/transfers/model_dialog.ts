/** The dialogs that delete or move a model. They show what uses it. */

import { openDialog } from "../dialog.ts";
import { h, newId } from "../dom.ts";
import { counted } from "../format.ts";

/** A model in the table. */
export type Entry = { name: string; folder: string; size: number | null; modified: number | null };

/** What uses a model, as the route `models/uses` returns it. */
export type Uses = {
  in_use: boolean;
  workflows: { name: string; versions: number[] }[];
  run_count: number;
  unfinished: number;
  queued: boolean | null; // null: a ComfyUI does not answer
  transfers: unknown[];
};

/** A request to the kernel. */
export type ModelOrder = {
  type: "uses" | "delete" | "move";
  folder: string;
  name: string;
  to_folder?: string;
  to_name?: string;
  in_use?: boolean;
};

/** The texts that are shown while the kernel does it. */
export const DOING = { delete: "Deleting", move: "Moving" };

const NAMED = 8; // the most workflows whose names are shown

/** Return what uses a model, in sentences. */
function sentences(uses: Uses): string[] {
  const { workflows, run_count, unfinished } = uses;
  const names = workflows.slice(0, NAMED).map(({ name }) => `“${name}”`);
  if (workflows.length > NAMED) names.push("…");
  const ended = run_count - unfinished;
  const all: [number, string][] = [
    [
      workflows.length,
      `${counted(workflows.length, "stored workflow")} ${workflows.length === 1 ? "uses" : "use"} it: ${names.join(", ")}.`,
    ],
    [ended, `${counted(ended, "earlier run")} used it.`],
  ];
  const lines = all.filter(([count]) => count).map(([, text]) => text);
  if (uses.in_use) return lines;
  return lines.length ? lines : ["No stored workflow and no recent run uses it."];
}

/** Return what uses a model now. */
function warning({ unfinished, transfers, queued }: Uses): string {
  const parts = [
    unfinished ? counted(unfinished, "run") : "",
    transfers.length ? counted(transfers.length, "transfer") : "",
  ].filter(Boolean);
  if (!parts.length && queued === null)
    return "ComfyUI does not answer: it is not known whether a prompt in its queue needs it.";
  if (!parts.length) return queued ? "A prompt in ComfyUI's queue needs it now." : "";
  const isOne = unfinished + transfers.length === 1;
  return `${parts.join(" and ")} that ${isOne ? "has not ended needs" : "have not ended need"} it now.`;
}

export class ModelDialog {
  readonly root = h("dialog", { className: "cd-dialog" });
  private entry: Entry | null = null;
  private inUse = false;
  private action = "";
  private confirm = h("button", { type: "button" });
  private readonly used = h("ul", { className: "cd-uses" });
  private readonly warned = h("div", { className: "comfydeploy-error", role: "alert" });
  private readonly problem = h("div", { className: "comfydeploy-error", role: "alert" });

  constructor(private readonly send: (order: ModelOrder) => void) {}

  /** Ask whether a model is to be deleted. */
  askDelete(entry: Entry, opener: Element | null): void {
    const text = `It is in ${entry.folder}. The file is deleted from the disk; this cannot be undone.`;
    this.show(entry, `Delete ${entry.name}?`, "Delete", opener, [h("div", {}, text)], () => ({
      type: "delete",
      folder: entry.folder,
      name: entry.name,
    }));
    this.confirm.classList.add("cd-danger");
  }

  /** Ask for the new folder and the new name of a model. */
  askMove(entry: Entry, folders: string[], opener: Element | null): void {
    const choices = folders.includes(entry.folder) ? folders : [entry.folder, ...folders];
    const folder = h(
      "select",
      { className: "comfydeploy-control" },
      choices.map((name) => h("option", { value: name }, name)),
    );
    folder.value = entry.folder;
    const name = h("input", {
      type: "text",
      className: "comfydeploy-control",
      value: entry.name,
      required: true,
      spellcheck: false,
    });
    const fields = [
      h("label", { className: "cd-field" }, "Models folder", folder),
      h("label", { className: "cd-field" }, "Name, with its subfolder", name),
      h(
        "div",
        { className: "cd-faint" },
        "Existing files are not replaced. Workflows keep the old name and will not find the model.",
      ),
    ];
    this.show(entry, `Move or rename ${entry.name}`, "Move", opener, fields, () => ({
      type: "move",
      folder: entry.folder,
      name: entry.name,
      to_folder: folder.value,
      to_name: name.value.trim(),
    }));
    const same = () => folder.value === entry.folder && name.value.trim() === entry.name;
    const check = () => {
      this.confirm.disabled = same() || !name.value.trim();
    };
    name.oninput = check;
    folder.onchange = check;
    name.onkeydown = (event) => {
      if (event.key === "Enter") this.confirm.click();
    };
    check();
    name.select();
  }

  /** Show what uses the model, once that is known. */
  showUses(folder: string, name: string, uses: Uses | null, problem: string): void {
    if (!this.isAbout(folder, name)) return;
    if (problem) this.problem.textContent = problem;
    this.used.replaceChildren(...(uses ? sentences(uses) : []).map((text) => h("li", {}, text)));
    this.inUse = uses !== null && (uses.in_use || uses.queued === null);
    this.warned.textContent = uses ? warning(uses) : "";
    this.used.removeAttribute("aria-busy");
    if (this.confirm.classList.contains("cd-danger")) this.confirm.disabled = uses === null;
  }

  /** Show why the model was not changed; return whether the dialog is open and about this model. */
  refuse(folder: string, name: string, problem: string): boolean {
    if (!this.isAbout(folder, name)) return false;
    this.problem.textContent = problem;
    this.confirm.textContent = this.action;
    this.confirm.disabled = false;
    this.send({ type: "uses", folder, name });
    return true;
  }

  /** Close the dialog about a model. */
  done(folder: string, name: string): void {
    if (this.isAbout(folder, name)) this.end();
  }

  end(): void {
    if (this.root.open) this.root.close();
  }

  private isAbout(folder: string, name: string): boolean {
    return this.root.open && this.entry?.folder === folder && this.entry.name === name;
  }

  private show(
    entry: Entry,
    title: string,
    action: string,
    opener: Element | null,
    content: HTMLElement[],
    order: () => ModelOrder,
  ): void {
    const id = newId();
    this.entry = entry;
    this.inUse = false;
    this.action = action;
    this.confirm = h(
      "button",
      {
        type: "button",
        className: "cd-button",
        disabled: true,
        onclick: () => {
          this.confirm.disabled = true;
          this.problem.textContent = "";
          const sent = order();
          if (sent.type !== "uses") this.confirm.textContent = `${DOING[sent.type]} …`;
          this.send({ ...sent, in_use: this.inUse });
        },
      },
      action,
    );
    const cancel = h(
      "button",
      { type: "button", className: "cd-button", onclick: () => this.end() },
      "Cancel",
    );
    this.warned.textContent = "";
    this.problem.textContent = "";
    this.used.setAttribute("aria-busy", "true");
    this.used.replaceChildren(h("li", { className: "cd-faint" }, "Looking for what uses it …"));
    this.root.setAttribute("aria-labelledby", id);
    this.root.replaceChildren(
      h("div", { id, className: "cd-question" }, title),
      ...content,
      this.used,
      this.warned,
      this.problem,
      h("div", { className: "cd-line cd-end" }, cancel, this.confirm),
    );
    openDialog(this.root, opener);
    cancel.focus();
    this.send({ type: "uses", folder: entry.folder, name: entry.name });
  }
}
