/** The routes of the page's server. */

import { pageConfig } from "../src/server.ts";
import { Straight } from "../src/transport.ts";
import { tell } from "./tell.ts";

/** The base URL of the server. */
export function baseUrl(): string {
  return pageConfig().baseUrl ?? "/";
}

let made: Straight | undefined;

/** Return how the page asks the routes. */
export function transport(): Straight {
  made ??= new Straight(baseUrl());
  return made;
}

/** Do something that a route does; say so if it fails. */
export async function attempt(path: string, body: object): Promise<void> {
  try {
    await transport().post(path, body);
  } catch (error) {
    tell(error);
  }
}
