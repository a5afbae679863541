/** A sweep: its progress, its points, stars for the best, downloads. */

import { h, icon, setText, setUpRoot } from "../dom.ts";
import { Files, type FilesTraits } from "../files.ts";
import { Lightbox } from "../gallery/lightbox.ts";
import type { IconName } from "../icons.ts";
import { type Buffers, type Context, Subscriptions } from "../model.ts";
import { progressBar, setFraction } from "../progress_bar.ts";
import { saveFile } from "../save_file.ts";
import { AboutPoint, type Heads, itemOf, type PointFacts } from "../sweep/point.ts";
import { Sheet } from "../sweep/sheet.ts";
import { WhenSeen } from "../when_seen.ts";

type Progress = {
  /** "running" or "ended". */
  phase: string;
  text: string;
  activity: string;
  /** Where the sweep is saved; empty if it is not. */
  saved: string;
  /** The text for screen readers. */
  spoken: string;
  fraction: number;
  /** Whether the kernel waits for the sweep, and does not handle messages in that time. */
  blocking: boolean;
};

type Traits = FilesTraits & {
  heads: Heads;
  points: PointFacts[];
  stars: number[];
  progress: Progress;
};

/** "export": a file, or an error; "stars": whether all of them are saved; "problem": an error. */
type Message = {
  kind: string;
  format: string;
  name: string;
  mime: string;
  problem: string;
  failed: boolean;
};

const EXPORTS = { png: "the sheet as a picture", csv: "the table for spreadsheets" };

