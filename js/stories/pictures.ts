/** Pictures for stories, whose names say their sizes. */

import type { Answer } from "../test/recorded.ts";
import { file } from "../test/recorded.ts";

/** Draw a picture whose name says its size: `fox 640x480.png`. */
export async function picture({ query, method }: Parameters<Answer>[0]): Promise<unknown> {
  const name = String(query.filename);
  if (name.includes("gone"))
    return { status: 404, code: "not_found", message: `${name} is not there` };
  if (method === "HEAD") return {};
  const found = name.match(/(\d+)x(\d+)/);
  const [width, height] = [Number(found?.[1] ?? 512), Number(found?.[2] ?? 512)];
  const most = Number(query.thumbnail ?? 1e9);
  const scale = Math.min(1, most / Math.max(width, height));
  const canvas = new OffscreenCanvas(Math.round(width * scale), Math.round(height * scale));
  const context = canvas.getContext("2d");
  if (context) {
    const hue = [...name].reduce((sum, letter) => sum + letter.charCodeAt(0) * 7, 0) % 360;
    const paint = context.createLinearGradient(0, 0, canvas.width, canvas.height);
    paint.addColorStop(0, `hsl(${hue} 70% 60%)`);
    paint.addColorStop(1, `hsl(${(hue + 80) % 360} 70% 30%)`);
    context.fillStyle = paint;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = "#fff";
    context.font = `${Math.ceil(canvas.width / 12)}px sans-serif`;
    context.fillText(name.slice(0, 18), canvas.width * 0.06, canvas.height * 0.5);
    context.strokeStyle = "#fff";
    context.lineWidth = Math.max(1, canvas.width / 100);
    context.strokeRect(0, 0, canvas.width, canvas.height);
  }
  return canvas.convertToBlob({ type: "image/png" });
}

export const sized = (name: string) => {
  const [width = 0, height = 0] = (name.match(/\d+x\d+/)?.[0] ?? "").split("x").map(Number);
  return file(name, width ? { width, height } : {});
};
