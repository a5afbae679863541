/** Shows one file of ComfyUI after another in an element. */

import type { Media } from "../media.tsx";

export class ShownFile {
  private stop = new AbortController();
  private url = "";

  /** With `side`, a picture is shown as a copy with at most so many pixels. */
  constructor(
    private readonly media: Media,
    private readonly element: HTMLImageElement | HTMLMediaElement,
    private readonly side = 0,
  ) {}

  /**
   * Show another file. `failed` is called if it cannot be shown: with the error, if it could not be
   * requested. A video or a sound is too large to be sent through the kernel.
   */
  async show(query: string, failed: (error?: unknown) => void): Promise<void> {
    this.clear();
    const { media, element, side } = this;
    const { signal } = this.stop;
    if (element instanceof HTMLMediaElement && media.address(query) === null) return failed();
    element.onerror = () => failed();
    try {
      const url = await media.url(query, side, signal);
      if (signal.aborted) return media.free(url, side);
      this.url = url;
      element.src = url;
    } catch (error) {
      if (!signal.aborted) failed(error);
    }
  }

  /** Show nothing, and free the browser's memory. */
  clear(): void {
    const { media, element } = this;
    this.stop.abort();
    this.stop = new AbortController();
    media.free(this.url, this.side);
    this.url = "";
    element.onerror = null;
    element.removeAttribute("src");
    if (element instanceof HTMLMediaElement) element.load();
  }
}
