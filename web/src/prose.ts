/** A piece of running text. */
export interface Span {
  kind: 'plain' | 'code' | 'strong'
  text: string
}

/** A paragraph, heading, or block of code. */
export type Piece = { kind: 'paragraph' | 'heading'; spans: Span[] } | { kind: 'code'; text: string; language: string }

const INLINE = /`([^`\n]+)`|\*\*([^*\n]+)\*\*/g

/** Splits a line of text at inline code and strong words. */
function spans(text: string): Span[] {
  const found: Span[] = []
  let from = 0
  for (const match of text.matchAll(INLINE)) {
    if (match.index > from) found.push({ kind: 'plain', text: text.slice(from, match.index) })
    const [whole, code, strong] = match
    found.push(code === undefined ? { kind: 'strong', text: strong ?? '' } : { kind: 'code', text: code })
    from = match.index + whole.length
  }
  if (from < text.length) found.push({ kind: 'plain', text: text.slice(from) })
  return found
}

/**
 * The little of Markdown that makes an agent's words easier to read: fenced code, headings, inline code, strong words.
 * Everything else stays as written; nothing becomes a link or markup.
 */
export function parseProse(text: string): Piece[] {
  const pieces: Piece[] = []
  let paragraph: string[] = []
  let fence: { lines: string[]; language: string } | undefined
  const endParagraph = () => {
    const body = paragraph.join('\n').replace(/^\n+|\n+$/g, '')
    if (body !== '') pieces.push({ kind: 'paragraph', spans: spans(body) })
    paragraph = []
  }
  const endFence = () => {
    if (fence) pieces.push({ kind: 'code', text: fence.lines.join('\n'), language: fence.language })
    fence = undefined
  }
  for (const line of text.split('\n')) {
    const mark = /^\s{0,3}```\s*([\w+#.-]{0,30})/.exec(line)
    if (fence) {
      if (mark) endFence()
      else fence.lines.push(line)
      continue
    }
    if (mark) {
      endParagraph()
      fence = { lines: [], language: mark[1] ?? '' }
      continue
    }
    const heading = /^#{1,4} (.+)$/.exec(line)
    if (heading) {
      endParagraph()
      pieces.push({ kind: 'heading', spans: spans(heading[1] ?? '') })
    } else if (line.trim() === '') endParagraph()
    else paragraph.push(line)
  }
  endFence()
  endParagraph()
  return pieces
}
