/** The bar of a panel that runs workflows: Run, Cancel, the state, the keys. */

import { type Signal, useSignal } from "@preact/signals";
import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { MAX_AT_ONCE, type RunQueue } from "../state/runs.ts";
import { ProgressView } from "./progress.tsx";
import { type Action, Button, ErrorBox, GOES_ON, Icon, IconButton, Menu, Note } from "./ui.tsx";

const LEAST_ROOM = 240; // the least height of a picture, in pixels
const AROUND = 120; // pixels of height that a result needs beside its pictures: facts and a title
const MOST_ABOVE = 0.3; // of the height of the view, for what is above the bar

const KEYS: [keys: string[], what: string][] = [
  [["Ctrl", "Enter"], "Run the workflow (⌘ Enter on a Mac)"],
  [["Esc"], "Cancel this run, after a confirmation"],
  [["←", "→", "Home", "End"], "Go through the pictures; Enter enlarges one"],
  [["Tab"], "Go to the next control"],
  [["?"], "Show these keys"],
];
const TYPED = "input:not([type=checkbox], [type=range], [type=color]), textarea, select";
const HINT = "How many runs to queue";

type Props = {
  runs: RunQueue;
  times: Signal<string>;
  /** Whether there is a workflow to run. */
  isReady: boolean;
  state: string;
  /** Why something has to wait for the server; empty if nothing has. */
  lost: string;
  error: string;
  /** Downloads the missing models that the error names; null if there are none. */
  onDownload: (() => void) | null;
  /** Said of the runs that are wanted, and what is offered beside it. */
  note: string;
  children?: ComponentChildren;
  /** What else can be done with the workflow. */
  actions: Action[];
  onRun: (times: number) => void;
};

export function RunBar(props: Props) {
  const { runs, times, isReady, state, lost, error, onDownload, note, actions, onRun } = props;
  const box = useRef<HTMLDivElement>(null);
  const input = useRef<HTMLInputElement>(null);
  const isAsking = useSignal(false);
  /** Why the number of runs is not valid. */
  const problem = useSignal("");
  const help = useRef<HTMLDialogElement>(null);
  const opener = useRef<HTMLElement | null>(null);
  const number = runs.followed.value.length + runs.submitting.value;
  const isBusy = runs.isBusy.value;
  const isCancelling = runs.isCancelling.value;
  useRoom(box);
  const dismiss = () => {
    isAsking.value = false;
    opener.current?.focus();
  };
  const run = () => {
    if (!isReady) return;
    const number = Number(times.value);
    const isNumber = Number.isInteger(number) && number >= 1 && number <= MAX_AT_ONCE;
    problem.value = isNumber ? "" : `must be 1 to ${MAX_AT_ONCE}`;
    if (isNumber) onRun(number);
    else input.current?.focus();
  };
  const latest = useRef({ run, isBusy, dismiss });
  latest.current = { run, isBusy, dismiss };
  useEffect(() => {
    const panel = box.current?.closest<HTMLElement>(".comfydeploy-panel");
    const onKey = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (event.defaultPrevented && event.key !== "Enter") return;
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) latest.current.run();
      else if (event.key === "Escape" && !target.closest("dialog")) {
        if (isAsking.value) latest.current.dismiss();
        else if (latest.current.isBusy) {
          opener.current = document.activeElement as HTMLElement;
          isAsking.value = true;
        } else return;
      } else if (event.key === "?" && !target.matches(TYPED)) help.current?.showModal();
      else return;
      event.preventDefault();
      event.stopPropagation();
    };
    panel?.addEventListener("keydown", onKey);
    return () => panel?.removeEventListener("keydown", onKey);
  }, [isAsking]);
  if (!isBusy) isAsking.value = false;
  return (
    <div class="cd-bar-box" ref={box}>
      <div class="cd-line">
        <span class="comfydeploy-run cd-line">
          <button
            type="button"
            class="cd-button cd-primary"
            title="Run the workflow with these values (Ctrl+Enter)"
            disabled={!isReady}
            onClick={run}
          >
            <Icon name="play" /> Run
          </button>
          <label class="cd-line cd-times">
            times
            <input
              ref={input}
              type="number"
              min={1}
              max={MAX_AT_ONCE}
              step={1}
              value={times.value}
              title={problem.value || HINT}
              aria-invalid={problem.value ? "true" : undefined}
              onInput={(event) => {
                problem.value = "";
                times.value = event.currentTarget.value;
              }}
            />
          </label>
        </span>
        <Button
          label="Cancel"
          icon="stop"
          hint="Cancel the run that is shown"
          disabled={!isBusy || isCancelling}
          onClick={() => runs.cancel()}
        />
        {number > 1 && (
          <Button
            label="Cancel all"
            hint="Cancel this run and those that wait behind it"
            onClick={() => runs.cancel(true)}
          />
        )}
        <div class="cd-state cd-grow">
          <Note live>
            {isCancelling ? "Cancelling …" : problem.value ? "" : state}
            {lost && ` ${lost}. ${GOES_ON}`}
          </Note>
        </div>
        <span class="comfydeploy-keys cd-line cd-spread">
          <Menu label="More actions" actions={actions} />
          <IconButton
            icon="keyboard-o"
            label="Keys (?)"
            onClick={() => help.current?.showModal()}
          />
          <Help dialog={help} />
        </span>
      </div>
      {note && (
        <div class="cd-line">
          <Note>{note}</Note>
          {props.children}
        </div>
      )}
      {isAsking.value && (
        <div class="comfydeploy-keys">
          <div class="cd-line cd-ask" role="alertdialog" aria-label="Cancel the run?">
            <span class="cd-grow">Cancel the run that is shown?</span>
            <button
              type="button"
              class="cd-button cd-primary"
              ref={(button) => {
                button?.focus();
              }}
              onClick={() => {
                runs.cancel();
                dismiss();
              }}
            >
              Cancel the run
            </button>
            <Button label="Continue the run" onClick={dismiss} />
          </div>
        </div>
      )}
      <ErrorBox text={problem.value ? `times: ${problem.value}` : error}>
        {onDownload && !problem.value && (
          <div class="cd-line">
            <Button
              label="Download"
              icon="download"
              hint="Download the missing models into their folders"
              onClick={onDownload}
            />
          </div>
        )}
      </ErrorBox>
      <ProgressView runs={runs} />
    </div>
  );
}

