/** The states of all panels, each with the answers of a server. */

import type { ComponentType } from "preact";
import { Drawn } from "../src/components/ui.tsx";
import { mountAlone } from "../src/panels/index.tsx";
import { type Answer, card, details, output, Recorded, serverOf } from "../test/recorded.ts";
import { picture, sized } from "./pictures.ts";

const SEED = "18446744073709551615";

/** A server whose streams say what a story gives, and then stay open. */
class Server extends Recorded {
  constructor(
    answers: Record<string, Answer>,
    private readonly said: object[] = [],
  ) {
    super(answers);
  }

  protected override async *texts(): AsyncGenerator<string> {
    for (const message of this.said) yield `data: ${JSON.stringify(message)}\n\n`;
    await new Promise(() => {});
  }
}

// -- a form ----------------------------------------------------------------------------------------

type More = Record<string, unknown>;

const row = (key: string, label: string, kind: string, original: unknown, more: More = {}) => {
  const [node = "", input = ""] = key.split(/\.(.*)/);
  return {
    ...{ key, keys: [key], names: [key], node, input, label, kind, original, choices: null },
    ...{ section: null, more: false, hint: "", required: false, may_be_empty: true, row: null },
    ...{ dynamic: false, remote: "", edit: null, width: null, choosable: true, slider: false },
    ...{ min: null, max: null, least: null, most: null, step: null, range: "", tooltip: "" },
    ...more,
  };
};
const within = (key: string, title: string, label: string) => ({
  section: { id: Number(key.split(".")[0]), title },
  parts: [`${title}: `, label, ""],
});
const sampler = (name: string, kind: string, original: unknown, more: More = {}) =>
  row(`3.${name}`, `Sampler: ${name}`, kind, original, {
    ...within("3", "Sampler", name),
    ...more,
  });
const ROWS = [
  row("6.text", "Positive prompt", "multiline", "A fox in the snow, late light"),
  row("7.text", "Negative prompt", "multiline", "blurry"),
  row("4.image", "Load Image: image", "image", "photo 800x600.png", { choices: 1 }),
  row("5.width", "Canvas: width", "int", "1024", {
    ...{ min: 16, max: 16384, least: "16", most: "16384", step: 8, range: "16 to 16384 pixels" },
    ...within("5", "Canvas", "width"),
  }),
  row("5.height", "Canvas: height", "int", "768", {
    ...{ min: 16, max: 16384, least: "16", most: "16384", step: 8, width: "5.width" },
    ...within("5", "Canvas", "height"),
  }),
  sampler("seed", "seed", SEED, { least: "0", most: SEED }),
  sampler("steps", "int", "20", {
    min: 1,
    max: 150,
    slider: true,
    least: "1",
    most: "150",
    step: 1,
  }),
  sampler("sampler_name", "combo", "euler", { choices: 0 }),
  sampler("tiled", "bool", false),
  row("8.color", "Background: color", "color", "#f06fa0"),
  row("9.loras.0.name", "LoRAs: name", "combo", "film.safetensors", {
    ...{ choices: 2, row: { group: "9.loras", place: 0, index: 0, title: "LoRA #1" } },
  }),
  row("9.loras", "LoRAs", "group", null, {
    ...{
      rows: [{ name: "film.safetensors" }],
      least: 0,
      most: 4,
      can_grow: true,
      can_shrink: true,
    },
    ...{ hint: "1 row", next: {}, last: [], choosable: false },
  }),
  row("3.denoise", "Sampler: denoise", "float", "1.0", { more: true, least: "0", most: "1" }),
  row("11.name", "Save: filename prefix", "text", "fox", { more: true }),
];
const CHOICES = [
  ["euler", "ddim", "dpm_2", "heun", "lms", "uni_pc", "ipndm", "deis", "res"],
  ["photo 800x600.png", "other 640x480.png"],
  ["film.safetensors", "ink.safetensors"],
];

function form(more: More = {}, rows: ReturnType<typeof row>[] = ROWS): Answer {
  return ({ body }) => {
    const given = (body as { inputs?: More }).inputs ?? {};
    const valued = rows.filter(({ kind }) => kind !== "group");
    const own = Object.fromEntries(valued.map(({ key, original }) => [key, original]));
    return {
      ...{ title: "Fox", rows, choices: CHOICES, values: { ...own, ...given }, given, others: {} },
      ...{ unlocked: [], outputs: [], structure: "0", problems: {}, unknown: {}, untold: [] },
      ...{ price: "", notes: [], defined: true },
      ...more,
    };
  };
}

