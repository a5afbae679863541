/** The outputs of one run: pictures, videos, sounds, texts, files; its seeds and its timings. */

import { h, icon, setText, setUpRoot, unbroken } from "../dom.ts";
import { Files, type FilesTraits } from "../files.ts";
import { counted } from "../format.ts";
import { comparison } from "../gallery/comparison.ts";
import type { Item } from "../gallery/item.ts";
import { Lightbox } from "../gallery/lightbox.ts";
import { OpenModel } from "../gallery/model_view.ts";
import { type OutputText, pictures, player, textFigure, tile } from "../gallery/outputs.ts";
import { type NodeTime, timings } from "../gallery/timings.ts";
import { type Context, Subscriptions } from "../model.ts";
import { WhenSeen } from "../when_seen.ts";

type Result = {
  /** Empty while there is nothing to show; the other properties are missing then. */
  prompt_id: string;
  status: string;
  title: string;
  facts: string[];
  problems: string[];
  /** For a failed run: the traceback of the node, if any, and whether memory ran out. */
  traceback: string;
  failed: boolean;
  no_memory: boolean;
  seeds: string[];
  items: Item[];
  /** Pictures to compare, before and after, by their number in `items`. */
  pairs: [number, number][];
  texts: OutputText[];
  times: NodeTime[];
  reusable: boolean;
};

function render({ model, el }: Context<FilesTraits & { result: Result; busy: boolean }>) {
  setUpRoot(el, "gallery");
  const events = new Subscriptions(model);
  const files = new Files(model, events);
  let seen = new WhenSeen();
  const content = h("div");
  const lightbox = new Lightbox();
  const models = new OpenModel();
  const spoken = h("span", { className: "cd-unseen", role: "status" });
  el.append(spoken, content, lightbox.root);

  /** The outputs that are always shown, or those below "Other outputs". */
  const outputs = ({ items, pairs, texts }: Result, waits: boolean): HTMLElement[] => {
    const page = { files, seen, models };
    const compared = new Set(pairs.flat());
    const own = items.filter((item, place) => item.waits === waits && !compared.has(place));
    const of = (...kinds: Item["kind"][]) => own.filter(({ kind }) => kinds.includes(kind));
    const parts: HTMLElement[] = [];
    for (const [first, second] of pairs) {
      const [before, after] = [items[first], items[second]];
      if (before && after && before.waits === waits) {
        const otherwise = () => [tile(page, before), tile(page, after)];
        parts.push(comparison(page, before, after, otherwise));
      }
    }
    const images = of("image", "hdr");
    const players = of("video", "audio").map((item) => player(page, item));
    const enlarge = (index: number, opener: HTMLElement) =>
      lightbox.open(files, images, index, opener);
    parts.push(...pictures(page, images, players, enlarge));
    parts.push(...texts.filter((text) => text.waits === waits).map(textFigure));
    const others = of("3d", "file").map((item) => tile(page, item));
    if (others.length) parts.push(h("div", { className: "cd-tiles" }, others));
    return parts;
  };

  const reuseButton = (promptId: string) =>
    h(
      "button",
      {
        type: "button",
        className: "cd-button",
        title: "Put the values of this run, and its seeds, into the form",
        onclick: () => model.send({ kind: "reuse", prompt_id: promptId }),
      },
      icon("reply"),
      " Use these values again",
    );

  const reused = h("span", { className: "cd-reused", role: "status" });
  const head = (result: Result) => {
    reused.textContent = "";
    return h(
      "div",
      { className: "cd-line cd-head" },
      h("b", { className: `cd-status cd-${result.status}` }, result.title),
      result.facts.map((fact) => h("span", {}, fact)),
      result.seeds.length ? h("span", {}, `seed ${result.seeds.join(", ")}`) : null,
      h("span", { className: "cd-grow" }),
      result.reusable ? reuseButton(result.prompt_id) : null,
      reused,
    );
  };

  /** Shows information about a failure: the traceback, and ComfyUI's log. */
  const log = h("pre", { tabIndex: 0, className: "cd-code" });
  const freed = h("span", { className: "cd-faint", role: "status" });
  const causes = ({ failed, traceback, no_memory }: Result): HTMLElement[] => {
    if (!failed) return [];
    const folded = (title: string, content: HTMLElement, onopen = () => {}) => {
      const details = h("details", {}, h("summary", {}, title), content);
      details.addEventListener("toggle", () => details.open && onopen());
      return details;
    };
    const parts: HTMLElement[] = [];
    if (no_memory) {
      const free = h(
        "button",
        { type: "button", className: "cd-button", onclick: () => model.send({ kind: "free" }) },
        icon("eraser"),
        " Free ComfyUI's memory",
      );
      freed.textContent = "";
      parts.push(h("div", { className: "cd-line" }, free, freed));
    }
    if (traceback) {
      parts.push(folded("Traceback", h("pre", { tabIndex: 0, className: "cd-code" }, traceback)));
    }
    log.textContent = "…";
    parts.push(folded("The last lines of ComfyUI's log", log, () => model.send({ kind: "log" })));
    return parts;
  };

  const otherOutputs = (result: Result): HTMLElement | null => {
    const count = [...result.items, ...result.texts].filter(({ waits }) => waits).length;
    if (!count) return null;
    const summary = h("summary", {}, `Other outputs (${count})`);
    const details = h("details", { className: "cd-rest" }, summary);
    details.addEventListener("toggle", () => {
      if (details.children.length === 1) details.append(...outputs(result, true));
    });
    return details;
  };

  const show = () => {
    const result = model.get("result");
    seen.end();
    seen = new WhenSeen();
    lightbox.close();
    models.close();
    el.hidden = !result.prompt_id;
    files.free(content);
    const count = result.prompt_id ? result.items.length : 0;
    setText(spoken, result.status ? `${result.title}: ${counted(count, "file")}` : "");
    if (el.hidden) return content.replaceChildren();
    const problem = (text: string) =>
      h("div", { className: "comfydeploy-error", role: "alert" }, unbroken(text));
    content.replaceChildren(
      head(result),
      ...result.problems.map(problem),
      ...causes(result),
      ...outputs(result, false),
    );
    const others = otherOutputs(result);
    if (others) content.append(others);
    if (result.times.length) content.append(timings(result.times));
  };

  const showBusy = () => {
    el.classList.toggle("cd-busy", model.get("busy"));
    el.setAttribute("aria-busy", String(model.get("busy")));
  };
  events.on("msg:custom", ({ kind, text }: { kind: string; text: string }) => {
    if (kind === "log") log.textContent = text;
    if (kind === "freed") freed.textContent = text;
    if (kind === "reused") reused.textContent = text;
  });
  events.on("change:result", show);
  events.on("change:busy", showBusy);
  showBusy();
  show();
  return () => {
    models.close();
    seen.end();
    events.end();
    files.end();
  };
}

export default { render };
