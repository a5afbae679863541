/** ComfyUI's files in the page: their addresses, and the elements that show them. */

import type { ComponentChildren, CSSProperties, RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Button, Icon, IconButton } from "./components/ui.tsx";
import { formatBytes, messageOf } from "./format.ts";
import type { IconName } from "./icons.ts";
import { loadScript } from "./load_panels.ts";
import { pictureSize } from "./picture_size.ts";
import { saveUrl } from "./save_file.ts";
import { pageHeaders } from "./server.ts";
import { describe, nameOf, type ShownFile, sizeText } from "./shown_runs.ts";
import { RouteError, type Transport, untilAnswered } from "./transport.ts";

const SMALL = 768; // pixels of the largest copies that the page keeps; larger ones are like whole files
const KEPT = 200; // small copies that the page keeps
const PREVIEW = 192; // pixels of a copy beside the name of a file
const LARGEST_MODEL = 64 << 20; // bytes; larger ones would need too much memory and time of the page
const GONE = "gone"; // in place of the size of a file
const TURNABLE = /\.(glb|gltf|ply)$/i;

/**
 * The files of ComfyUI.
 *
 * If the page comes from the Jupyter server, it shows them by their URL. Otherwise the kernel sends
 * their content, and the page shows it by a blob URL: the browser keeps the content until that is
 * revoked. Small copies are kept for the next time; a whole file only while it is shown.
 */
export class Media {
  /** Small copies by their query; the last one used is the last. */
  private readonly small = new Map<string, Promise<string>>();
  /** While the server, or the login, is away. */
  private away: Promise<unknown> | null = null;

  constructor(readonly transport: Transport) {}

  /** Return the address of a file if the page reaches it; else null. */
  address(query: string): string | null {
    const { base } = this.transport;
    const [route, fields] = routeOf(query);
    return base === null ? null : `${base}comfyui-deploy/${route}?${fields}`;
  }

  /**
   * Return the URL of a file; with `side`, of a copy of a picture with at most so many pixels.
   *
   * Who gets it passes it to `free` when it is not needed any more.
   */
  async url(query: string, side = 0, signal?: AbortSignal): Promise<string> {
    const asked = side ? `${query}&thumbnail=${side}` : query;
    const straight = this.address(asked);
    if (straight) return straight;
    if (!side || side > SMALL) return URL.createObjectURL(await this.read(asked, signal));
    const known =
      this.small.get(asked) ?? this.read(asked).then((blob) => URL.createObjectURL(blob));
    this.small.delete(asked);
    this.small.set(asked, known);
    known.catch(() => this.small.delete(asked));
    const [oldest] = this.small;
    if (oldest && this.small.size > KEPT) {
      this.small.delete(oldest[0]);
      oldest[1].then(URL.revokeObjectURL, () => {});
    }
    return known;
  }

  /** Return the URL of a picture whose size is not known, unless it has too many pixels. */
  async limited(query: string, pixels: number, signal?: AbortSignal): Promise<string> {
    const content = await this.read(query, signal);
    const [width = 0, height = 0] = (await pictureSize(content)) ?? [];
    if (width * height > pixels) throw new TooManyPixels(width, height);
    return URL.createObjectURL(content);
  }

  /** Have the browser free the content of a URL of `url`. */
  free(url: string, side = 0): void {
    if (url.startsWith("blob:") && (!side || side > SMALL)) URL.revokeObjectURL(url);
  }

  /** Return the content of a file. */
  read(query: string, signal?: AbortSignal): Promise<Blob> {
    const [route, fields] = routeOf(query);
    return this.transport.content(route, { query: fieldsOf(fields), ...(signal && { signal }) });
  }

  /** Return the size of a file in bytes; -1 if the server does not say it. */
  size(query: string): Promise<number> {
    const [route, fields] = routeOf(query);
    return this.transport.size(route, fieldsOf(fields));
  }

  /** Wait until the server answers, if a file could not be shown because it does not. */
  async isBack(query: string): Promise<boolean> {
    const error = await this.size(query).catch((why) => why);
    if (!isPassing(error)) return false;
    const ask = () => this.transport.get("check-status");
    this.away ??= untilAnswered(ask, new AbortController().signal, () => {})
      .catch(() => {})
      .finally(() => {
        this.away = null;
      });
    await this.away;
    return true;
  }

