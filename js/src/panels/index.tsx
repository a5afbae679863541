/** All panels, in one script that a page loads once. */

import { effect, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import { type ComponentType, render } from "preact";
import { useErrorBoundary } from "preact/hooks";
import css from "../../../comfydeploy_jupyter/widgets/static/panel.css";
import { type Children, childrenOf } from "../children.ts";
import { ErrorBox, Note } from "../components/ui.tsx";
import { keepKeysIn, newId } from "../dom.ts";
import { messageOf } from "../format.ts";
import { iconStyle } from "../icons.ts";
import { followKernel, SILENT } from "../kernel.ts";
import { type Model, Subscriptions } from "../model.ts";
import { pageServer, type ServerFacts } from "../server.ts";
import { localTraits, modelTraits, type PanelProps, type Traits } from "../state/traits.ts";
import { followTheme } from "../theme.ts";
import { Straight, ThroughKernel, type Transport } from "../transport.ts";
import { AccountPanel } from "./account.tsx";
import { BatchPanel } from "./batch.tsx";
import { ComfyDeployPanel } from "./comfydeploy.tsx";
import { GalleryPanel } from "./gallery.tsx";
import { RunPanel } from "./run.tsx";
import { Sidebar } from "./sidebar.tsx";
import { TunnelPanel } from "./tunnel.tsx";
import { UploadPanel } from "./upload.tsx";
import { WorkflowPanel } from "./workflow.tsx";

// biome-ignore lint/suspicious/noExplicitAny: each panel declares its own traits
const PANELS: Record<string, ComponentType<PanelProps<any>>> = {
  AccountPanel,
  BatchPanel,
  ComfyDeployPanel,
  GalleryPanel,
  RunPanel,
  Sidebar,
  TunnelPanel,
  UploadPanel,
  WorkflowPanel,
};

const TABS = {
  Run: "RunPanel",
  Workflows: "WorkflowPanel",
  Gallery: "GalleryPanel",
  Files: "UploadPanel",
  Tunnel: "TunnelPanel",
  Account: "AccountPanel",
};
const OF_RUN = { values: {}, machine: null };

/** The traits that a panel without a widget begins with; Python's classes have the same. */
const DEFAULTS: Record<string, Record<string, unknown>> = {
  BatchPanel: { batch: "", summary: "", status: "" },
  ComfyDeployPanel: { tab: "Run", machine: null, panels: TABS, summary: "" },
  GalleryPanel: { runner: "", run_requests: 0 },
  RunPanel: {
    ...OF_RUN,
    ...{ shown_workflow: null, directory: "", locked: null, varied: {}, batch: "" },
    ...{ queued: [], runs: [], result: null, document: false, edits: {} },
  },
  TunnelPanel: { target: "comfyui", summary: "" },
  UploadPanel: {
    ...{ place: "input", subfolder: "", overwrite: false, machine: null, choose_machine: true },
    ...{ uploads: [], followed: {}, rows: [], refreshed: 0 },
  },
  WorkflowPanel: {
    ...OF_RUN,
    ...{ workflow_id: "", version: null, source: {}, title: "", search_text: "", cloud: false },
    ...{ directory: "", tab: "Nodes", format: "api", validation: null, runs_elsewhere: false },
    ...{ runner: "", run_requests: 0 },
  },
};

/** Those of panels in the tabs of another one, which has the choice of the machine on top. */
const INNER: Record<string, Record<string, unknown>> = {
  GalleryPanel: { runner: "RunPanel" },
  UploadPanel: { choose_machine: false },
  WorkflowPanel: { runner: "RunPanel", runs_elsewhere: true },
};

/** The traits that each panel has. */
type Common = {
  component: string;
  server: ServerFacts;
  /** What Python says went wrong. */
  error: string;
  /** The class of the plain output of the cell, which is hidden while the panel works. */
  record: string;
};

export type Panels = {
  mount: typeof mount;
  mountAlone: typeof mountAlone;
  Straight: typeof Straight;
};

export { Straight };

const GONE =
  "The kernel of this panel was restarted or has ended. Run this cell again to use the panel;" +
  " queued runs continue.";
const DEAF = "The kernel has ended: the panel goes on, but Python does not learn of it.";
const BROKEN = "The panel cannot show what the server has sent; run this cell again";

type Kernel = "there" | "gone" | "none";
type AllTraits = Common & Record<string, unknown>;

/** Show the panel of a widget; return what removes it. */
export function mount(model: Model, el: HTMLElement): () => void {
  const events = new Subscriptions(model);
  const kernel: Signal<Kernel> = signal("there");
  const hears = () => kernel.value === "there";
  const traits = modelTraits<AllTraits>(model, events, hears);
  const transport: Signal<Transport | null> = signal(null);
  const stopFollowing = followKernel(model, el, () => {
    kernel.value = "gone";
    if (transport.value instanceof ThroughKernel) transport.value.end();
  });
  let isOver = false;
  const stopSearch = effect(() => {
    const facts = traits.server.value;
    if (transport.value || !facts.instance) return;
    pageServer(facts).then((base) => {
      if (transport.value || isOver) return;
      transport.value = base === null ? new ThroughKernel(model) : new Straight(base);
    });
  });
  const remove = show(el, { traits, transport, kernel, child: childrenOf(model, events, mount) });
  return () => {
    isOver = true;
    remove();
    stopSearch();
    stopFollowing();
    if (transport.value instanceof ThroughKernel) transport.value.close();
    events.end();
  };
}

type Alone = {
  traits: Traits<AllTraits>;
  /** Return the traits of a panel within it. */
  inner: (component: string) => Traits<AllTraits>;
  /** Remove it. */
  end: () => void;
};

/**
 * Show a panel without a widget in a page of the server.
 *
 * The value `inner` has those of panels within it, by the names of their components.
 */
export function mountAlone(
  component: string,
  el: HTMLElement,
  way: Transport,
  values: Record<string, unknown>,
): Alone {
  const traits = traitsOf(component, values);
  const shared = { machine: traits.machine?.peek() ?? null, directory: values.directory ?? "" };
  const made = new Map<string, Traits<AllTraits>>();
  const known = values.inner as Record<string, Record<string, unknown>> | undefined;
  const inner = (name: string) => {
    const begin = { ...shared, ...INNER[name], ...known?.[name] };
    const found = made.get(name) ?? traitsOf(name, begin);
    made.set(name, found);
    return found;
  };
  const child = componentsIn(way, inner);
  const end = show(el, { traits, transport: signal(way), kernel: signal("none"), child });
  return { traits, inner, end };
}

function traitsOf(component: string, values: Record<string, unknown>): Traits<AllTraits> {
  const common: Common = { component, server: {}, error: "", record: "" };
  const queued = values.runs ? { queued: values.runs } : {}; // those that a panel has shown go on in it
  return localTraits<AllTraits>({ ...common, ...DEFAULTS[component], ...queued, ...values });
}

/** Return the panels within one that has no widget; their ids are the names of their components. */
function componentsIn(way: Transport, of: Alone["inner"]): Children {
  const child: Children = {
    show: (name, el) =>
      show(el, { traits: of(name), transport: signal(way), kernel: signal("none"), child }),
    set: (name, changed) => of(name).set(changed),
    get: async (name, names) =>
      Object.fromEntries(names.map((each) => [each, of(name)[each]?.peek()])),
    follow(name, trait, action) {
      const known = of(name)[trait];
      let before = known?.peek();
      const look = (value: unknown) => {
        if (value !== before) action();
        before = value;
      };
      return known?.subscribe(look) ?? (() => {});
    },
  };
  return child;
}

type Shown = {
  traits: Traits<AllTraits>;
  /** Null until it is known. */
  transport: ReadonlySignal<Transport | null>;
  kernel: ReadonlySignal<Kernel>;
  child?: Children;
};

function show(el: HTMLElement, { traits, transport, kernel, ...more }: Shown): () => void {
  // one within another panel leaves it to that one to say that the kernel has ended
  const isInner = () => Boolean(el.parentElement?.closest(".comfydeploy-panel"));
  const Panel = PANELS[traits.component.value] ?? Unknown;
  el.id ||= newId();
  el.classList.add("comfydeploy-panel");
  const enableKeys = keepKeysIn(el);
  const leaveTheme = followTheme(el);
  function Root() {
    const [broken] = useErrorBoundary();
    const way = transport.value;
    const isGone = kernel.value === "gone";
    // a panel with a status of Python says itself what it lacks
    const isSilent = way instanceof ThroughKernel && way.isSilent.value && !traits.status?.value;
    const hiding = traits.record.value
      ? `.${traits.record.value}, .jp-OutputArea-child:has(.${traits.record.value}), ` +
        `.output_area:has(.${traits.record.value}) { display: none }`
      : "";
    return (
      <>
        <style>{css + iconStyle + hiding}</style>
        {isGone && !way?.base && !isInner() && <ErrorBox text={GONE} />}
        {isGone && way?.base && !isInner() && <Note live>{DEAF}</Note>}
        {isSilent && !isInner() && <Note live>{SILENT}</Note>}
        <ErrorBox text={traits.error.value} />
        {broken ? null : way ? (
          <fieldset class="cd-panel comfydeploy-view" disabled={isGone && way.base === null}>
            <Panel transport={way} traits={traits} kernel={kernel} {...more} />
          </fieldset>
        ) : (
          <Note live>Connecting …</Note>
        )}
        {broken && <ErrorBox text={`${BROKEN}: ${messageOf(broken)}`} />}
      </>
    );
  }
  render(<Root />, el);
  return () => {
    render(null, el);
    leaveTheme();
    enableKeys();
  };
}

function Unknown({ traits }: PanelProps<Common>) {
  return <ErrorBox text={`This version has no panel ${traits.component.value}`} />;
}
