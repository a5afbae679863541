/** The control of an input that accepts a picture, a video or a sound. */

import { effect } from "@preact/signals";
import { comboBox } from "../combo_box.ts";
import { fileButton, h, iconButton, isAccepted, setText } from "../dom.ts";
import { messageOf } from "../format.ts";
import { RouteError } from "../transport.ts";
import type { Control, Field, Form, Value } from "./field.ts";
import { RemoteList } from "./remote_list.ts";
import { ShownFile } from "./shown_file.ts";

const SIDE = 128; // pixels of a small copy

/** By kind: its name, the types in the file dialog, the element that shows it, and its event. */
export const MEDIA = {
  image: { word: "picture", accept: "image/*,.exr,.hdr", tag: "img", ready: "load" },
  video: {
    word: "video",
    accept: "video/*,.mkv,image/gif,image/webp",
    tag: "video",
    ready: "loadedmetadata",
  },
  audio: { word: "sound", accept: "audio/*,video/*,.opus", tag: "audio", ready: "loadedmetadata" },
} as const;

export type MediaKind = keyof typeof MEDIA;

export function isMedia(kind: string): kind is MediaKind {
  return kind in MEDIA;
}

/** Return the query of `view` for a file name as ComfyUI writes it: `folder/name [output]`. */
export function viewQuery(name: string, machine: string | null): string {
  const [, path = "", type = "input"] = /^(.*?)(?: \[(input|output|temp)\])?$/.exec(name) ?? [];
  const cut = path.lastIndexOf("/");
  const query = new URLSearchParams({
    filename: path.slice(cut + 1),
    subfolder: cut < 0 ? "" : path.slice(0, cut),
    type,
  });
  if (machine) query.set("machine", machine);
  return query.toString();
}

export function mediaControl(form: Form, field: Field, kind: MediaKind): Control {
  const { media, refuse } = form;
  const { word, accept, tag, ready } = MEDIA[kind];
  const element =
    tag === "img" ? h("img", { alt: "" }) : h(tag, { controls: true, preload: "metadata" });
  const frame = h("div", { className: `cd-frame cd-${tag}` }, element);
  const isPicture = element instanceof HTMLImageElement;
  const paint = iconButton(
    "paint-brush",
    `${field.label}: paint a mask, or crop it`,
    () =>
      form.paint(String(present ?? "")).catch((error) => {
        reason = messageOf(error);
        showState();
      }),
    { hidden: true },
  );
  element.addEventListener(ready, () => {
    frame.classList.add("cd-there");
    paint.hidden = !isPicture;
  });
  const shown = new ShownFile(media, element, isPicture ? SIDE : 0);
  const state = h("span", { className: "cd-faint", role: "status" });
  let reason = ""; // why the picture is not shown
  const cancel = iconButton("times", `${field.label}: do not send it`, form.giveUp);
  const showState = () => {
    setText(state, form.sending() || reason);
    cancel.hidden = !form.sending();
  };

  let present = form.value;
  const preview = (now: Value) => {
    present = now;
    reason = "";
    showState();
    frame.classList.remove("cd-there");
    paint.hidden = true;
    shown.clear();
    const name = String(now ?? "");
    if (!name || /^[a-z]+:/i.test(name)) return;
    const label = `${field.label}: ${name}`;
    if (isPicture) element.alt = label;
    else element.setAttribute("aria-label", label);
    const query = form.query(name);
    const explain = async (error?: unknown) => {
      const read = () => media.read(`${query}&thumbnail=${SIDE}`);
      const problem =
        error ??
        (await read().then(
          () => null,
          (failure) => failure,
        ));
      if (present !== now || !problem) return;
      const text = messageOf(problem).replace(/^thumbnail:/, "A preview");
      if (problem instanceof RouteError && problem.status === 404) return refuse(text);
      reason = text;
      showState();
    };
    shown.show(query, isPicture ? explain : () => {});
  };

  /** The list of the field, which files that were uploaded since are in, and that of a route. */
  const options = () => {
    const fixed = (field.options ?? []).map((option) => ({ value: option, text: String(option) }));
    return [...fixed, ...(remote?.options ?? [])];
  };
  const remote = field.remote
    ? new RemoteList(form, field, () => combo.setOptions(options(), present))
    : null;
  const combo = comboBox({
    id: form.id,
    label: field.label,
    value: present,
    options: options(),
    free: true,
    hint: "a file of ComfyUI's input folder, or an address",
    describedBy: form.hintId,
    choose: (chosen) => {
      const now = chosen as Value;
      refuse("");
      form.change(now);
      preview(now);
    },
    opened: () => {
      combo.setOptions(options(), present);
      remote?.opened();
    },
  });
  remote?.for(combo);

  const upload = async (file: File | undefined) => {
    if (!file) return;
    if (!isAccepted(file, accept)) {
      const workflow = /\.json$/i.test(file.name)
        ? "; to open it as a workflow, drop it beside the inputs or use Open"
        : "";
      return refuse(`${file.name} is not a ${word}${workflow}`);
    }
    refuse("");
    const before = present;
    const name = await form.upload(file);
    if (name === before && name === present) preview(name); // there may have been no such file
  };
  const [button, input] = fileButton("Upload", accept, ([file]) => upload(file), {
    title: `Upload a ${word} for ${field.label}, or drop one here`,
    "aria-label": `${field.label}: upload a ${word}`,
  });

  const root = h(
    "div",
    {
      className: "cd-line cd-picture",
      ondragover: (event) => {
        event.preventDefault();
        root.classList.add("cd-drop");
      },
      ondragleave: () => root.classList.remove("cd-drop"),
      ondrop: (event) => {
        event.preventDefault();
        event.stopPropagation();
        root.classList.remove("cd-drop");
        upload(event.dataTransfer?.files[0]);
      },
    },
    frame,
    h("div", { className: "cd-grow" }, combo.root),
    remote?.button,
    paint,
    button,
    input,
    state,
    cancel,
    remote?.state,
  );
  preview(present);
  const unwatch = effect(showState);
  return {
    root,
    end: () => {
      unwatch();
      remote?.end();
      combo.end();
      shown.clear();
    },
    set(now) {
      combo.setOptions(options(), now);
      refuse("");
      preview(now);
    },
  };
}