// -- RunPanel --------------------------------------------------------------------------------------

const READY = {
  reachable: true,
  state: "ready",
  version: "0.46.0",
  managed: true,
  version_note: null,
};
const STATUS = {
  comfyui: READY,
  queue: { running: 0, pending: 0 },
  uploads: { pending_uploads: 0 },
  tunnel: { running: false, protected: true, state: "stopped", error: null },
  store: { warnings: [] },
};
const FOUND = { offline: false, models: [], missing_nodes: [], warnings: [], transfers: [] };
const PACKS = {
  machine: "local",
  packs: [],
  others: [],
  managed: true,
  manager: "3.37",
  offline: false,
};
const RESULT = details({
  prompt_id: "p3",
  outputs: [output("9", { title: "Save", files: [sized("fox 1024x768.png")] })],
});
const STORED = [
  {
    id: "w",
    name: "Fox",
    latest_version: 3,
    updated_at: "2026-11-29T10:00:00Z",
    tags: ["animals"],
  },
  { id: "x", name: "<b>Harbour</b> at dawn", latest_version: 1, updated_at: null, tags: [] },
];
const cards = [3, 2, 1].map((number) =>
  card(number, { pictures: [sized(`run ${number} 640x480.png`)] }),
);
const BASE: Record<string, Answer> = {
  ...serverOf(cards),
  view: picture,
  "check-status": ({ query }) =>
    query.prompt_id ? { prompt_id: query.prompt_id, status: "success" } : STATUS,
  workflows: () => STORED,
  "workflow/files": () => [{ filename: "/home/me/sunset.json", title: "sunset.json" }],
  "editor/workflows": () => [],
  "workflow/templates": () => [
    {
      type: "example",
      filename: "A sunset",
      title: "A sunset",
      group: "Examples",
      description: "",
    },
    { type: "template", filename: "t/flux.json", title: "Flux", group: "Image", description: "" },
  ],
  "workflow/form": form(),
  "workflow/presets": () => [{ name: "Softer", inputs: {}, locked: [], revision: "1" }],
  "workflow/fetch-models": () => FOUND,
  "workflow/install-packs": () => PACKS,
  "upload-queue-status": () => ({ uploads: [] }),
  "comfy-account": () => ({ source: null, email: null, problem: null }),
  runs: () => [],
  "runs/details": () => RESULT,
};

type State = {
  answers?: Record<string, Answer>;
  traits?: More;
  said?: object[];
  act?: (el: HTMLElement) => void;
};

/** A panel in a state; `act` does what a user does, as soon as there is a form or a tab. */
const panel = (component: string, traits: More, { answers, traits: more, said, act }: State = {}) =>
  function Story() {
    return (
      <Drawn
        draw={(el) => {
          const server = new Server({ ...BASE, ...answers }, said);
          const { end } = mountAlone(component, el, server, { ...traits, ...more });
          const timer = setInterval(() => {
            if (!el.querySelector(".cd-field, [role=tab]")) return;
            clearInterval(timer);
            if (act) setTimeout(() => act(el), 300);
          }, 50);
          return () => {
            clearInterval(timer);
            end();
          };
        }}
      />
    );
  };
const press = (name: string) => (el: HTMLElement) => {
  const all = [...el.querySelectorAll<HTMLElement>("button, summary, [role=tab]")];
  all.find((each) => [each.textContent?.trim(), each.title].includes(name))?.click();
};
const fill = (selector: string, text: string) => (el: HTMLElement) => {
  const field = el.querySelector<HTMLInputElement>(selector);
  if (field) field.value = text;
  field?.dispatchEvent(new Event("input", { bubbles: true }));
};
const FOX = {
  title: "Fox",
  source: { workflow_id: "w", version: 3 },
  warnings: [],
  key: "stored:w",
};
const RUN = {
  ...{ shown_workflow: FOX, directory: "/home/me", values: {}, locked: null, machine: null },
  ...{ queued: [], runs: [], result: null, batch: "" },
};
const runPanel = (state: State = {}) => panel("RunPanel", RUN, state);
const running = (live: More, said: object[]): State => ({
  traits: { queued: ["p9"] },
  answers: {
    "check-status": ({ query }) =>
      query.prompt_id
        ? { prompt_id: "p9", created_at: new Date(Date.now() - 42_000).toISOString(), ...live }
        : STATUS,
    interrupt: () => ({}),
  },
  said,
});
const model = (name: string, more: More) => ({
  ...{ name, folder: "checkpoints", url: `https://huggingface.co/a/b/resolve/main/${name}` },
  ...{ path: `models/checkpoints/${name}`, size: 6_938_040_682, sha256: null, pickle: false },
  ...{ problem: null, transfer: null, nodes: [], state: "missing", ...more },
});

