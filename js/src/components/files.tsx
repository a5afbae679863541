/** Takes files of the user's computer: by a button, or dropped. */

import { useEffect, useRef } from "preact/hooks";
import { isAccepted } from "../dom.ts";
import { Button } from "./ui.tsx";

type FileButtonProps = {
  label: string;
  /** Media types and endings of names; without it, any file. */
  accept?: string;
  onFiles: (files: File[]) => void;
  hint?: string;
  /** The accessible name, if it says more than the label. */
  name?: string;
  primary?: boolean;
  multiple?: boolean;
  disabled?: boolean;
};

export function FileButton({ accept, onFiles, multiple, ...button }: FileButtonProps) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <Button icon="upload" {...button} onClick={() => input.current?.click()} />
      <input
        ref={input}
        type="file"
        accept={accept}
        multiple={multiple}
        hidden
        tabIndex={-1}
        aria-label={button.name ?? button.label}
        onChange={({ currentTarget }) => {
          const files = [...(currentTarget.files ?? [])];
          if (files.length) onFiles(files);
          currentTarget.value = "";
        }}
      />
    </>
  );
}

/**
 * Take files that are dropped on an element, or on the panel around it with `wholePanel`, if no
 * other part accepts them. `refuse` is called with one that is not in `accept`.
 */
export function useDrop(
  root: { current: HTMLElement | null },
  options: {
    accept?: string;
    take: (files: File[], dropped: DataTransfer) => void;
    refuse?: (file: File) => void;
    wholePanel?: boolean;
  },
): void {
  const latest = useRef(options);
  latest.current = options;
  useEffect(() => {
    const own = root.current;
    if (!own) return;
    let marked: Element | null = null;
    const area = () =>
      latest.current.wholePanel ? (own.closest(".comfydeploy-panel") ?? own) : own;
    const mark = (element: Element | null) => {
      marked?.classList.remove("cd-drop");
      element?.classList.add("cd-drop");
      marked = element;
    };
    const takes = (event: DragEvent) =>
      !event.defaultPrevented &&
      event.target instanceof Node &&
      area().contains(event.target) &&
      !own.closest("fieldset")?.disabled &&
      (event.dataTransfer?.types.includes("Files") ?? false);
    const onDragOver = (event: DragEvent) => {
      const isOurs = takes(event);
      if (isOurs) event.preventDefault();
      mark(isOurs ? area() : null);
    };
    const onDragLeave = (event: DragEvent) => {
      const to = event.relatedTarget;
      if (!(to instanceof Node && area().contains(to))) mark(null);
    };
    const onDrop = (event: DragEvent) => {
      mark(null);
      if (!takes(event)) return;
      event.preventDefault();
      const { accept, take, refuse } = latest.current;
      const files = [...(event.dataTransfer?.files ?? [])];
      const taken = files.filter((file) => !accept || isAccepted(file, accept));
      for (const file of files) if (!taken.includes(file)) refuse?.(file);
      if (taken.length && event.dataTransfer) take(taken, event.dataTransfer);
    };
    // Inner areas come first: events reach them before the document.
    const target = latest.current.wholePanel ? document : own;
    target.addEventListener("dragover", onDragOver as EventListener);
    target.addEventListener("dragleave", onDragLeave as EventListener);
    target.addEventListener("drop", onDrop as EventListener);
    return () => {
      mark(null);
      target.removeEventListener("dragover", onDragOver as EventListener);
      target.removeEventListener("dragleave", onDragLeave as EventListener);
      target.removeEventListener("drop", onDrop as EventListener);
    };
  }, [root]);
}
