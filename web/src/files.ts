import type { InputFile } from '../../src/contracts/task.ts'

/** A file chosen for the workspace, with its path there. */
export interface ChosenFile {
  path: string
  file: File
}

/** Reads a file as base64. */
function toBase64(file: File): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader()
    reader.addEventListener('load', () => {
      const url = String(reader.result)
      resolve(url.slice(url.indexOf(',') + 1))
    })
    reader.addEventListener('error', () => reject(new Error(`${file.name} cannot be read.`)))
    reader.readAsDataURL(file)
  })
}

/** Reads all chosen files, one after the other: together they may not fit twice in memory. */
export async function readAll(chosen: readonly ChosenFile[]): Promise<InputFile[]> {
  const files: InputFile[] = []
  for (const { path, file } of chosen) files.push({ path, contentBase64: await toBase64(file) })
  return files
}

function readFile(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((resolve, reject) => entry.file(resolve, reject))
}

/** A folder's entries come in batches; an empty batch is the end. */
async function readFolder(entry: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = entry.createReader()
  const entries: FileSystemEntry[] = []
  for (;;) {
    const batch = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject))
    if (batch.length === 0) return entries
    entries.push(...batch)
  }
}

async function walk(entry: FileSystemEntry): Promise<ChosenFile[]> {
  const path = entry.fullPath.replace(/^\/+/, '')
  if (entry.isFile) return [{ path, file: await readFile(entry as FileSystemFileEntry) }]
  if (!entry.isDirectory) return []
  const inside = await readFolder(entry as FileSystemDirectoryEntry)
  return (await Promise.all(inside.map(walk))).flat()
}

/** All files that were dropped, those in folders with their path. Call it in the drop event: its data is gone later. */
export async function droppedFiles(transfer: DataTransfer): Promise<ChosenFile[]> {
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry()).filter((entry) => entry !== null)
  if (entries.length > 0) return (await Promise.all(entries.map(walk))).flat()
  return Array.from(transfer.files, (file) => ({ path: file.name, file }))
}
