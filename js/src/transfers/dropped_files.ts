/** The files that were dropped, including those in dropped folders. */

/** A file that was chosen or dropped, and the folder that contained it. */
export type ChosenFile = { file: File; folder: string };

/** Return the files. Call it in the handler of the event: afterwards they cannot be read. */
export async function droppedFiles(transfer: DataTransfer): Promise<ChosenFile[]> {
  const entries = [...transfer.items]
    .filter((item) => item.kind === "file")
    .map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found: ChosenFile[] = [];
  for (const entry of entries) await collect(entry, "", found);
  return found;
}

async function collect(
  entry: FileSystemEntry | File | null,
  folder: string,
  found: ChosenFile[],
): Promise<void> {
  if (!entry) return;
  if (entry instanceof File) {
    found.push({ file: entry, folder });
  } else if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) =>
      (entry as FileSystemFileEntry).file(resolve, reject),
    );
    found.push({ file, folder });
  } else {
    const inner = folder ? `${folder}/${entry.name}` : entry.name;
    const reader = (entry as FileSystemDirectoryEntry).createReader();
    for (;;) {
      const some = await new Promise<FileSystemEntry[]>((resolve, reject) =>
        reader.readEntries(resolve, reject),
      );
      if (some.length === 0) break;
      for (const child of some) await collect(child, inner, found);
    }
  }
}
