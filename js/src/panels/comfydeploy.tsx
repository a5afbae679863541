/** The state of the machine at the top, and the other panels in tabs. */

import { useEffect, useRef } from "preact/hooks";
import { MachineStrip } from "../components/machine_strip.tsx";
import { Note, Tabs } from "../components/ui.tsx";
import type { PanelProps } from "../state/traits.ts";

const TABS = ["Run", "Workflows", "Gallery", "Files", "Tunnel", "Account"];

type ComfyDeployTraits = {
  tab: string;
  /** The machine that runs and files go to; null for the default one. */
  machine: string | null;
  /** The id of the widget in each tab that Python has made. */
  panels: Record<string, string>;
  summary: string;
};

export function ComfyDeployPanel({ transport, traits, child }: PanelProps<ComfyDeployTraits>) {
  const { tab, machine, panels, summary } = traits;
  const root = useRef<HTMLDivElement>(null);
  const choose = (value: string | null) => {
    traits.set({ machine: value });
    // Python does the same, while there is one
    for (const id of Object.values(panels.value)) child?.set(id, { machine: value });
  };
  const { Workflows = "", Gallery = "" } = panels.value;
  useEffect(() => {
    const ends = [Workflows, Gallery].map((id) =>
      child?.follow(id, "run_requests", () => traits.set({ tab: "Run" })),
    );
    return () => {
      for (const end of ends) end?.();
    };
  }, [Workflows, Gallery, child, traits]);
  const tabs = Object.fromEntries(
    TABS.map((name) => {
      const id = panels.value[name];
      return [name, () => <Child key={id} id={id} child={child} />];
    }),
  );
  return (
    <div class="cd-rows" ref={root}>
      <MachineStrip
        root={root}
        transport={transport}
        machine={machine.value}
        onChoose={choose}
        onSummary={(text) => {
          if (text !== summary.peek()) traits.set({ summary: text });
        }}
      />
      <Tabs
        label="Panels"
        tabs={tabs}
        shown={tab.value}
        onShow={(name) => traits.set({ tab: name })}
      />
    </div>
  );
}

type ChildProps = { id: string | undefined; child: PanelProps<object>["child"] };

/** Another widget, which Python makes when its tab is first shown. */
function Child({ id, child }: ChildProps) {
  const root = useRef<HTMLDivElement>(null);
  useEffect(() => (id && root.current ? child?.show(id, root.current) : undefined), [id, child]);
  return (
    <>
      {!id && <Note live>Loading …</Note>}
      <div ref={root} />
    </>
  );
}
