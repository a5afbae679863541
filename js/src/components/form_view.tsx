/** The form of a workflow. */

import { useSignal } from "@preact/signals";
import { drawForm } from "../form/form.ts";
import { viewQuery } from "../form/media_control.ts";
import type { FormState } from "../state/form.ts";
import type { Transport } from "../transport.ts";
import { MaskPainter } from "./mask_painter.tsx";
import { Drawn } from "./ui.tsx";

type Props = {
  state: FormState;
  transport: Transport;
  /** Filled with a function that moves the focus to the first field with a problem. */
  focus: { current: () => void };
};

export function FormView({ state, transport, focus }: Props) {
  /** The picture of an input on which the user paints. */
  const painting = useSignal<{ key: string; name: string } | null>(null);
  const { key, name } = painting.value ?? { key: "", name: "" };
  return (
    <>
      {name && (
        <MaskPainter
          transport={transport}
          query={viewQuery(name, state.machine)}
          name={name}
          machine={state.machine}
          onDone={(painted) => state.change(key, painted)}
          onClose={() => {
            painting.value = null;
          }}
        />
      )}
      <Drawn
        class="comfydeploy-view comfydeploy-form"
        draw={(el) => {
          const paint = (key: string, name: string) => {
            painting.value = { key, name };
          };
          const form = drawForm(el, state, transport, paint);
          focus.current = () => {
            const problems = state.problems.peek();
            const row = state.rows.peek().find(({ key }) => key in problems);
            if (row) form.focus(row.key);
          };
          return form.end;
        }}
      />
    </>
  );
}
