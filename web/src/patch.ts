/** A line of a git patch and what it is. */
export interface PatchLine {
  kind: 'file' | 'hunk' | 'added' | 'removed' | 'same'
  text: string
}

const MAX_LINES = 5000

/** Header lines of a file's part that repeat what its first line says. */
const NOISE = /^(index |--- |\+\+\+ |old mode |similarity index )/

function kindOf(line: string): PatchLine['kind'] {
  if (line.startsWith('@@')) return 'hunk'
  if (line.startsWith('+')) return 'added'
  return line.startsWith('-') ? 'removed' : 'same'
}

/** The name of the file that a `diff --git` line begins with; both sides are the same but for renames. */
function fileOf(line: string): string {
  const [, before, after] = /^diff --git a\/(.+) b\/(.+)$/.exec(line) ?? []
  if (before === undefined || after === undefined) return line
  return before === after ? before : `${before} → ${after}`
}

/** Splits a git patch into lines to show, at most MAX_LINES; `left` is how many more there are. */
export function parsePatch(text: string): { lines: PatchLine[]; left: number } {
  const all = text.replace(/\n$/, '').split('\n')
  const lines: PatchLine[] = []
  let inHeader = false
  let taken = 0
  for (const line of all) {
    if (lines.length === MAX_LINES) break
    taken++
    if (line.startsWith('diff --git ')) {
      inHeader = true
      lines.push({ kind: 'file', text: fileOf(line) })
      continue
    }
    const kind = kindOf(line)
    if (kind === 'hunk') inHeader = false
    if (!inHeader) lines.push({ kind, text: line })
    else if (!NOISE.test(line)) lines.push({ kind: 'same', text: line })
  }
  return { lines, left: all.length - taken }
}
