/** The states of results and history. */

import { signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { Gallery } from "../src/components/gallery.tsx";
import { History } from "../src/components/history.tsx";
import { Preview } from "../src/components/preview.tsx";
import { Proof } from "../src/components/proof.tsx";
import { mediaOf } from "../src/media.tsx";
import { BatchPanel } from "../src/panels/batch.tsx";
import { type RunDetails, sizeText } from "../src/shown_runs.ts";
import { localTraits } from "../src/state/traits.ts";
import { paintMask } from "../src/viewers/mask_painter.tsx";
import {
  batchServer,
  card,
  details,
  file,
  output,
  RECORD,
  Recorded,
  serverOf,
} from "../test/recorded.ts";
import { picture, sized } from "./pictures.ts";

const cardOf = (_: unknown, number: number) =>
  card(100_000 - number, {
    created_at: new Date(Date.now() - number * 7 * 60_000).toISOString(),
    pictures:
      number % 7 === 3
        ? []
        : Array.from({ length: number % 4 === 2 ? 2 + (number % 5) : 1 }, (_, each) =>
            sized(`run ${100_000 - number}-${each} ${number % 3 ? "640x480" : "480x640"}.png`),
          ),
    ...(number % 7 === 3 && {
      status: number % 2 ? "failed" : "cancelled",
      why: number % 2 ? "node KSampler failed: RuntimeError: shapes cannot be multiplied" : "",
    }),
    ...(number % 5 === 1 && { metadata: { client: "acme" } }),
    pinned: number === 2,
    starred: number % 6 === 0,
    note: number === 0 ? "The best light so far" : "",
    inputs: ["6.text: a fox in the snow, late light", `3.steps: ${20 + (number % 9)}`],
  });
const server = (length = 3) =>
  new Recorded({
    ...serverOf(Array.from({ length }, cardOf)),
    view: picture,
    "comfyui/log": () => ({ lines: ["loaded", "failed"] }),
  });

const times = [
  { node: "3", title: "KSampler", class_type: "KSampler", seconds: 4.21 },
  { node: "8", title: "Decode", class_type: "VAEDecode", seconds: 0.42 },
];
const gallery = (more: Partial<RunDetails>, rest = {}) =>
  function Story() {
    return (
      <Gallery
        transport={server()}
        run={details({ times, ...more })}
        onReuse={() => "The values are in the form now."}
        {...rest}
      />
    );
  };
const many = Array.from({ length: 60 }, (_, number) => sized(`iteration ${number} 512x512.png`));

const DIFFERS = {
  state: "done",
  prompt_id: "r",
  verdict: "differs",
  differences: ["torch 2.13.0+cpu instead of 2.12.0+cpu"],
  outputs: [
    {
      node_id: "9",
      filename: "fox 640x480.png",
      verdict: "differs",
      reason: "",
      share: 0.25,
      before: sized("fox 640x480.png"),
      after: sized("fox again 640x480.png"),
    },
  ],
  notes: [],
};

export const results: Record<string, ComponentType> = {
  "one picture": gallery({ outputs: [output("9", { files: [sized("fox 1024x768.png")] })] }),
  "several nodes": gallery({
    cached: 3,
    outputs: [
      output("9", { title: "The final picture", files: [sized("final 832x1216.png")] }),
      output("12", {
        title: "Drafts",
        files: [1, 2, 3].map((n) => sized(`draft ${n} 640x360.png`)),
      }),
      output("14", {
        title: "Before and after",
        files: [sized("small 512x512.png"), sized("large 1024x1024.png")],
        pairs: [[0, 1]],
      }),
      output("15", {
        title: "Wide and high",
        files: [sized("wide 1200x400.png"), sized("high 400x900.png")],
        pairs: [[0, 1]],
      }),
      output("16", { title: "Caption", texts: ["A fox in the snow.", "word ".repeat(600)] }),
      output("17", {
        title: "Others",
        files: [
          file("scene.glb", { kind: "3d" }),
          file("data.bin", { kind: "file" }),
          file("gone.png"),
          file("sound.flac", { kind: "audio" }),
        ],
      }),
    ],
  }),
  "author's choice": gallery(
    {
      outputs: [
        output("9", { title: "Draft", files: [sized("draft 512x512.png")] }),
        output("12", {
          title: "Final",
          files: [sized("final 768x768.png"), sized("final 2 768x768.png")],
        }),
      ],
    },
    { chosen: ["12"] },
  ),
  "a loop": gallery({ outputs: [output("9", { title: "Save", files: many })] }),
  failed: gallery({
    status: "failed",
    seconds: 3.2,
    why: 'node "My sampler" (KSampler) failed: OutOfMemoryError: CUDA out of memory\n\nComfyUI ran out of memory.',
    traceback: "File nodes.py, line 1\n  sample()",
    no_memory: true,
    left_out: ['node "Load" (LoadImage): missing.png is not on this ComfyUI'],
    times: [],
  }),
  "earlier run": gallery(
    { outputs: [output("9", { files: [sized("fox 1024x768.png")] })] },
    { isEarlier: true },
  ),
  "large picture": gallery({
    outputs: [output("9", { files: [sized("huge 12000x9000.png"), sized("odd 3000x2000.png")] })],
  }),
  preview: () => (
    <Preview
      preview={{
        mime: "image/png",
        image:
          "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
      }}
    />
  ),
  "mask painter": () => {
    const transport = new Recorded({
      view: picture,
      "upload-file": ({ body }) => {
        Object.assign(globalThis, { uploaded: body });
        return { name: (body as File).name, subfolder: "clipspace" };
      },
    });
    const show = (host: HTMLElement | null) => {
      if (!host) return;
      paintMask(host, {
        ...{ media: mediaOf(transport), query: file("photo 800x600.png").query },
        ...{ name: "photo 800x600.png", machine: null },
        onDone: (value) => document.body.append(value),
        onClose: () => {},
      });
    };
    return <div ref={show} />;
  },
  batch: () => (
    <BatchPanel
      transport={new Recorded({ ...batchServer(), view: picture })}
      traits={localTraits({ batch: "b", summary: "", status: "" })}
      kernel={signal("none")}
    />
  ),
  "a batch that is made again": () => (
    <BatchPanel
      transport={
        new Recorded({
          ...batchServer({ state: "done", finished_at: "2026-11-29T10:00:00.000Z" }),
          view: picture,
          "batch/b/verify": ({ query }) => ({
            state: "running",
            why: "Waiting until gpus executes nothing",
            total: 4,
            counts: { identical: 2, differs: 1, cannot: 0 },
            differences: ["torch 2.13.0+cpu instead of 2.12.0+cpu"],
            points: query.verdict
              ? [{ point: 2, verdict: "differs", reason: "a.png differs: 2.00% of the pixels" }]
              : [],
          }),
        })
      }
      traits={localTraits({ batch: "b", summary: "", status: "" })}
      kernel={signal("none")}
    />
  ),
  "a run that differs": () => (
    <Proof
      transport={
        new Recorded({
          view: picture,
          "runs/p/record": () => RECORD,
          "runs/p/verify": () => DIFFERS,
          "runs/p/verify/difference": () =>
            picture({ method: "GET", path: "", body: null, query: { filename: "white 640x480" } }),
        })
      }
      promptId="p"
    />
  ),
  history: () => (
    <History
      transport={server(100_000)}
      structure="0"
      chosen="p99999"
      inputs={[["4.image", "Image"]]}
      onShow={() => {}}
      onReuse={(id) => `The values of ${id} are in the form now.`}
      onUse={(shown) => `${shown.name} ${sizeText(shown)} is the picture now.`}
    />
  ),
  "all results": () => <History transport={server(100_000)} isGallery />,
  "no history": () => <History transport={new Recorded(serverOf([]))} structure="0" />,
  "unreachable history": () => <History transport={new Recorded({})} structure="0" />,
};