function render({ model, el }: Context<Traits>) {
  setUpRoot(el, "sheet");
  const events = new Subscriptions(model);
  const files = new Files(model, events);
  const heads = model.get("heads");
  const all = heads.labels.map((_, index) => index);
  const labelOf = (index: number) => heads.labels[index] ?? "";
  const lightbox = new Lightbox();
  /** Stars that the user has set or removed, and that the kernel has not saved yet. */
  const wanted = new Map<number, boolean>();
  let seen = new WhenSeen();
  let onlyStarred = false;
  /** The points that are in the page. A point whose star is removed stays until the next `build`. */
  let inPage = all;
  let about: { index: number; view: AboutPoint } | null = null;

  const isStarred = (index: number) => wanted.get(index) ?? model.get("stars").includes(index);

  const star = (index: number) => {
    const starred = !isStarred(index);
    wanted.set(index, starred);
    model.send({ kind: "star", index, starred });
    setText(announcement, `${labelOf(index)}: ${starred ? "star" : "no star"}`);
    showStars();
  };

  /** Show a point in full size; the arrow keys show the other points that are in the page. */
  const open = (index: number, opener: HTMLElement) => {
    const points = model.get("points");
    const indexes = inPage;
    const items = indexes.map((place) => itemOf(points[place], labelOf(place)));
    lightbox.open(
      files,
      items,
      Math.max(0, indexes.indexOf(index)),
      opener,
      (_, place) => {
        const shown = indexes[place] ?? index;
        const view = new AboutPoint(heads, shown, points[shown], () => star(shown));
        about = { index: shown, view };
        view.mark(isStarred(shown));
        return view.root;
      },
      (item, place) => {
        if (item.query) return null;
        const [status = "", , text = ""] = points[indexes[place] ?? index] ?? [];
        return h("pre", { className: "cd-said", tabIndex: 0, dir: "auto" }, text || status);
      },
    );
  };
  lightbox.root.addEventListener("keydown", ({ key, ctrlKey, metaKey, altKey }) => {
    const isPlain = !ctrlKey && !metaKey && !altKey;
    if (about && isPlain && key.toLowerCase() === "s") star(about.index);
  });

  const button = (iconName: IconName, title: string, onclick: () => void) => {
    const words = h("span");
    const className = "cd-button";
    const root = h("button", { type: "button", className, title, onclick }, icon(iconName), words);
    return { root, setLabel: (text: string) => setText(words, ` ${text}`) };
  };
  const stop = button("stop", "Cancel the queued runs; resume() continues", () => {
    stop.root.disabled = true;
    stop.setLabel("Stopping");
    model.send({ kind: "stop" });
  });
  stop.setLabel("Stop");
  const filter = button("star", "Show only the points with a star", () => {
    onlyStarred = !onlyStarred;
    build();
  });
  const busy = new Set<string>();
  const downloads = Object.entries(EXPORTS).map(([format, what]) => {
    const { root, setLabel } = button("download", `Download ${what}`, () => {
      busy.add(format);
      showProblem("");
      showDownloads();
      model.send({ kind: "export", format, starred: onlyStarred });
    });
    setLabel(format.toUpperCase());
    return [format, root] as const;
  });
  const text = h("span", { className: "cd-grow" });
  const spoken = h("span", { className: "cd-unseen", role: "status" });
  const announcement = h("span", { className: "cd-unseen", role: "status" });
  const activity = h("div", { className: "cd-faint cd-cut" });
  const bar = progressBar("The sweep");
  const problem = h("div", { className: "comfydeploy-error", role: "alert", hidden: true });
  const unsaved = h("div", { className: "cd-faint" }, "Stars are saved when the sweep has ended.");
  const nothing = h("div", { className: "cd-faint" }, "No point has a star.");
  const watch = (element: Element, action: () => void) => seen.watch(element, action);
  const sheet = new Sheet(heads, { files, seen: { watch } }, { open, star });
  el.append(
    spoken,
    announcement,
    h("div", { className: "cd-line" }, text, stop.root),
    activity,
    bar,
    h("div", { className: "cd-line" }, filter.root, ...downloads.map(([, root]) => root)),
    unsaved,
    problem,
    nothing,
    sheet.root,
    lightbox.root,
  );

  const showProblem = (words: string) => {
    setText(problem, words);
    problem.hidden = !words;
  };
  const showProgress = () => {
    const progress = model.get("progress");
    const isRunning = progress.phase === "running";
    const parts = [progress.text];
    if (isRunning && progress.blocking) parts.push("interrupt the kernel to stop it");
    if (!isRunning && progress.saved) parts.push(`saved in ${progress.saved}`);
    setText(text, parts.join(" · "));
    setText(spoken, progress.spoken);
    setText(activity, progress.activity || "\u00a0");
    activity.hidden = bar.hidden = !isRunning;
    stop.root.hidden = !isRunning || progress.blocking;
    setFraction(bar, progress.fraction);
    showStars();
  };
  const showDownloads = () => {
    const { phase, blocking } = model.get("progress");
    // The kernel would answer only at the end of the sweep.
    const isKernelBlocked = phase === "running" && blocking;
    const isEmpty = onlyStarred && !all.some(isStarred);
    for (const [format, root] of downloads) {
      root.disabled = busy.has(format) || isEmpty || isKernelBlocked;
    }
  };
  const showStars = () => {
    const { phase, blocking } = model.get("progress");
    const count = all.filter(isStarred).length;
    filter.setLabel(`Starred only (${count})`);
    filter.root.setAttribute("aria-pressed", String(onlyStarred));
    filter.root.disabled = !count && !onlyStarred;
    unsaved.hidden = !wanted.size || !blocking || phase !== "running";
    about?.view.mark(isStarred(about.index));
    sheet.show(model.get("points"), isStarred);
    showDownloads();
  };
  const build = () => {
    seen.end();
    seen = new WhenSeen();
    inPage = onlyStarred ? all.filter(isStarred) : all;
    nothing.hidden = inPage.length > 0;
    sheet.build(inPage, !onlyStarred);
    showStars();
  };

  events.on("msg:custom", (message: Message, buffers: Buffers) => {
    if (message.kind === "problem") showProblem(message.problem);
    if (message.kind === "stars") {
      for (const [index, starred] of wanted) {
        const isSaved = model.get("stars").includes(index) === starred;
        if (isSaved || message.failed) wanted.delete(index);
      }
      showStars();
    }
    if (message.kind !== "export") return;
    busy.delete(message.format);
    showDownloads();
    if (message.problem) showProblem(message.problem);
    else saveFile(message.name, message.mime, buffers);
  });
  events.on("change:points change:stars", showStars);
  events.on("change:progress", showProgress);
  build();
  showProgress();
  return () => {
    seen.end();
    events.end();
    files.end();
  };
}

export default { render };
