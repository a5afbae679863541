/** The small components that all panels share. */

import { type ReadonlySignal, type Signal, useSignal } from "@preact/signals";
import type { ComponentChildren, HTMLAttributes, Ref } from "preact";
import { useEffect, useErrorBoundary, useLayoutEffect, useRef } from "preact/hooks";
import { SHOWN_FOR, write } from "../clipboard.ts";
import { newId } from "../dom.ts";
import { messageOf } from "../format.ts";
import type { IconName } from "../icons.ts";
import { RouteError } from "../transport.ts";

type Children = { children?: ComponentChildren };

/** An icon, which screen readers ignore. */
export function Icon({ name }: { name: IconName }) {
  return <i class={`fa fa-${name}`} aria-hidden="true" />;
}

type ButtonProps = {
  label: string;
  onClick: (event: MouseEvent) => void;
  icon?: IconName;
  /** The tooltip, if it says more than the label. */
  hint?: string;
  primary?: boolean;
  danger?: boolean;
  disabled?: boolean;
  /** The accessible name, if it says more than the label. */
  name?: string;
};

export function Button(props: ButtonProps) {
  const { label, onClick, icon, hint, primary, danger, disabled, name } = props;
  return (
    <button
      type="button"
      class={`cd-button${primary ? " cd-primary" : ""}${danger ? " cd-danger" : ""}`}
      title={hint}
      aria-label={name}
      disabled={disabled}
      onClick={onClick}
    >
      {icon && <Icon name={icon} />}
      {icon && " "}
      {label}
    </button>
  );
}

type IconButtonProps = {
  icon: IconName;
  /** The tooltip and the accessible name. */
  label: string;
  onClick: (event: MouseEvent) => void;
  disabled?: boolean;
  pressed?: boolean;
  /** By which a script finds it in its row. */
  part?: string;
  tabIndex?: number;
  class?: string;
};

export function IconButton(props: IconButtonProps) {
  const { icon, label, onClick, disabled, pressed, part, tabIndex, class: name = "" } = props;
  return (
    <button
      type="button"
      class={`cd-icon ${name}`.trim()}
      tabIndex={tabIndex}
      data-part={part}
      title={label}
      aria-label={label}
      aria-pressed={pressed}
      disabled={disabled}
      onClick={onClick}
    >
      <Icon name={icon} />
    </button>
  );
}

/** Return an id for an element, the same each time that a component is shown. */
export function useId(): string {
  const ref = useRef("");
  ref.current ||= newId();
  return ref.current;
}

type LabelledProps = {
  label: string;
  /** What is wrong with the value. */
  problem?: string | undefined;
  children: (id: string) => ComponentChildren;
};

/** A control with its label before it, and what is wrong with its value below it. */
export function Labelled({ label, problem, children }: LabelledProps) {
  const id = useId();
  return (
    <div class="cd-labelled">
      <label htmlFor={id}>{label}</label>
      {children(id)}
      {problem && (
        <div class="cd-problem" role="alert">
          {problem}
        </div>
      )}
    </div>
  );
}

/** A control shows and sets a signal, or it shows a value. */
type Bound<Value> = { bind: Signal<Value>; value?: never } | { bind?: never; value: Value };

type SelectProps = Bound<string> & {
  label: string;
  /** Value and text of each. */
  options: [string, string][];
  onChange?: (value: string) => void;
  disabled?: boolean;
};

export function Select({ label, bind, value, options, onChange, disabled }: SelectProps) {
  return (
    <Labelled label={label}>
      {(id) => (
        <select
          id={id}
          value={bind ? bind.value : value}
          disabled={disabled}
          onChange={({ currentTarget: { value: chosen } }) => {
            if (bind) bind.value = chosen;
            onChange?.(chosen);
          }}
        >
          {options.map(([each, text]) => (
            <option key={each} value={each}>
              {text}
            </option>
          ))}
        </select>
      )}
    </Labelled>
  );
}

