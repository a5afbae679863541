/** The control of an input that accepts a picture, a video or a sound. */

import { comboBox } from "../combo_box.ts";
import { fileButton, h, iconButton, isAccepted } from "../dom.ts";
import { uploadByKernel } from "../files.ts";
import { messageOf } from "../format.ts";
import { pageServer, postFile } from "../server.ts";
import type { Control, Field, Form, Ids, Value } from "./field.ts";
import { RemoteList } from "./remote_list.ts";

const SIDE = 128; // pixels of a small copy

/** By kind: its name, the types in the file dialog, the element that shows it, and its event. */
const MEDIA = {
  image: { word: "picture", accept: "image/*,.exr,.hdr", tag: "img", ready: "load" },
  video: {
    word: "video",
    accept: "video/*,.mkv,image/gif,image/webp",
    tag: "video",
    ready: "loadedmetadata",
  },
  audio: { word: "sound", accept: "audio/*,video/*,.opus", tag: "audio", ready: "loadedmetadata" },
} as const;

type Kind = keyof typeof MEDIA;

export function isMedia(kind: string): kind is Kind {
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

export function mediaControl(
  form: Form,
  field: Field,
  kind: Kind,
  { id, hintId }: Ids,
  value: Value,
): Control {
  const { model, files } = form;
  const { word, accept, tag, ready } = MEDIA[kind];
  const shown =
    tag === "img" ? h("img", { alt: "" }) : h(tag, { controls: true, preload: "metadata" });
  const frame = h("div", { className: `cd-frame cd-${tag}` }, shown);
  shown.addEventListener(ready, () => frame.classList.add("cd-there"));
  const state = h("span", { className: "cd-faint", role: "status" });
  const refuse = (text: string) => form.refuse(field.key, text);

  /** The upload whose file will be the value; null if the user has entered another value since. */
  let sending: AbortController | null = null;
  const giveUp = () => {
    sending?.abort();
    sending = null;
    state.textContent = "";
    cancel.hidden = true;
  };
  let wanted = "";
  let present = value;
  const preview = async (now: Value) => {
    present = now;
    const name = String(now ?? "");
    wanted = name;
    frame.classList.remove("cd-there");
    edit.hidden = true;
    state.textContent = "";
    files.free(shown);
    if (!name || /^[a-z]+:/i.test(name)) return;
    const isPicture = shown instanceof HTMLImageElement;
    // A whole video is too large to be sent through the kernel for a preview.
    if (!isPicture && (await pageServer(model.get("server"))) === null) return;
    if (wanted !== name) return;
    const label = `${field.label}: ${name}`;
    if (isPicture) shown.alt = label;
    else shown.setAttribute("aria-label", label);
    const query = viewQuery(name, model.get("machine"));
    const explain = async () => {
      const { reason, isMissing } = await files.whyNoCopy(query, SIDE);
      if (wanted !== name) return;
      if (isMissing) refuse(reason);
      else state.textContent = reason;
    };
    files.show(shown, query, isPicture ? SIDE : 0, isPicture ? explain : undefined);
  };

  const options = () => {
    const now = model.get("fields").find(({ key }) => key === field.key);
    const fixed = (now?.options ?? []).map((option) => ({ value: option, text: String(option) }));
    return [...fixed, ...(remote?.options ?? [])];
  };
  const remote = field.remote
    ? new RemoteList(form, field, () => combo.setOptions(options(), present))
    : null;
  const combo = comboBox({
    id,
    label: field.label,
    value,
    options: options(),
    free: true,
    hint: "a file of ComfyUI's input folder, or an address",
    describedBy: hintId,
    choose: (chosen) => {
      const now = chosen as Value;
      giveUp();
      refuse("");
      form.change(field.key, now);
      preview(now);
    },
    opened: () => remote?.opened(),
  });
  remote?.for(combo);

  /** Upload a file to ComfyUI; return the name that it got. */
  const store = async (
    file: File,
    showState: (text: string) => void,
    signal: AbortSignal,
  ): Promise<string> => {
    const progress = (fraction: number) => {
      const stage = fraction < 1 ? `${Math.floor(100 * fraction)} %` : "storing …";
      showState(`Sending ${file.name}: ${stage}`);
    };
    const sendFile = model.get("send_file");
    if (sendFile) return sendFile(file, progress, signal);
    const base = await pageServer(model.get("server"));
    if (base === null) return uploadByKernel(model, file);
    const machine = model.get("machine");
    const destination = { type: "input", subfolder: "", overwrite: false, machine };
    return (await postFile(base, file, destination, progress).done).name;
  };
  const upload = async (file: File) => {
    if (!isAccepted(file, accept)) {
      const workflow = /\.json$/i.test(file.name)
        ? "; to open it as a workflow, drop it beside the inputs or use Open"
        : "";
      return refuse(`${file.name} is not a ${word}${workflow}`);
    }
    giveUp();
    const stop = new AbortController();
    sending = stop;
    const isAwaited = () => sending === stop;
    const showState = (text: string) => {
      if (isAwaited()) state.textContent = text;
    };
    const drop = () => {
      if (isAwaited()) giveUp();
    };
    const form_number = model.get("form_number");
    refuse("");
    showState(`Sending ${file.name} …`);
    cancel.hidden = !model.get("send_file");
    model.on("change:form_number", drop);
    try {
      const name = await store(file, showState, stop.signal);
      if (!isAwaited()) return;
      giveUp(); // the value may be the same as before
      model.send({ kind: "uploaded", form_number, key: field.key, name });
    } catch (error) {
      if (!isAwaited()) return;
      giveUp();
      refuse(`Not uploaded: ${messageOf(error)}`);
    } finally {
      model.off("change:form_number", drop);
    }
  };
  const cancel = iconButton("times", `${field.label}: do not send it`, () => giveUp(), {
    hidden: true,
  });
  const [button, input] = fileButton("Upload", accept, upload, {
    title: `Upload a ${word} for ${field.label}, or drop one here`,
    "aria-label": `${field.label}: upload a ${word}`,
  });

  // A page that speaks with the routes itself paints the mask; see `components/mask_painter.tsx`.
  const edit = iconButton(
    "paint-brush",
    `${field.label}: paint a mask, or crop it`,
    () => model.send({ kind: "paint", key: field.key, name: String(present ?? "") }),
    { hidden: true },
  );
  shown.addEventListener(ready, () => {
    edit.hidden = kind !== "image" || !model.get("can_paint");
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
        const file = event.dataTransfer?.files[0];
        if (file) upload(file);
      },
    },
    frame,
    h("div", { className: "cd-grow" }, combo.root),
    remote?.button,
    edit,
    button,
    input,
    state,
    cancel,
    remote?.state,
  );
  preview(value);
  return {
    root,
    end: () => {
      remote?.end();
      combo.end();
    },
    set(now) {
      combo.setOptions(options(), now);
      refuse("");
      preview(now);
    },
  };
}