  /** Have the browser save a file. */
  async save(file: ShownFile): Promise<void> {
    const url = await this.url(file.query);
    // A link cannot send headers. The token in the query proves that the request is from this page.
    const xsrf = url.startsWith("blob:") ? null : pageHeaders()["X-XSRFToken"];
    saveUrl(file.name, xsrf ? `${url}&_xsrf=${encodeURIComponent(xsrf)}` : url);
  }
}

function isPassing(error: unknown): boolean {
  return error instanceof RouteError && error.isPassing;
}

/** Return the route that has a file, and its query: `view`, unless the query begins with another. */
function routeOf(query: string): [string, string] {
  const [route, fields] = query.split("?");
  return fields === undefined ? ["view", query] : [route as string, fields];
}

function fieldsOf(query: string): Record<string, string> {
  return Object.fromEntries(new URLSearchParams(query));
}

/** A picture is larger than it may be. */
export class TooManyPixels extends Error {
  constructor(
    readonly width: number,
    readonly height: number,
  ) {
    super(`${width} × ${height} pixels`);
  }
}

const media = new WeakMap<Transport, Media>();

/** Return the files that a transport reaches, which all panels with this transport share. */
export function mediaOf(transport: Transport): Media {
  const found = media.get(transport) ?? new Media(transport);
  media.set(transport, found);
  return found;
}

// -- what is seen --------------------------------------------------------------------------------

const actions = new WeakMap<Element, () => void>();
let observer: IntersectionObserver | null = null;

function watch(element: Element, action: () => void): () => void {
  const margin = "300px"; // around the page, and around elements that scroll, such as a notebook
  observer ??= new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) if (isIntersecting) actions.get(target)?.();
    },
    { rootMargin: margin, scrollMargin: margin } as IntersectionObserverInit,
  );
  actions.set(element, action);
  observer.observe(element);
  return () => {
    actions.delete(element);
    observer?.unobserve(element);
  };
}

/** Return whether an element has been close to the visible area. */
export function useSeen(ref: RefObject<Element | null>): boolean {
  const [isSeen, setSeen] = useState(false);
  useLayoutEffect(() => {
    if (isSeen || !ref.current) return;
    return watch(ref.current, () => setSeen(true));
  }, [isSeen]);
  return isSeen;
}

/**
 * Return the URL of a file once it is wanted, and a key for the element that shows it, which calls
 * `missed` if it cannot. What was missed while the server is away is tried again; else `failed` is
 * called.
 */
function useUrl(
  { media, query, side = 0, pixels = 0, failed }: Source & { failed: (error?: unknown) => void },
  isWanted: boolean,
): { url: string; key: string; missed: (error?: unknown) => void } {
  const [found, setFound] = useState({ key: "", url: "" });
  const [turn, setTurn] = useState(0);
  const key = `${turn} ${side} ${query}`;
  const present = useRef(key);
  present.current = key;
  const missed = async (error?: unknown) => {
    const isAgain = (!error || isPassing(error)) && (await media.isBack(query));
    if (present.current !== key) return;
    if (isAgain) setTurn(turn + 1);
    else failed(error);
  };
  useEffect(() => {
    if (!isWanted) return;
    const stop = new AbortController();
    let mine = "";
    const url = pixels
      ? media.limited(query, pixels, stop.signal)
      : media.url(query, side, stop.signal);
    url.then(
      (url) => {
        if (stop.signal.aborted) return media.free(url, side);
        mine = url;
        setFound({ key, url });
      },
      (error) => {
        if (!stop.signal.aborted) missed(error);
      },
    );
    return () => {
      stop.abort();
      media.free(mine, side);
    };
  }, [media, key, isWanted]);
  return { url: found.key === key ? found.url : "", key, missed };
}

// -- elements --------------------------------------------------------------------------------------

type Source = {
  media: Media;
  query: string;
  side?: number;
  /** How many pixels it may have, if its size is not known. */
  pixels?: number;
};

type PictureProps = Source & {
  alt: string;
  /** Called if it cannot be shown; with the error, if it could not be requested. */
  failed?: (error?: unknown) => void;
  /** Called with the element when it is shown. */
  loaded?: (image: HTMLImageElement) => void;
  class?: string;
  style?: CSSProperties;
  /** The file that is dragged with it, for example into a notebook. */
  dragged?: ShownFile | null;
};