// -- the other panels ------------------------------------------------------------------------------

const machine = (id: string, more: More = {}) => ({
  ...{ id, name: id, kind: "local", status: "ready", error: null, ...more },
});
const gpu = (used: number) => ({
  ...{ name: "NVIDIA H100", percent: 87, memory: { total: 80 * 2 ** 30, used: used * 2 ** 30 } },
});
const machines = (found: More[], more: More = {}, used = 40): State => ({
  answers: {
    machines: () => found,
    "check-status": () => ({ ...STATUS, ...more }),
    machine: () => ({
      hardware: {
        cpu: { percent: 12, cores: 16 },
        memory: { total: 128 * 2 ** 30, used: 30 * 2 ** 30 },
        gpus: [gpu(used)],
        disks: [{ path: "/data", total: 2 ** 40, used: 0.95 * 2 ** 40, free: 0.05 * 2 ** 40 }],
      },
    }),
  },
});
const COMFYDEPLOY = {};
const WORKFLOWS = {
  ...{
    workflow_id: "w",
    version: 3,
    source: {},
    title: "Fox",
    values: {},
    search_text: "",
    tab: "Nodes",
  },
  ...{ cloud: false, directory: "/home/me", format: "api", validation: null, runs_elsewhere: true },
  run_requests: 0,
};
const nodes = ["Load Checkpoint", "Positive", "Sampler"].map((title, place) => ({
  ...{ id: String(place), title, class_type: title.replace(/ /g, ""), inputs: "steps=20, cfg=8.0" },
}));
const box = (id: number) => ({
  ...{ id: String(id), title: `Node ${id}`, kind: "Node", box: [260 * id, 40 * id, 200, 90] },
  ...{ ins: id ? ["model"] : [], outs: ["MODEL"], color: "", mode: "", subgraph: "" },
});
const drawn = {
  ...{ name: "", nodes: [box(0), box(1), box(2)], groups: [], left_out: 0 },
  links: [
    ["0", 0, "1", 0, "MODEL"],
    ["1", 0, "2", 0, "MODEL"],
  ],
};
const workflowPanel = (
  traits: More = {},
  answers: Record<string, Answer> = {},
  act?: State["act"],
) =>
  panel("WorkflowPanel", WORKFLOWS, {
    traits,
    answers: {
      "workflow/versions": () => [
        { version: 3, comment: "wider", created_at: "2026-11-29T10:00:00Z" },
        { version: 2, comment: "", created_at: "2026-11-28T10:00:00Z" },
      ],
      "workflow/outline": () => ({
        ...{ title: "Fox", nodes, picture: { graph: drawn, subgraphs: {} }, warnings: [] },
      }),
      "workflow/diff": () => ({ text: "Sampler: steps 20 → 30", changes: [] }),
      ...answers,
    },
    ...(act && { act }),
  });
const UPLOADS = {
  ...{ place: "input", subfolder: "", overwrite: false, machine: null, choose_machine: true },
  ...{ uploads: [], followed: {}, rows: [], refreshed: 0 },
};
const transfer = (id: string, state: string, more: More = {}) => ({
  ...{ id, filename: `${id}.safetensors`, direction: "down", state, size: 6_938_040_682 },
  ...{ sent: 2_300_000_000, error: null, ...more },
});
const uploadPanel = (transfers: More[], act?: State["act"]) =>
  panel("UploadPanel", UPLOADS, {
    answers: {
      machines: () => [machine("local"), machine("gpu-2", { kind: "remote" })],
      models: ({ query }) => (query.format === "folders" ? { checkpoints: [], loras: [] } : []),
      "upload-queue-status": () => ({ uploads: transfers }),
    },
    ...(act && { act }),
  });