type TextFieldProps = Bound<string> & {
  label: string;
  onInput?: (value: string) => void;
  onEnter?: () => void;
  type?: "text" | "password" | "email" | "search";
  placeholder?: string;
  disabled?: boolean;
  problem?: string | undefined;
  input?: Ref<HTMLInputElement>;
};

export function TextField(props: TextFieldProps) {
  const { label, bind, value, onInput, onEnter, input, problem, type = "text", ...more } = props;
  return (
    <Labelled label={label} problem={problem}>
      {(id) => (
        <input
          id={id}
          ref={input}
          type={type as "text"}
          aria-invalid={problem ? true : undefined}
          autocomplete="off"
          spellcheck={false}
          value={bind ? bind.value : value}
          onInput={({ currentTarget: { value: typed } }) => {
            if (bind) bind.value = typed;
            onInput?.(typed);
          }}
          onKeyDown={(event) => event.key === "Enter" && onEnter?.()}
          {...more}
        />
      )}
    </Labelled>
  );
}

type CheckboxProps = Bound<boolean> & {
  label: string;
  onChange?: (checked: boolean) => void;
  disabled?: boolean;
};

export function Checkbox({ label, bind, value, onChange, disabled }: CheckboxProps) {
  return (
    <label class="cd-check">
      <input
        type="checkbox"
        checked={bind ? bind.value : value}
        disabled={disabled}
        onChange={({ currentTarget: { checked } }) => {
          if (bind) bind.value = checked;
          onChange?.(checked);
        }}
      />{" "}
      {label}
    </label>
  );
}

type TabsProps = {
  label: string;
  /** The content of each by its name; it is made when the tab is first shown, and then kept. */
  tabs: Record<string, () => ComponentChildren>;
  shown: string;
  onShow: (name: string) => void;
};

export function Tabs({ label, tabs, shown, onShow }: TabsProps) {
  const id = useId();
  const made = useRef(new Set<string>()).current;
  made.add(shown);
  const names = Object.keys(tabs);
  const onKeyDown = (event: KeyboardEvent & { currentTarget: HTMLElement }) => {
    const place = names.indexOf(shown);
    const places: Record<string, number> = {
      ArrowLeft: place - 1,
      ArrowRight: place + 1,
      Home: 0,
      End: names.length - 1,
    };
    const wanted = places[event.key];
    if (wanted === undefined) return;
    event.preventDefault();
    const next = (wanted + names.length) % names.length;
    onShow(names[next] as string);
    (event.currentTarget.children[next] as HTMLElement).focus();
  };
  return (
    <div class="cd-tabs">
      <div role="tablist" aria-label={label} onKeyDown={onKeyDown}>
        {names.map((name, place) => (
          <button
            key={name}
            id={`${id}-${place}`}
            type="button"
            role="tab"
            aria-selected={name === shown}
            aria-controls={`${id}-${place}-content`}
            tabIndex={name === shown ? 0 : -1}
            onClick={() => onShow(name)}
          >
            {name}
          </button>
        ))}
      </div>
      {names.map((name, place) => (
        <div
          key={name}
          id={`${id}-${place}-content`}
          role="tabpanel"
          aria-labelledby={`${id}-${place}`}
          hidden={name !== shown}
        >
          {made.has(name) && tabs[name]?.()}
        </div>
      ))}
    </div>
  );
}

type QuestionProps = Children & {
  title: string;
  /** What the button says that does it. */
  action: string;
  onConfirm: () => void;
  onClose: () => void;
  danger?: boolean;
  disabled?: boolean;
};

/** A dialog that asks whether to do something; its first text field or *Cancel* has the focus. */
export function Question(props: QuestionProps) {
  const { title, action, onConfirm, onClose, danger = false, disabled = false, children } = props;
  const buttons = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const fields = buttons.current?.parentElement?.querySelectorAll("input");
    const field = [...(fields ?? [])].find(({ type }) => type !== "checkbox");
    if (field) field.select();
    else buttons.current?.querySelector("button")?.focus();
  }, []);
  return (
    <Dialog label={title} onClose={onClose}>
      <div class="cd-question">{title}</div>
      {children}
      <div class="cd-line cd-end" ref={buttons}>
        <Button label="Cancel" onClick={onClose} />
        <Button label={action} onClick={onConfirm} danger={danger} disabled={disabled} />
      </div>
    </Dialog>
  );
}

