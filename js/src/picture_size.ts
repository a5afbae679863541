/** Reads the size of a picture from the beginning of its file, before the browser decodes it. */

const HEAD = 256 * 1024; // bytes in which the size is; a JPEG may have a preview before it

/** Return width and height in pixels; null if the format is another one. */
export async function pictureSize(content: Blob): Promise<[number, number] | null> {
  const head = new DataView(await content.slice(0, HEAD).arrayBuffer());
  try {
    return sizeIn(head);
  } catch {
    return null; // it ends too early
  }
}

function sizeIn(head: DataView): [number, number] | null {
  const text = (at: number, length: number) =>
    String.fromCharCode(...new Uint8Array(head.buffer, at, length));
  if (head.getUint32(0) === 0x89504e47) return [head.getUint32(16), head.getUint32(20)];
  if (text(0, 3) === "GIF") return [head.getUint16(6, true), head.getUint16(8, true)];
  if (text(0, 2) === "BM") return [head.getInt32(18, true), Math.abs(head.getInt32(22, true))];
  if (head.getUint16(0) === 0xffd8) return ofJPEG(head);
  if (text(0, 4) === "RIFF" && text(8, 4) === "WEBP") {
    const kind = text(12, 4);
    if (kind === "VP8X") return [1 + uint24(head, 24), 1 + uint24(head, 27)];
    if (kind === "VP8 ") {
      return [head.getUint16(26, true) & 0x3fff, head.getUint16(28, true) & 0x3fff];
    }
    const bits = head.getUint32(21, true);
    return [1 + (bits & 0x3fff), 1 + ((bits >>> 14) & 0x3fff)];
  }
  return null;
}

function uint24(head: DataView, at: number): number {
  return head.getUint16(at, true) + head.getUint8(at + 2) * 0x10000;
}

/** Find the frame header of a JPEG, which is after other segments. */
function ofJPEG(head: DataView): [number, number] {
  for (let at = 2; ; ) {
    const marker = head.getUint8(at + 1);
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) return [head.getUint16(at + 7), head.getUint16(at + 5)];
    at += 2 + head.getUint16(at + 2);
  }
}