/** A picture, which is loaded once it is nearly visible. */
export function Picture(props: PictureProps) {
  const { media, alt, failed = () => {}, loaded, dragged, style } = props;
  const ref = useRef<HTMLImageElement>(null);
  const { url, key, missed } = useUrl({ ...props, failed }, useSeen(ref));
  return (
    <img
      key={key}
      ref={ref}
      class={props.class}
      style={style}
      alt={alt}
      decoding="async"
      {...(url && { src: url })}
      draggable={Boolean(dragged)}
      onDragStart={(event) => dragged && drag(event, media, dragged)}
      onError={url ? () => missed() : undefined}
      onLoad={(event) => loaded?.(event.currentTarget)}
    />
  );
}

/** Let a picture be dropped into a notebook or another page: as an image with its address. */
function drag(event: DragEvent, media: Media, file: ShownFile): void {
  attachOnDrop(media, file);
  const path = media.address(file.query);
  if (!path || !event.dataTransfer) return; // the browser drags what it shows
  const address = new URL(path, location.href).href;
  const image = document.createElement("img");
  image.setAttribute("src", address);
  image.alt = nameOf(file);
  event.dataTransfer.setData("text/html", image.outerHTML);
  event.dataTransfer.setData("text/uri-list", address);
  event.dataTransfer.setData("text/plain", address);
}

/** Give a Markdown cell the picture as an attachment: those of JupyterLab take nothing but files. */
function attachOnDrop(media: Media, file: ShownFile): void {
  const stop = new AbortController();
  const listen = { capture: true, signal: stop.signal };
  const onDrop = async (event: DragEvent) => {
    const { target } = event;
    if (!(target instanceof Element) || !target.closest(".jp-MarkdownCell")) return;
    stop.abort();
    event.preventDefault();
    event.stopPropagation();
    const content = await media.read(file.query);
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([content], nameOf(file), { type: content.type }));
    target.dispatchEvent(
      new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true, composed: true }),
    );
  };
  document.addEventListener("drop", onDrop, listen);
  document.addEventListener("dragend", () => stop.abort(), listen);
}

type FileProps = { media: Media; file: ShownFile };

/** A video or a sound with the browser's controls; a tile if it cannot be played. */
export function Player({ media, file }: FileProps) {
  const ref = useRef<HTMLMediaElement>(null);
  const [isGone, setGone] = useState(false);
  const failed = () => setGone(true);
  const { url, key, missed } = useUrl({ media, query: file.query, failed }, useSeen(ref));
  if (isGone) return <Tile media={media} file={file} />;
  const facts = {
    controls: true,
    preload: "metadata" as const,
    title: describe(file),
    "aria-label": nameOf(file),
    ...(url && { src: url }),
    onError: url ? () => missed() : undefined,
  };
  const ratio = file.width && file.height ? `${file.width} / ${file.height}` : undefined;
  return (
    <figure>
      {file.kind === "video" ? (
        <video
          key={key}
          ref={ref as RefObject<HTMLVideoElement>}
          {...facts}
          style={{ aspectRatio: ratio }}
        />
      ) : (
        <audio key={key} ref={ref as RefObject<HTMLAudioElement>} {...facts} />
      )}
      <figcaption>
        <Download media={media} file={file} />
        {sizeText(file) && ` · ${sizeText(file)}`}
      </figcaption>
    </figure>
  );
}

/** A link that downloads a file. */
export function Download({ media, file, text }: FileProps & { text?: string }) {
  const [problem, setProblem] = useState("");
  const label = text ?? nameOf(file);
  const download = async (event: Event) => {
    event.preventDefault();
    try {
      await media.save(file);
      setProblem("");
    } catch (error) {
      setProblem(messageOf(error));
    }
  };
  return (
    <>
      <a
        href={media.address(file.query) ?? "#"}
        class="cd-download"
        title={`Download ${nameOf(file)}`}
        aria-label={`Download ${nameOf(file)}`}
        draggable={false}
        onClick={download}
      >
        <Icon name="download" />
        {label && ` ${label}`}
      </a>
      {problem && <span class="cd-error-text">{problem}</span>}
    </>
  );
}

const ICONS: Record<ShownFile["kind"], IconName> = {
  image: "picture-o",
  hdr: "picture-o",
  video: "film",
  audio: "music",
  "3d": "cube",
  file: "file-o",
};

