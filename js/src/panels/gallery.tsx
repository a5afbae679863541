/** The results of all runs of all workflows, newest first. */

import { History } from "../components/history.tsx";
import type { Transport } from "../transport.ts";

export function GalleryPanel({ transport }: { transport: Transport }) {
  return <History transport={transport} isGallery />;
}
