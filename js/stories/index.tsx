/** Shows the states of components with recorded answers: `make panels` opens this page. */

import { type ComponentType, render } from "preact";
import css from "../../comfydeploy_jupyter/widgets/static/panel.css";
import { iconStyle } from "../src/icons.ts";
import { panels } from "./panels.tsx";
import { results } from "./results.tsx";

const STORIES: Record<string, ComponentType> = { ...panels, ...results };

const query = new URLSearchParams(location.search);
const chosen = query.get("story") ?? Object.keys(STORIES)[0] ?? "";
const isDark = query.get("theme") === "dark";
const DARK = `
  body { background: #111; color: #ddd; }
  :root { --jp-ui-font-color1: rgba(255,255,255,.9); --jp-ui-font-color2: rgba(255,255,255,.65);
    --jp-layout-color1: #111; --jp-layout-color2: #262626; --jp-border-color2: #333;
    --jp-border-color1: #555; --jp-brand-color1: #42a5f5; --jp-error-color1: #ef5350; }`;
const PAGE =
  "body { margin: 8px; font-family: sans-serif } nav { display: flex; flex-wrap: wrap; gap: 8px }";

document.documentElement.dataset.jpThemeLight = String(!isDark);
const Story = STORIES[chosen];
const link = (story: string, theme: string, text: string) => (
  <a key={text} href={`?${new URLSearchParams({ story, theme })}`}>
    {text}
  </a>
);
const theme = isDark ? "dark" : "light";
render(
  <>
    <style>{PAGE + (isDark ? DARK : "") + css + iconStyle}</style>
    {!query.has("bare") && (
      <nav>
        {Object.keys(STORIES).map((story) => link(story, theme, story))}
        {link(chosen, isDark ? "light" : "dark", "Other theme")}
      </nav>
    )}
    {Story && chosen in panels ? (
      <Story />
    ) : (
      <div class="comfydeploy-panel cd-wide">
        <div class="comfydeploy-view">{Story && <Story />}</div>
      </div>
    )}
  </>,
  document.body,
);