/** A file that is not shown: its name, its size and its download; a 3D model can be opened. */
export function Tile({ media, file, children }: FileProps & { children?: ComponentChildren }) {
  const ref = useRef<HTMLDivElement>(null);
  const [bytes, setBytes] = useState("");
  const [isOpen, setOpen] = useState(false);
  const [problem, setProblem] = useState("");
  const [hasPreview, setPreview] = useState(Boolean(file.preview));
  const isSeen = useSeen(ref);
  const wasOpen = useRef(false);
  useEffect(() => {
    if (wasOpen.current && !isOpen) ref.current?.querySelector("button")?.focus();
    wasOpen.current = isOpen;
  }, [isOpen]);
  useEffect(() => {
    if (!isSeen) return;
    media.size(file.query).then(
      (size) => setBytes(size < 0 ? "" : formatBytes(size)),
      (error) => setBytes(isPassing(error) ? "" : GONE),
    );
  }, [media, file.query, isSeen]);
  if (isOpen) {
    return (
      <Model3D
        media={media}
        file={file}
        onClose={(text = "") => {
          setProblem(text);
          setOpen(false);
        }}
      />
    );
  }
  return (
    <div class="cd-tile" ref={ref} title={describe(file)}>
      {hasPreview ? (
        <Picture
          media={media}
          query={`${file.query}&preview=${file.preview}`}
          side={PREVIEW}
          alt=""
          class="cd-preview"
          failed={() => setPreview(false)}
        />
      ) : (
        <Icon name={ICONS[file.kind] ?? ICONS.file} />
      )}
      <span class="cd-cut cd-grow">{nameOf(file)}</span>
      <span class="cd-faint">{[sizeText(file), bytes].filter(Boolean).join(" · ")}</span>
      {bytes !== GONE && <Download media={media} file={file} text="" />}
      {file.kind === "3d" && TURNABLE.test(file.name) && (
        <Button
          label="View in 3D"
          icon="arrows"
          hint={`Show ${nameOf(file)} in 3D`}
          onClick={() => setOpen(true)}
        />
      )}
      {problem && <span class="cd-faint cd-error-text">{problem}</span>}
      {children}
    </div>
  );
}

/** What the script of the viewer exports, which is loaded when a model is first opened. */
type ModelViewer = {
  show: (
    host: HTMLElement,
    content: ArrayBuffer,
  ) => Promise<{ canvas: HTMLCanvasElement; close: () => void }>;
};

/** Closes the model that is shown: only one is, because browsers limit the WebGL contexts. */
let closeOpen: (() => void) | null = null;

/** A 3D model that can be turned; `onClose` gets why it cannot be shown. */
export function Model3D({
  media,
  file,
  onClose,
}: FileProps & { onClose: (problem?: string) => void }) {
  const stage = useRef<HTMLDivElement>(null);
  const [isLoading, setLoading] = useState(true);
  useEffect(() => {
    const stop = new AbortController();
    let end = () => {};
    const close = () => onClose();
    const open = async (host: HTMLElement) => {
      const size = await media.size(file.query);
      if (size > LARGEST_MODEL) throw tooLarge(size);
      const blob = await media.read(file.query, stop.signal);
      if (blob.size > LARGEST_MODEL) throw tooLarge(blob.size);
      const viewer = await loadScript<ModelViewer>(media.transport, "model_viewer");
      stop.signal.throwIfAborted();
      closeOpen?.();
      const { canvas, close: closeViewer } = await viewer.show(host, await blob.arrayBuffer());
      if (stop.signal.aborted) return closeViewer();
      end = closeViewer;
      closeOpen = close;
      canvas.tabIndex = 0;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${nameOf(file)}; arrow keys turn it, + and - zoom`);
      setLoading(false);
    };
    if (stage.current) {
      open(stage.current).catch((error) => {
        const text =
          error instanceof RouteError && error.status === 404
            ? "It is not available any more"
            : messageOf(error);
        if (!stop.signal.aborted) onClose(`It cannot be shown in 3D. ${text}.`);
      });
    }
    return () => {
      stop.abort();
      if (closeOpen === close) closeOpen = null;
      end();
    };
  }, []);
  return (
    <figure class="cd-model">
      <div class="cd-stage" ref={stage} aria-busy={isLoading} />
      <figcaption class="cd-line">
        <span class="cd-grow">
          <Download media={media} file={file} />
          {isLoading && <span role="status"> Loading …</span>}
        </span>
        <IconButton icon="times" label="Close the 3D view" onClick={() => onClose()} />
      </figcaption>
    </figure>
  );
}

function tooLarge(size: number): Error {
  const most = formatBytes(LARGEST_MODEL);
  return new Error(`It has ${formatBytes(size)}, but at most ${most} are allowed`);
}
