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
import { followKernel } from "../kernel.ts";
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
  TunnelPanel,
  UploadPanel,
  WorkflowPanel,
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
const SILENT =
  "The kernel does not answer: the panel waits until it is free. If it has ended, run this cell again.";

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
  const remove = show(el, { traits, transport, kernel, child: childrenOf(model, mount) });
  return () => {
    isOver = true;
    remove();
    stopSearch();
    stopFollowing();
    if (transport.value instanceof ThroughKernel) transport.value.close();
    events.end();
  };
}

/** Show a panel without a widget in a page of the server; return its traits, and what removes it. */
export function mountAlone(
  component: string,
  el: HTMLElement,
  way: Transport,
  values: Record<string, unknown>,
): { traits: Traits<AllTraits>; end: () => void } {
  const common: Common = { component, server: {}, error: "", record: "" };
  const traits = localTraits<AllTraits>({ ...common, ...values });
  const end = show(el, { traits, transport: signal(way), kernel: signal("none") });
  return { traits, end };
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
    const isSilent = way instanceof ThroughKernel && way.isSilent.value;
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
        {broken ? null : way ? (
          <fieldset class="cd-panel comfydeploy-view" disabled={isGone && way.base === null}>
            <Panel transport={way} traits={traits} kernel={kernel} {...more} />
          </fieldset>
        ) : (
          <Note live>Connecting …</Note>
        )}
        {broken && <ErrorBox text={`${BROKEN}: ${messageOf(broken)}`} />}
        <ErrorBox text={traits.error.value} />
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
