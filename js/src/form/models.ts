/** What is known of the models that a field offers. */

import { listOf, type Transport } from "../transport.ts";
import type { ModelFacts } from "./field.ts";

const SIDE = 96; // pixels of a small copy

type Entry = { name: string; size: number | null; preview: boolean | null };

export async function modelsOf(
  transport: Transport,
  folder: string,
  machine: string | null,
): Promise<Map<string, ModelFacts>> {
  const found = listOf(await transport.get<Entry[]>("models", { folder, machine }));
  return new Map(
    found.map(({ name, size, preview }) => {
      const query = { folder, filename: name, machine, thumbnail: SIDE };
      const picture = () => transport.content("models/preview", { query });
      // a ComfyUI elsewhere does not say which models have one
      return [name, { size, picture: preview === false ? undefined : picture }];
    }),
  );
}
