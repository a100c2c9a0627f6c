/** What a git patch changes: files (also binary and removed ones), and lines of text. */
export interface PatchStat {
  files: number
  added: number
  removed: number
}

/** All that is looked at of a line: a hunk's header fits. */
const PREFIX_CHARS = 120

const HUNK = /^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@/

/** Counts what a git patch changes, piece by piece: it may be large and end anywhere. */
export class PatchCounter {
  readonly stat: PatchStat = { files: 0, added: 0, removed: 0 }
  #prefix = ''
  /** Lines the present hunk still has on either side: what looks like a header within them is content. */
  #left = { before: 0, after: 0 }

  write(text: string): void {
    const parts = text.split('\n')
    for (const [index, part] of parts.entries()) {
      if (index > 0) this.#endLine()
      if (this.#prefix.length < PREFIX_CHARS) this.#prefix += part.slice(0, PREFIX_CHARS - this.#prefix.length)
    }
  }

  #endLine(): void {
    const line = this.#prefix
    this.#prefix = ''
    if (this.#left.before > 0 || this.#left.after > 0) return this.#count(line)
    if (line.startsWith('diff --git ')) this.stat.files += 1
    const [, before = '1', after = '1'] = HUNK.exec(line) ?? [undefined, '0', '0']
    this.#left = { before: Number(before), after: Number(after) }
  }

  #count(line: string): void {
    const added = line.startsWith('+')
    const removed = line.startsWith('-')
    if (added) this.stat.added += 1
    if (removed) this.stat.removed += 1
    // "\ No newline at end of file" is on neither side.
    if (line.startsWith('\\')) return
    if (!added) this.#left.before -= 1
    if (!removed) this.#left.after -= 1
  }
}
