/**
 * What JupyterLab and Notebook load: a container of module federation, without the packages that
 * they share.
 */

import { pageConfig } from "../src/server.ts";

type Module = Record<string, unknown>;

/** A version of a package that the page or another extension has. */
type Version = { get(): Promise<() => Module>; loaded?: number | boolean };
type Scope = Record<string, Record<string, Version>>;

/** The names of the packages that the extension uses, and what they export; the build makes both. */
declare const NEEDED: string[];
declare const SHARED: Record<string, Module>;

const OLDEST = { lab: [4, 2], notebook: [7, 2] };

let scope: Scope = {};

/** Compare two versions of a package. */
function compare(one: string, other: string): number {
  return one.localeCompare(other, "en", { numeric: true });
}

/** Return the version that all extensions use: the one that was loaded first, else the newest. */
function shared(name: string): Version {
  const versions = Object.entries(scope[name] ?? {});
  const [newest] = versions.sort(
    ([one, { loaded }], [other, { loaded: isLoaded }]) =>
      Number(Boolean(isLoaded)) - Number(Boolean(loaded)) || compare(other, one),
  );
  if (!newest) throw new Error(`comfydeploy-jupyter needs ${name}, which this page does not share`);
  return newest[1];
}

/** Whether the page is of a version that the extension knows. */
function isKnown(): boolean {
  const { appName = "", appVersion = "" } = pageConfig();
  const [major = 0, minor = 0] = /notebook/i.test(appName) ? OLDEST.notebook : OLDEST.lab;
  const [found = 0, below = 0] = appVersion.split(".").map(Number);
  return !appVersion || found > major || (found === major && below >= minor);
}

const container = {
  init(given: Scope) {
    scope = given;
  },
  async get(): Promise<() => Module> {
    if (!isKnown()) return () => ({ __esModule: true, default: [] });
    await Promise.all(
      NEEDED.map(async (name) => {
        const version = shared(name);
        version.loaded = 1;
        SHARED[name] = (await version.get())();
      }),
    );
    const { plugins } = await import("./index.ts");
    return () => ({ __esModule: true, default: plugins });
  },
};

const page = globalThis as { _JUPYTERLAB?: Record<string, typeof container> };
page._JUPYTERLAB ??= {};
page._JUPYTERLAB["comfydeploy-jupyter"] = container;
