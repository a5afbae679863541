/** The output files of a run. */

export type Item = {
  name: string;
  /** "hdr" is a picture that browsers cannot show. */
  kind: "image" | "hdr" | "video" | "audio" | "3d" | "file";
  /** The query of the route `view`. */
  query: string;
  /** False if the server creates no small copy. */
  small: boolean;
  /** Width and height in pixels, if ComfyUI has said them. */
  size?: [number, number] | null;
  /** Whether it is below "Other outputs". */
  waits: boolean;
};

export const LARGEST_COPY = 1024; // pixels of a picture that browsers cannot show themselves

// Control characters, and those that are invisible or change the direction of the text.
const INVISIBLE = /[\p{Cc}\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;

/** Return the size of a picture or a video as text; empty if it is not known. */
export function sizeText({ size }: Item): string {
  return size ? `${size[0]} × ${size[1]}` : "";
}

/** Return the name of a file with each invisible character replaced. */
export function nameOf(item: Item): string {
  return item.name.replace(INVISIBLE, "\ufffd");
}

/** Return the name of a file and, if it is known, its size in pixels. */
export function describe(item: Item): string {
  return [nameOf(item), sizeText(item)].filter(Boolean).join(" · ");
}