/** A text in which options such as `--lowvram` are not broken into lines. */
export function Unbroken({ text }: { text: string }) {
  const parts = text.split(/(--\w[\w-]*)/);
  return (
    <>{parts.map((part, place) => (place % 2 ? <span class="cd-unbroken">{part}</span> : part))}</>
  );
}

/** An error; nothing if there is none. */
export function ErrorBox({ text, children }: { text: string } & Children) {
  if (!text) return null;
  return (
    <div class="comfydeploy-error" role="alert">
      <Unbroken text={text} />
      {children}
    </div>
  );
}

/** A part of a panel; the others stay if it cannot show what the server has sent. */
export function Part({ name, children }: { name: string } & Children) {
  const [error, again] = useErrorBoundary();
  if (!error) return <>{children}</>;
  return (
    <ErrorBox text={`${name} cannot be shown: ${messageOf(error)}. `}>
      <Button label="Try again" onClick={again} />
    </ErrorBox>
  );
}

/** A line of text in a faint colour. */
export function Note({ children, live }: Children & { live?: boolean }) {
  return (
    <div class="comfydeploy-note" {...(live && { role: "status", "aria-live": "polite" })}>
      {children}
    </div>
  );
}

export type Colour = "faint" | "warn" | "success" | "error";

/** A state behind a dot of a colour. */
export function State({ text, colour }: { text: string; colour: Colour }) {
  return (
    <div role="status" aria-live="polite">
      <span aria-hidden="true" style={{ color: `var(--cd-${colour})` }}>
        ●
      </span>{" "}
      {text}
    </div>
  );
}

export function Link({ href, children, title }: Children & { href: string; title?: string }) {
  return (
    <a href={href} title={title} target="_blank" rel="noopener noreferrer">
      {children}
    </a>
  );
}

/** A button that copies a text, and then says whether it did. */
export function CopyButton(props: { label: string; text: string; name?: string }) {
  const { label, text, name } = props;
  const said = useSignal("");
  const copy = async () => {
    said.value = await write(text).then(
      () => "Copied",
      () => "Not copied",
    );
    setTimeout(() => {
      said.value = "";
    }, SHOWN_FOR);
  };
  return (
    <button
      type="button"
      class="cd-button"
      aria-live="polite"
      aria-label={said.value || name}
      title={text}
      disabled={!text}
      onClick={copy}
    >
      {said.value || label}
    </button>
  );
}

/** An action in a menu. */
export type Action = { label: string; icon: IconName; onClick: () => void; disabled?: boolean };

