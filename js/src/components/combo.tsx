/** A text field with a list of choices that can be searched, as a component. */

import { useEffect, useRef } from "preact/hooks";
import { type ComboBox, comboBox, type Option } from "../combo_box.ts";
import { Drawn, useId } from "./ui.tsx";

type ComboProps = {
  /** The accessible name; a visible label has the `id` in `for`. */
  label: string;
  value: unknown;
  options: Option[];
  /** Called with each value that the user chooses. */
  onChoose: (value: unknown) => void;
  /** Called with what the user types. */
  onType?: (text: string) => void;
  /** Called when the list appears. */
  onOpen?: () => void;
  id?: string;
  placeholder?: string;
};

export function Combo(props: ComboProps) {
  const { label, value, options, placeholder = "" } = props;
  const ownId = useId();
  const box = useRef<ComboBox | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const draw = (root: HTMLElement) => {
    const made = comboBox({
      id: props.id ?? ownId,
      label,
      value,
      options,
      hint: placeholder,
      choose: (chosen) => latest.current.onChoose(chosen),
      opened: () => latest.current.onOpen?.(),
    });
    made.input.addEventListener("input", () => latest.current.onType?.(made.input.value));
    root.append(made.root);
    box.current = made;
    return made.end;
  };
  const key = JSON.stringify(options);
  useEffect(() => box.current?.setOptions(options, value), [key, value]);
  useEffect(() => {
    if (box.current) box.current.input.placeholder = placeholder;
  }, [placeholder]);
  return <Drawn draw={draw} />;
}
