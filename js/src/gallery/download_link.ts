/** A link that downloads an output file. */

import { h, icon } from "../dom.ts";
import type { Files } from "../files.ts";
import { saveUrl } from "../save_file.ts";
import { pageHeaders } from "../server.ts";
import { type Item, nameOf } from "./item.ts";

/** Create the link; with an empty text it shows only the icon. */
export function downloadLink(files: Files, item: Item, text = nameOf(item)): HTMLAnchorElement {
  const download = async (event: MouseEvent) => {
    event.preventDefault();
    const url = await files.url(item.query);
    // A link cannot send headers. The token in the query proves that the request is from this page.
    const xsrf = url.startsWith("blob:") ? null : pageHeaders()["X-XSRFToken"];
    saveUrl(item.name, xsrf ? `${url}&_xsrf=${encodeURIComponent(xsrf)}` : url);
  };
  return h(
    "a",
    {
      href: "#",
      className: "cd-download",
      title: `Download ${nameOf(item)}`,
      onclick: download,
    },
    icon("download"),
    text ? ` ${text}` : "",
  );
}