/** A button that shows actions. Arrow keys go through them; Escape, or leaving them, closes it. */
export function Menu({ label, actions }: { label: string; actions: Action[] }) {
  const isOpen = useSignal(false);
  const button = useRef<HTMLButtonElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const close = () => {
    isOpen.value = false;
    button.current?.focus();
  };
  useLayoutEffect(() => {
    const box = button.current?.getBoundingClientRect();
    const menu = list.current;
    if (!menu || !box) return;
    if (menu.showPopover) menu.showPopover();
    else menu.classList.add("cd-open");
    const isLow = box.bottom + menu.offsetHeight > innerHeight && box.top > menu.offsetHeight;
    menu.style.top = `${isLow ? box.top - menu.offsetHeight : box.bottom}px`;
    menu.style.left = `${Math.max(0, box.right - menu.offsetWidth)}px`;
    menu.querySelector<HTMLElement>("button:not([disabled])")?.focus();
  }, [isOpen.value]);
  const onKeyDown = (event: KeyboardEvent & { currentTarget: HTMLElement }) => {
    const items = [...event.currentTarget.querySelectorAll<HTMLElement>("button:not([disabled])")];
    const place = items.indexOf(focusedBeside(event.currentTarget) as HTMLElement);
    const steps: Record<string, number> = {
      ArrowDown: place + 1,
      ArrowUp: place - 1 + items.length,
      Home: 0,
      End: items.length - 1,
    };
    if (event.key === "Escape") close();
    else if (event.key in steps) items[(steps[event.key] ?? 0) % items.length]?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <span
      onFocusOut={(event) => {
        if (!event.currentTarget.contains(event.relatedTarget as Node | null)) isOpen.value = false;
      }}
    >
      <button
        ref={button}
        type="button"
        class="cd-icon"
        title={label}
        aria-label={label}
        aria-haspopup="menu"
        aria-expanded={isOpen.value}
        onClick={() => {
          isOpen.value = !isOpen.value;
        }}
      >
        <Icon name="ellipsis-h" />
      </button>
      {isOpen.value && (
        <div
          ref={list}
          class="cd-list cd-menu"
          popover="manual"
          role="menu"
          aria-label={label}
          onKeyDown={onKeyDown}
        >
          {actions.map(({ label: text, icon, onClick, disabled }) => (
            <button
              key={text}
              type="button"
              role="menuitem"
              tabIndex={-1}
              disabled={disabled}
              onClick={() => {
                close();
                onClick();
              }}
            >
              <Icon name={icon} /> {text}
            </button>
          ))}
        </div>
      )}
    </span>
  );
}

type DetailsProps = { summary: string; class?: string; onOpen?: () => void } & Children;

/** What is in the page only while it is unfolded. */
export function Details({ summary, onOpen, children, class: name }: DetailsProps) {
  const isOpen = useSignal(false);
  return (
    <details
      class={name}
      onToggle={(event) => {
        isOpen.value = event.currentTarget.open;
        if (isOpen.value) onOpen?.();
      }}
    >
      <summary>{summary}</summary>
      {isOpen.value && children}
    </details>
  );
}

type DialogProps = {
  label: string;
  onClose: () => void;
  class?: string;
  onKeyDown?: (event: KeyboardEvent) => void;
} & Children;

/** Return the element with the focus in the document, or in the shadow root, of an element. */
export function focusedBeside(element: Element): Element | null {
  return (element.getRootNode() as Document | ShadowRoot).activeElement;
}

/** A dialog in front of the page. When it is gone, what had the focus before gets it again. */
export function Dialog({ label, onClose, onKeyDown, children, class: name }: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const dialog = ref.current;
    const opener = dialog && focusedBeside(dialog);
    dialog?.showModal();
    // A button that is gone, or disabled, takes the focus along; the keys of the dialog go on.
    const keep = new MutationObserver(() => {
      if (document.activeElement === document.body) dialog?.focus();
    });
    if (dialog) keep.observe(dialog, { childList: true, subtree: true });
    return () => {
      keep.disconnect();
      if (dialog?.open) dialog.close();
      if (opener instanceof HTMLElement) opener.focus({ preventScroll: true });
    };
  }, []);
  return (
    <dialog
      ref={ref}
      class={name ?? "cd-dialog"}
      tabIndex={-1}
      aria-label={label}
      onClose={onClose}
      onClick={(event) => event.target === event.currentTarget && onClose()}
      onKeyDown={(event) => {
        event.stopPropagation();
        onKeyDown?.(event);
      }}
    >
      {children}
    </dialog>
  );
}

/** An element that a function makes: for scripts that draw by themselves. */
export function Drawn({
  draw,
  ...more
}: { draw: (root: HTMLElement) => (() => void) | undefined } & HTMLAttributes<HTMLDivElement>) {
  const root = useRef<HTMLDivElement>(null);
  useEffect(() => (root.current ? draw(root.current) : undefined), []);
  return <div ref={root} {...more} />;
}

const RETRY = 5000; // ms until a server that did not answer is asked again

/** The pause of a polling without a reason for a further look, ms. */
export const NEVER = 3_600_000;

