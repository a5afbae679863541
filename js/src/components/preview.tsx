/** The sampler's preview of the run that is executed. */

import { useEffect, useState } from "preact/hooks";

/** A preview as an event of a run has it: its media type, and its content as base64. */
export type PreviewImage = { mime: string; image: string };

const SHOWN = /^image\/(jpeg|png|webp|gif|avif)$/;

export function Preview({ preview }: { preview: PreviewImage | null }) {
  const [url, setUrl] = useState("");
  useEffect(() => {
    if (!preview || !SHOWN.test(preview.mime)) return setUrl("");
    const bytes = Uint8Array.from(atob(preview.image), (character) => character.charCodeAt(0));
    const made = URL.createObjectURL(new Blob([bytes], { type: preview.mime }));
    setUrl(made);
    // The one before is shown until the next one is there.
    return () => setTimeout(() => URL.revokeObjectURL(made), 1000);
  }, [preview]);
  if (!preview || !url) return null;
  return (
    <div class="comfydeploy-view comfydeploy-preview">
      <img alt="Preview of the sampler" src={url} />
    </div>
  );
}
