import { bareAddress } from './registry-address.ts'

/** One file of apt's sources: in the format of sources.list, or (`deb822`) in that of `*.sources`, see sources.list(5). */
export interface AptSourcesFile {
  text: string
  deb822: boolean
}

/** Base addresses of all enabled http and https sources, each once. */
export function readAptSources(files: AptSourcesFile[]): string[] {
  const uris = files.flatMap(({ text, deb822 }) => (deb822 ? urisOfStanzas(text) : urisOfLines(text)))
  return [...new Set(uris.flatMap((uri) => bareAddress(uri) ?? []))]
}

/** `deb [options] URI suite …`, one a line. */
function urisOfLines(text: string): string[] {
  return text.split('\n').flatMap((line) => {
    const match = /^\s*deb(?:-src)?\s+(?:\[[^\]]*\]\s*)?(?<uri>[^\s#]+)/.exec(line)
    return match?.groups?.['uri'] ?? []
  })
}

/** Stanzas of `Field: value` lines, with continuation lines that begin with white space. */
function urisOfStanzas(text: string): string[] {
  const withoutComments = text
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n')
  return withoutComments.split(/\n\s*\n/).flatMap((stanza) => {
    const field = (name: string) =>
      new RegExp(`^${name}:[ \\t]*(?<value>.*(?:\\n[ \\t]+.*)*)`, 'im').exec(stanza)?.groups?.['value']?.trim()
    if (/^(no|false|without|off|disable|0)$/i.test(field('Enabled') ?? 'yes')) return []
    return field('URIs')?.split(/\s+/) ?? []
  })
}