/**
 * Call an action again and again while the panel can be seen: at once, then after as many ms as it
 * returns. A call of the function that is returned wakes it; another `key` does, too, and aborts an
 * action that has begun for the earlier one.
 */
export function usePolling(
  root: Ref<HTMLElement> & { current: HTMLElement | null },
  action: (signal: AbortSignal) => Promise<number>,
  key = "",
): () => void {
  const wake = useRef(() => {});
  const overtake = useRef(() => {});
  const latest = useRef(action);
  latest.current = action;
  useEffect(() => {
    let isOver = false;
    let isSeen = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let busy: AbortController | null = null;
    let isDue = true;
    const turn = async () => {
      clearTimeout(timer);
      isDue = true;
      if (busy || !isSeen || document.hidden || isOver) return;
      busy = new AbortController();
      isDue = false;
      const pause = await latest.current(busy.signal).catch((error) => {
        console.error(error); // it is not over for good
        return RETRY;
      });
      busy = null;
      if (isDue) turn();
      else if (!isOver) timer = setTimeout(turn, pause);
    };
    wake.current = turn;
    overtake.current = () => {
      busy?.abort();
      turn();
    };
    const observer = new IntersectionObserver((entries) => {
      isSeen = entries.at(-1)?.isIntersecting ?? false;
      if (isSeen) turn();
    });
    if (root.current) observer.observe(root.current);
    const onVisible = () => !document.hidden && turn();
    document.addEventListener("visibilitychange", onVisible);
    addEventListener("online", turn);
    return () => {
      isOver = true;
      busy?.abort();
      clearTimeout(timer);
      observer.disconnect();
      document.removeEventListener("visibilitychange", onVisible);
      removeEventListener("online", turn);
    };
  }, [root]);
  const first = useRef(key);
  useEffect(() => {
    if (first.current !== key) overtake.current();
    first.current = key;
  }, [key]);
  return () => wake.current();
}

/** As `usePolling`; `lost` is why the last call failed, and calls continue. */
export function useFollowing(
  root: { current: HTMLElement | null },
  action: (signal: AbortSignal) => Promise<number>,
): { wake: () => void; lost: ReadonlySignal<unknown> } {
  const lost = useSignal<unknown>(null);
  const wake = usePolling(root, async (signal) => {
    try {
      const pause = await action(signal);
      lost.value = null;
      return pause;
    } catch (error) {
      if (!signal.aborted) lost.value = error;
      return RETRY;
    }
  });
  return { wake, lost };
}

export const GOES_ON = "The panel continues by itself once this is over.";

/** Why a panel does not know the present state; it tries again by itself. */
export function Lost({ error, base }: { error: unknown; base: string | null }) {
  if (!error) return null;
  const isRefused = error instanceof RouteError;
  // the panel as a whole says that its kernel has ended
  if (isRefused && error.code === "no_kernel") return null;
  const isSignedOut = isRefused && error.code === "signed_out";
  return (
    <ErrorBox text={`${messageOf(error)}. ${GOES_ON}`}>
      {isSignedOut && base !== null && (
        <>
          {" "}
          <Link href={base}>Sign in</Link>
        </>
      )}
    </ErrorBox>
  );
}

/** Return a function that does something asynchronous, whether it is doing it, and its error. */
export function useTask(): {
  run: (task: () => Promise<unknown>) => Promise<void>;
  busy: ReadonlySignal<boolean>;
  error: ReadonlySignal<string>;
  clear: () => void;
} {
  const busy = useSignal(false);
  const error = useSignal("");
  const run = async (task: () => Promise<unknown>) => {
    error.value = "";
    busy.value = true;
    try {
      await task();
    } catch (problem) {
      const isLost = problem instanceof RouteError && problem.isUnreachable;
      error.value = `${isLost ? "This was not done. " : ""}${messageOf(problem)}`;
    } finally {
      busy.value = false;
    }
  };
  return {
    run,
    busy,
    error,
    clear: () => {
      error.value = "";
    },
  };
}
