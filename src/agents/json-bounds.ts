/**
 * Bounds on the structure of a line. `JSON.parse` checks neither time nor a worker's heap limit while it runs (a worker that runs out of
 * heap inside it takes the whole process down, measured), and whoever stores what was parsed calls `JSON.stringify`, which
 * recurses. So a line is measured before it is parsed. No real line comes near.
 */
const MAX_DEPTH = 200
const MAX_PARTS = 200_000

const QUOTE = 0x22
const BACKSLASH = 0x5c

/** Whether JSON text (UTF-8) is neither deep nor made of very many parts. Linear; says nothing about whether it is valid. */
export function isWithinBounds(json: Uint8Array): boolean {
  let depth = 0
  let parts = 0
  for (let at = 0; at < json.length; at += 1) {
    switch (json[at]) {
      case QUOTE:
        at = endOfString(json, at)
        break
      case 0x5b: // [
      case 0x7b: // {
        depth += 1
        parts += 1
        break
      case 0x5d: // ]
      case 0x7d: // }
        depth -= 1
        break
      case 0x2c: // ,
        parts += 1
        break
    }
    if (depth > MAX_DEPTH || parts > MAX_PARTS) return false
  }
  return true
}

/** Where the string that opens at `start` closes; the text's end where it does not. */
function endOfString(json: Uint8Array, start: number): number {
  for (let at = json.indexOf(QUOTE, start + 1); at !== -1; at = json.indexOf(QUOTE, at + 1)) {
    let before = at
    while (json[before - 1] === BACKSLASH) before -= 1
    if ((at - before) % 2 === 0) return at
  }
  return json.length
}
