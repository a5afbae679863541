/** A dialog in which the author of a workflow chooses the inputs in front of its form. */

import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Field } from "../form/field.ts";
import { containsWords, searchWords } from "../format.ts";
import type { Transport } from "../transport.ts";
import { type FrontInput, type Opened, saveFront, waysToSave } from "../workflows/source.ts";
import {
  Button,
  Checkbox,
  Dialog,
  ErrorBox,
  Icon,
  IconButton,
  Note,
  TextField,
  useTask,
} from "./ui.tsx";

const SEARCHED = 8; // other inputs that are shown without a search
const LISTED = 200; // of them at once

type Props = {
  transport: Transport;
  workflow: Opened;
  machine: string | null;
  /** The fields of the form, in its order. */
  fields: Field[];
  onSaved: (saved: Opened) => void;
  onClose: () => void;
};

/** An input in front; `label` is what the author writes. */
type Chosen = { key: string; label: string };

export function ChooseInputs(props: Props) {
  const { transport, workflow, machine, fields, onSaved, onClose } = props;
  const all = fields.filter(({ kind }) => kind !== "group");
  const labels = new Map(all.map(({ key, label }) => [key, label]));
  const chosen = useSignal<Chosen[]>(
    all
      .filter(({ more, choosable }) => !more && choosable)
      .map(({ key, label }) => ({ key, label })),
  );
  const search = useSignal("");
  /** Where the focus goes, since the element that had it is moved or gone. */
  const focused = useRef("");
  const said = useSignal("");
  const list = useRef<HTMLOListElement>(null);
  const task = useTask();
  useLayoutEffect(() => {
    const wanted = focused.current;
    focused.current = "";
    if (!wanted) return;
    const [part, key] = wanted.split(/ (.*)/);
    const rows = [
      ...(list.current?.closest("dialog")?.querySelectorAll<HTMLElement>("[data-key]") ?? []),
    ];
    const row = rows.find((each) => each.dataset.key === key);
    const controls = [
      ...((row ?? list.current?.closest("dialog"))?.querySelectorAll<HTMLElement>(
        "button, input",
      ) ?? []),
    ];
    const usable = controls.filter((control) => !control.matches(":disabled"));
    (usable.find((control) => control.dataset.part === part) ?? usable.at(-1))?.focus();
  });

  const move = (one: Chosen, step: number) => {
    const place = chosen.value.indexOf(one);
    const order = chosen.value.filter((each) => each !== one);
    order.splice(place + step, 0, one);
    chosen.value = order;
    focused.current = `${step < 0 ? "up" : "down"} ${one.key}`;
    said.value = `${one.label} is ${place + step + 1} of ${order.length}`;
  };
  /** Move an entry with the pointer: between those whose middles it is. */
  const drag = (event: PointerEvent, { key, label }: Chosen) => {
    const entries = list.current;
    if (event.button !== 0 || !entries) return;
    event.preventDefault();
    const stop = new AbortController();
    const listen = { signal: stop.signal };
    entries.setPointerCapture(event.pointerId); // not the row, which is moved
    entries.dataset.dragged = key;
    const onMove = ({ clientY }: PointerEvent) => {
      const rows = [...entries.querySelectorAll<HTMLElement>("li")];
      const place = rows.filter((row) => {
        const { top, height } = row.getBoundingClientRect();
        return row.dataset.key !== key && top + height / 2 < clientY;
      }).length;
      const one = chosen.value.find((each) => each.key === key);
      if (!one || chosen.value.indexOf(one) === place) return;
      const order = chosen.value.filter((each) => each !== one);
      order.splice(place, 0, one);
      chosen.value = order;
      said.value = `${label} is ${place + 1} of ${order.length}`;
      requestAnimationFrame(() => {
        const row = [...entries.children].find((each) => (each as HTMLElement).dataset.key === key);
        row?.scrollIntoView({ block: "nearest" });
      });
    };
    entries.addEventListener("pointermove", onMove, listen);
    const end = () => {
      stop.abort();
      delete entries.dataset.dragged;
    };
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"] as const)
      entries.addEventListener(name, end, listen);
  };
  const add = (key: string, next: string | undefined) => {
    chosen.value = [...chosen.value, { key, label: labels.get(key) ?? key }];
    focused.current = `check ${next ?? key}`;
    said.value = `${labels.get(key)} is in front`;
  };
  const remove = (gone: Chosen) => {
    const place = chosen.value.indexOf(gone);
    const next = chosen.value[place + 1] ?? chosen.value[place - 1] ?? gone;
    chosen.value = chosen.value.filter((each) => each !== gone);
    focused.current = `check ${next.key}`;
    said.value = `${gone.label} is below “More inputs”`;
  };

  const front = new Set(chosen.value.map(({ key }) => key));
  const words = searchWords(search.value);
  const others = all.filter(({ key, choosable }) => choosable && !front.has(key));
  const found = others.filter(({ label, key }) => containsWords(`${label} ${key}`, words));
  const inside = all.filter(({ choosable }) => !choosable).length;
  const save = (way: string) =>
    task.run(async () => {
      const wanted = chosen.value.map(
        ({ key, label }): FrontInput =>
          label.trim() === labels.get(key) ? { key } : { key, label: label.trim() },
      );
      onSaved(await saveFront(transport, workflow, wanted, machine, way));
    });
  return (
    <Dialog label="Choose inputs" class="cd-dialog cd-choose" onClose={onClose}>
      <div class="cd-question">Inputs in front of the form</div>
      <Note>
        All others are below “More inputs”. The workflow keeps the choice, and ComfyUI’s App mode
        shows the same.
      </Note>
      <ol aria-label="Inputs in front" ref={list}>
        {chosen.value.map((each, place) => (
          <li key={each.key} data-key={each.key}>
            <span class="cd-grip" title="Drag" onPointerDown={(event) => drag(event, each)}>
              <Icon name="grip-vertical" />
            </span>
            <input
              type="checkbox"
              data-part="check"
              checked
              aria-label={each.label}
              onChange={() => remove(each)}
            />
            <input
              type="text"
              value={each.label}
              dir="auto"
              title={each.key}
              aria-label={`Label of ${labels.get(each.key)}`}
              maxLength={1000}
              onInput={({ currentTarget: { value } }) => {
                const named = { ...each, label: value };
                chosen.value = chosen.value.map((other) => (other === each ? named : other));
              }}
            />
            {[-1, 1].map((step) => (
              <IconButton
                key={step}
                part={step < 0 ? "up" : "down"}
                icon={step < 0 ? "arrow-up" : "arrow-down"}
                label={`${each.label}: move ${step < 0 ? "up" : "down"}`}
                disabled={step < 0 ? place === 0 : place === chosen.value.length - 1}
                onClick={() => move(each, step)}
              />
            ))}
          </li>
        ))}
      </ol>
      {!chosen.value.length && (
        <Note>None is chosen: the form itself puts the most useful ones in front.</Note>
      )}
      {others.length > SEARCHED && <TextField label="Find an input" type="search" bind={search} />}
      <ul aria-label="Other inputs">
        {found.slice(0, LISTED).map(({ key, label }, place) => (
          <li key={key} data-key={key}>
            <Checkbox
              label={label}
              value={false}
              onChange={() => add(key, (found[place + 1] ?? found[place - 1])?.key)}
            />
          </li>
        ))}
      </ul>
      {found.length > LISTED && <Note>{found.length - LISTED} more; search for them</Note>}
      {inside > 0 && (
        <Note>
          {inside} inside subgraphs cannot be chosen. In ComfyUI, promote them to the node of their
          subgraph first.
        </Note>
      )}
      <div class="cd-unseen" role="status">
        {said.value}
      </div>
      <ErrorBox text={task.error.value} />
      <div class="cd-line cd-end">
        <Button label="Cancel" onClick={onClose} />
        {waysToSave(workflow).map(([way, label, hint], place) => (
          <Button
            key={way}
            label={label}
            hint={hint}
            primary={place === 0}
            disabled={task.busy.value}
            onClick={() => save(way)}
          />
        ))}
      </div>
    </Dialog>
  );
}