const tunnel = (more: More) =>
  panel(
    "TunnelPanel",
    { target: "comfyui", url: "", machine: null },
    {
      answers: {
        "tunnel/status": () => ({
          ...{ running: false, state: "stopped", target: "comfyui", url: null, access_url: null },
          ...{ port: 8188, protection: "gate", error: null, hint: null, details: {}, ...more },
        }),
      },
    },
  );
const account = (found: More | null) =>
  panel("AccountPanel", {}, found ? { answers: { "comfy-account": () => found } } : {});

export const panels: Record<string, ComponentType> = {
  "run: nothing open": runPanel({ traits: { shown_workflow: null } }),
  "run: a form": runPanel({ answers: { ...serverOf([]) } }),
  "run: with the last result": runPanel(),
  "run: changed values": runPanel({
    traits: { values: { "3.steps": "35", "8.color": "#00ff00" } },
  }),
  "run: more inputs": runPanel({ act: press("More inputs (2)") }),
  "run: seeds for each run": runPanel({ traits: { locked: [] } }),
  "run: three equal runs": runPanel({ act: fill(".cd-times input", "3") }),
  "run: wrong number of runs": runPanel({
    act: (el) => {
      fill(".cd-times input", "300")(el);
      setTimeout(() => press("Run")(el));
    },
  }),
  "run: a wrong value": runPanel({
    traits: { values: { "3.steps": "many" } },
    act: press("Run the workflow with these values (Ctrl+Enter)"),
  }),
  "run: presets": runPanel({
    traits: { values: { "3.steps": "35" } },
    act: (el) => {
      el.querySelector<HTMLElement>(".comfydeploy-presets input")?.focus();
      fill(".comfydeploy-presets input", "So")(el);
    },
  }),
  "run: notes": runPanel({
    answers: {
      "workflow/form": form({
        price: "Partner nodes: $0.06",
        notes: [
          {
            about: "names",
            title: "Some values are saved differently by position and by name",
            texts: [
              "node Sampler: steps is 20 by position, 30 by name; the one by position is used",
            ],
          },
          {
            about: "types",
            title: "Some values do not fit their inputs",
            texts: ["cfg must be a number"],
          },
        ],
      }),
    },
  }),
  "run: actions": runPanel({ act: press("More actions") }),
  "run: choose inputs": runPanel({
    act: (el) => {
      press("More actions")(el);
      setTimeout(() => press("Choose inputs …")(el), 50);
    },
  }),
  "run: missing models and packs": runPanel({
    answers: {
      "workflow/fetch-models": () => ({
        ...FOUND,
        missing_nodes: [{ class_type: "FilmGrain", pack: "film-grain" }],
        models: [
          model("sdxl.safetensors", {}),
          model("vae.safetensors", { state: "fetching", transfer: "t1", folder: "vae" }),
          model("mine.ckpt", { state: "no_link", url: null, size: null, pickle: true }),
        ],
      }),
      "upload-queue-status": () => ({ uploads: [transfer("t1", "active")] }),
      "workflow/install-packs": () => ({
        ...PACKS,
        packs: [
          {
            pack: "film-grain",
            title: "Film Grain",
            url: "https://github.com/a/b",
            classes: ["FilmGrain"],
            state: "missing",
            problem: null,
          },
        ],
      }),
      "workflow/form": form({
        problems: { "4.image": "photo.png is not in the input folder of this ComfyUI" },
      }),
    },
  }),
  "run: ComfyUI is down": runPanel({
    answers: {
      "check-status": () => ({
        ...STATUS,
        comfyui: {
          ...READY,
          reachable: false,
          state: "backoff",
          restarts: 2,
          error: "exit status 137",
          hint: "It ran out of memory.",
        },
      }),
      "workflow/form": form({ defined: false }),
    },
  }),
  "run: waiting": runPanel(running({ status: "queued", queue_position: 4 }, [])),
  "run: running": runPanel(
    running({ status: "running", progress: 0.4, live_status: "Executing Sampler" }, [
      { event: "execution_start", data: {} },
      { event: "executing", data: { node: "3" } },
      { event: "progress", data: { value: 8, max: 20 } },
      {
        event: "live_status",
        data: {
          progress: 0.4,
          live_status: "Executing Sampler",
          current_class: "KSampler",
          time_left: 31,
        },
      },
    ]),
  ),
  "run: cancel?": runPanel({
    ...running({ status: "running", progress: 0.4 }, []),
    act: (el) => el.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true })),
  }),
  "run: being cancelled": runPanel({
    ...running({ status: "running", progress: 0.4, live_status: "Executing Sampler" }, []),
    act: press("Cancel the run that is shown"),
  }),
  "run: a failed run": runPanel({
    answers: {
      "runs/details": () =>
        details({
          prompt_id: "p3",
          status: "failed",
          why: "node Sampler (KSampler) failed: OutOfMemoryError",
          traceback: "File nodes.py",
          no_memory: true,
        }),
    },
  }),
  "run: no form": runPanel({
    answers: {
      "workflow/form": () => ({
        status: 404,
        message: "There is no workflow w",
        code: "not_found",
      }),
    },
  }),
  "run: signed out": runPanel({
    answers: {
      "workflow/form": () => ({
        status: 401,
        message: "Sign in",
        code: "",
        details: { reason: "login" },
      }),
    },
  }),
  "run: Python reports an error": runPanel({
    traits: { error: "InvalidRequestError: workflow: none is open" },
  }),
  "machine: ready": panel("ComfyDeployPanel", COMFYDEPLOY, machines([machine("local")])),
  "machine: memory is full": panel(
    "ComfyDeployPanel",
    COMFYDEPLOY,
    machines([machine("local")], {}, 79),
  ),
  "machine: is down": panel(
    "ComfyDeployPanel",
    COMFYDEPLOY,
    machines([machine("local", { status: "backoff", error: "exit status 137" })], {
      comfyui: {
        ...READY,
        reachable: false,
        state: "backoff",
        error: "exit status 137",
        hint: "It ran out of memory.",
      },
    }),
  ),
  "machine: a pool": panel(
    "ComfyDeployPanel",
    COMFYDEPLOY,
    machines([
      machine("pool", {
        kind: "pool",
        members: ["gpu-1", "gpu-2"].map((id, place) => ({
          ...{ id, name: id, status: place ? "paused" : "ready", version: "0.46.0", gpu: "H100" },
          ...{ error: null, run: place ? null : "p9", queue: 2, models: ["sdxl.safetensors"] },
        })),
      }),
      machine("local"),
    ]),
  ),
  "workflows: nodes": workflowPanel(),
  "workflows: compare": workflowPanel({ tab: "Compare" }),
  "workflows: save": workflowPanel({ tab: "Save" }),
  "workflows: export": workflowPanel({ tab: "Export" }),
  "workflows: run": workflowPanel({ tab: "Run", runs_elsewhere: false }),
  "workflows: none open": workflowPanel({ workflow_id: "", version: null, title: "" }),
  "uploads: nothing": uploadPanel([]),
  "uploads: transfers": uploadPanel([
    transfer("sdxl", "active"),
    transfer("flux", "retrying", { error: "Connection reset" }),
    transfer("vae", "failed", { error: "The disk is full" }),
  ]),
  "uploads: models": uploadPanel([], press("Models")),
  "tunnel: stopped": tunnel({}),
  "tunnel: starting": tunnel({ state: "starting" }),
  "tunnel: running": tunnel({
    ...{ running: true, state: "running", url: "https://a-b.trycloudflare.com" },
    access_url: "https://a-b.trycloudflare.com/?secret=abc",
  }),
  "tunnel: not protected": tunnel({
    running: true,
    state: "running",
    protection: "none",
    url: "https://a-b.trycloudflare.com",
    access_url: "https://a-b.trycloudflare.com",
  }),
  "tunnel: failed": tunnel({
    error: "cloudflared is not installed",
    details: { can_download: true, log: ["no"] },
  }),
  "account: none": account(null),
  "account: signed in": account({ source: "signed-in", email: "me@example.org", problem: null }),
  "a server of another version": panel("RunPanel", RUN, {
    answers: { "workflow/form": () => ({}), workflows: () => ({}), "runs/cards": () => null },
  }),
};
