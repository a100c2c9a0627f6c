/** Colours of the dashboard, for terminals. Off where output is no terminal or `NO_COLOR` is set (no-color.org). */
export interface Palette {
  purple: Paint
  blue: Paint
  orange: Paint
  grey: Paint
  green: Paint
  red: Paint
  bold: Paint
}
type Paint = (text: string) => string

const plain: Paint = (text) => text
const sgr =
  (open: string, close: string): Paint =>
  (text) =>
    `\u001b[${open}m${text}\u001b[${close}m`

/** A palette that paints, or one that leaves text as it is. */
export function palette(enabled: boolean): Palette {
  if (!enabled) return { purple: plain, blue: plain, orange: plain, grey: plain, green: plain, red: plain, bold: plain }
  return {
    purple: sgr('38;5;141', '39'),
    blue: sgr('38;5;75', '39'),
    orange: sgr('38;5;208', '39'),
    grey: sgr('38;5;245', '39'),
    green: sgr('38;5;78', '39'),
    red: sgr('38;5;203', '39'),
    bold: sgr('1', '22'),
  }
}

/** Control characters (C0, DEL, C1) but tab and newline: what a terminal could take as a command. */
const CONTROL = /(?![\t\n])\p{Cc}/gu

/** Text from a guest, made harmless for a terminal: control characters (and so escape sequences) become visible. */
export function harmless(text: string): string {
  return text
    .replaceAll('\r\n', '\n')
    .replace(CONTROL, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`)
}
