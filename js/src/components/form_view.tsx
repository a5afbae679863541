/** The form of a workflow. */

import { useEffect, useRef } from "preact/hooks";
import { drawForm } from "../form/form.ts";
import { viewQuery } from "../form/media_control.ts";
import { loadScript } from "../load_panels.ts";
import { mediaOf } from "../media.tsx";
import type { FormState } from "../state/form.ts";
import type { Transport } from "../transport.ts";
import type { paintMask } from "../viewers/mask_painter.tsx";
import { Drawn } from "./ui.tsx";

type Props = {
  state: FormState;
  transport: Transport;
  /** Filled with a function that moves the focus to the first field with a problem. */
  focus: { current: () => void };
};

export function FormView({ state, transport, focus }: Props) {
  const painter = useRef<HTMLDivElement>(null);
  const close = useRef(() => {});
  useEffect(() => () => close.current(), []);
  const paint = async (key: string, name: string) => {
    type Painter = { paintMask: typeof paintMask };
    const script = await loadScript<Painter>(transport, "mask_painter");
    const { machine } = state;
    if (!painter.current) return;
    close.current = script.paintMask(painter.current, {
      ...{ media: mediaOf(transport), name, machine, query: viewQuery(name, machine) },
      onDone: (painted) => state.change(key, painted),
      onClose: () => close.current(),
    });
  };
  return (
    <>
      <div ref={painter} style={{ display: "contents" }} />
      <Drawn
        class="comfydeploy-view comfydeploy-form"
        draw={(el) => {
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
