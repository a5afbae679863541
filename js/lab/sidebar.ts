/** The sidebar: what runs, what waits, and what is done. */

import {
  ILabShell,
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin,
} from "@jupyterlab/application";
import { INotebookTracker } from "@jupyterlab/notebook";
import { ITranslator } from "@jupyterlab/translation";
import type { Message } from "@lumino/messaging";
import { h } from "../src/dom.ts";
import type { SidebarHost } from "../src/panels/sidebar.tsx";
import { openRuns } from "../src/state/overview.ts";
import { takeRuns } from "./drop.ts";
import { comfyIcon } from "./icons.ts";
import type { Live } from "./live.ts";
import { liveOf } from "./live_of.ts";
import { openBatch, openRun } from "./open.ts";
import { PanelWidget, type Values } from "./panel_widget.ts";
import { trans, translate } from "./words.ts";

const ID = "comfydeploy-sidebar";
const COUNT = "comfydeploy-count"; // the attribute of the tab that the badge shows
const MOST = 99; // that the badge counts: more digits are wider than the tab
const AT_FIRST = 20; // runs

/** Shows the sidebar, or hides it if it is shown. */
export const SHOW_SIDEBAR = "comfydeploy:show-sidebar";

const CSS = `
#${ID} { min-width: 260px; background: var(--jp-layout-color1); }
#${ID} > div > .comfydeploy-panel { border: 0; padding: 8px 10px; }
#${ID} > div > p { padding: 0 10px; }
.jp-SideBar .lm-TabBar-tab[data-comfydeploy-count] { position: relative; }
.jp-SideBar.lm-TabBar .lm-TabBar-tab.lm-TabBar-tab[data-comfydeploy-count][data-id]::before {
  content: attr(data-comfydeploy-count); position: absolute; z-index: 1; inset: 3px 1px auto auto;
  width: auto; height: 16px; min-width: 16px; padding: 0 4px; border: 0; border-radius: 8px;
  box-sizing: border-box; transform: none; background: var(--jp-brand-color1);
  color: var(--jp-ui-inverse-font-color1, #fff);
  font: 600 10px/16px var(--jp-ui-font-family); text-align: center; pointer-events: none;
}
`;

class SidebarWidget extends PanelWidget {
  private leave: (() => void) | null = null;
  private places = { first: 0, count: AT_FIRST };
  private readonly host: SidebarHost;

  constructor(
    private readonly live: Live,
    app: JupyterFrontEnd,
  ) {
    super("Sidebar");
    this.id = ID;
    this.title.icon = comfyIcon;
    this.title.closable = false;
    this.node.style.padding = "0";
    this.host = {
      watch: (first, count) => {
        this.places = { first, count: Math.max(1, count) };
        this.follow();
      },
      openRun: (promptId) => openRun(app, promptId),
      openBatch: (batchId, title) => openBatch(app, batchId, title),
      connect: () => live.again(),
    };
    document.addEventListener("visibilitychange", this.follow);
    live.subscribe((known) => {
      const count = openRuns(known);
      const { [COUNT]: before = "", ...others } = this.title.dataset;
      const text = count > MOST ? `${MOST}+` : count ? String(count) : "";
      if (text === before) return;
      this.title.dataset = { ...others, ...(text && { [COUNT]: text }) };
    });
  }

  protected override async prepare(): Promise<Values> {
    return { known: this.live.known, host: this.host };
  }

  protected override onShown(): void {
    this.follow();
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.follow();
  }

  protected override onAfterHide(): void {
    this.follow();
  }

  override dispose(): void {
    document.removeEventListener("visibilitychange", this.follow);
    this.leave?.();
    super.dispose();
  }

  /** Follow what the server does while this is seen, and nothing else. */
  private readonly follow = (): void => {
    const isSeen = this.isVisible && !document.hidden;
    this.live.watch(isSeen ? { ...this.places, details: true } : null);
    if (!isSeen) {
      this.leave?.();
      this.leave = null;
    } else if (this.shown) {
      const { traits } = this.shown;
      this.leave ??= this.live.subscribe((known) => traits.set({ known }));
    }
  };
}

export const sidebar: JupyterFrontEndPlugin<void> = {
  id: "comfydeploy-jupyter:sidebar",
  description: "What ComfyUI runs, and what waits and is done, beside the notebook.",
  autoStart: true,
  optional: [ILabShell, ILayoutRestorer, INotebookTracker, ITranslator],
  activate(
    app: JupyterFrontEnd,
    labShell: ILabShell | null,
    restorer: ILayoutRestorer | null,
    notebooks: INotebookTracker | null,
    translator: ITranslator | null,
  ) {
    translate(translator);
    document.head.append(h("style", {}, CSS));
    const widget = new SidebarWidget(liveOf(app), app);
    widget.title.caption = trans.__("ComfyUI: runs, batches, transfers and machines");
    widget.node.setAttribute("role", "region");
    widget.node.setAttribute("aria-label", "ComfyUI");
    app.shell.add(widget, "left", { rank: 600, type: "ComfyUI" });
    restorer?.add(widget, ID);
    if (notebooks) takeRuns(notebooks);
    app.commands.addCommand(SHOW_SIDEBAR, {
      label: trans.__("Show runs and machines"),
      icon: comfyIcon,
      isToggled: () => widget.isVisible,
      execute: ({ toggles = false }) => {
        if (toggles && widget.isVisible && labShell) labShell.collapseLeft();
        else app.shell.activateById(ID);
      },
    });
  },
};
