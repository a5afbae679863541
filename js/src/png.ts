/** Writes PNG files. A canvas cannot: it forgets the colours of pixels that are transparent. */

const CHUNK = 64; // rows that are prepared at a time
const TABLE = Uint32Array.from({ length: 256 }, (_, number) => {
  let value = number;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/** Return a picture as PNG; `pixels` has red, green, blue and alpha of each, row by row. */
export async function encodePNG(
  pixels: Uint8ClampedArray,
  width: number,
  height: number,
): Promise<Blob> {
  const head = new Uint8Array(13);
  const view = new DataView(head.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  head.set([8, 6], 8); // 8 bits, with alpha
  const parts: BlobPart[] = [Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)];
  parts.push(...chunk("IHDR", head));
  const packed = rows(pixels, width, height).pipeThrough(new CompressionStream("deflate"));
  const content = new Uint8Array(await new Response(packed).arrayBuffer());
  parts.push(...chunk("IDAT", content), ...chunk("IEND", new Uint8Array(0)));
  return new Blob(parts, { type: "image/png" });
}

/** The rows, each byte as the difference to that of the pixel at its left, which is packed better. */
function rows(
  pixels: Uint8ClampedArray,
  width: number,
  height: number,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const length = width * 4;
  let row = 0;
  return new ReadableStream({
    pull(controller) {
      const count = Math.min(CHUNK, height - row);
      const made = new Uint8Array(count * (length + 1));
      for (let place = 0; place < count; place += 1, row += 1) {
        const [from, to] = [row * length, place * (length + 1)];
        made[to] = 1; // the filter Sub
        for (let at = 0; at < length; at += 1) {
          const left = at < 4 ? 0 : (pixels[from + at - 4] ?? 0);
          made[to + 1 + at] = (pixels[from + at] ?? 0) - left;
        }
      }
      controller.enqueue(made);
      if (row >= height) controller.close();
    },
  });
}

function chunk(name: string, content: Uint8Array<ArrayBuffer>): BlobPart[] {
  const head = new Uint8Array(8);
  new DataView(head.buffer).setUint32(0, content.length);
  head.set(
    [...name].map((letter) => letter.charCodeAt(0)),
    4,
  );
  let sum = 0xffffffff;
  for (const part of [head.subarray(4), content]) {
    for (const byte of part) sum = (TABLE[(sum ^ byte) & 0xff] ?? 0) ^ (sum >>> 8);
  }
  const tail = new Uint8Array(4);
  new DataView(tail.buffer).setUint32(0, (sum ^ 0xffffffff) >>> 0);
  return [head, content, tail];
}