function Help({ dialog }: { dialog: RefObject<HTMLDialogElement | null> }) {
  return (
    <dialog ref={dialog} class="cd-help" aria-label="Keys">
      <div class="cd-line">
        <b class="cd-grow">Keys</b>
        <IconButton icon="times" label="Close" onClick={() => dialog.current?.close()} />
      </div>
      <dl>
        {KEYS.map(([keys, what]) => (
          <>
            <dt>
              {keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </>
        ))}
      </dl>
    </dialog>
  );
}

/** Return the element whose scrolling moves an element, or null for the page. */
function scrollerOf(element: Element): Element | null {
  for (let at = element.parentElement; at; at = at.parentElement) {
    if (/auto|scroll/.test(getComputedStyle(at).overflowY)) return at;
  }
  return null;
}

/** Measure the height that the bar leaves for a result, for the style sheet. */
function useRoom(box: RefObject<HTMLDivElement | null>): void {
  useEffect(() => {
    const bar = box.current;
    const panel = bar?.closest<HTMLElement>(".comfydeploy-panel");
    if (!bar || !panel) return undefined;
    let scroller: Element | null = null;
    const measure = () => {
      if (bar.checkVisibility?.() === false) return; // as all is for a moment while JupyterLab changes its theme
      const found = scrollerOf(panel);
      if (found !== scroller) {
        if (scroller) observer.unobserve(scroller);
        if (found) observer.observe(found);
        scroller = found;
      }
      const view = scroller?.clientHeight ?? window.innerHeight;
      // The whole result is visible while the page shows the beginning of the panel's cell.
      const start = panel.closest(".jp-Cell") ?? panel;
      const top = (element: Element) => element.getBoundingClientRect().top;
      const above = top(bar.parentElement ?? bar) - top(start);
      const taken = Math.min(above, view * MOST_ABOVE) + bar.offsetHeight + AROUND;
      const room = Math.round(Math.max(LEAST_ROOM, view - taken));
      panel.style.setProperty("--cd-view", `${view}px`);
      panel.style.setProperty("--cd-bar", `${bar.offsetHeight}px`);
      panel.style.setProperty("--cd-room", `${room}px`);
    };
    // JupyterLab may make an output scrollable later.
    const onScroll = ({ target }: Event) => {
      if (target !== scroller && target instanceof Element && target.contains(panel)) measure();
    };
    // Not at once: the new height changes the size of the panel.
    const observer = new ResizeObserver(() => requestAnimationFrame(measure));
    observer.observe(bar);
    observer.observe(panel);
    document.addEventListener("scroll", onScroll, true);
    window.addEventListener("resize", measure);
    measure();
    return () => {
      observer.disconnect();
      document.removeEventListener("scroll", onScroll, true);
      window.removeEventListener("resize", measure);
    };
  }, [box]);
}
