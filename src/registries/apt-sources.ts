import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** One entry of the host's package sources, whichever of apt's two formats it was written in. */
export interface AptSource {
  uris: string[]
  suites: string[]
  components: string[]
  /** Other fields by their deb822 name in lower case, e.g. `signed-by`; multi-line values keep their line breaks. */
  options: Record<string, string>
}

/** Fields that say how a source is verified; everything else (languages, targets, …) is the host's own business. */
const KEPT_FIELDS = [
  'Signed-By',
  'Trusted',
  'Allow-Insecure',
  'Allow-Weak',
  'Allow-Downgrade-To-Insecure',
  'Check-Valid-Until',
  'Valid-Until-Max',
  'Check-Date',
]

const words = (text: string | undefined): string[] => text?.split(/\s+/).filter((word) => word !== '') ?? []

/** Parses a one-line file (`/etc/apt/sources.list`, `*.list`); source packages and comments are left out. */
export function parseOneLine(text: string): AptSource[] {
  return text.split('\n').flatMap((line) => {
    const match = /^deb\s+(?:\[(?<options>[^\]]*)\]\s+)?(?<uri>\S+)\s+(?<suite>\S+)(?<components>[^#]*)/.exec(
      line.trim(),
    )
    if (match?.groups === undefined) return []
    const { options, uri = '', suite = '', components } = match.groups
    const pairs = words(options).map((option) => {
      const [name = '', ...value] = option.split('=')
      return [name === 'arch' ? 'architectures' : name.toLowerCase(), value.join('=').replaceAll(',', ' ')]
    })
    return [{ uris: [uri], suites: [suite], components: words(components), options: Object.fromEntries(pairs) }]
  })
}

/** Parses a deb822 file (`*.sources`); disabled entries and source packages are left out. */
export function parseDeb822(text: string): AptSource[] {
  const lines = text.split('\n').filter((line) => !line.startsWith('#'))
  return lines
    .join('\n')
    .split(/\n[ \t]*\n/)
    .flatMap((stanza) => {
      const { types, enabled, uris, suites, components, ...options } = parseStanza(stanza)
      if (!words(types).includes('deb') || enabled?.toLowerCase() === 'no') return []
      return [{ uris: words(uris), suites: words(suites), components: words(components), options }]
    })
}

function parseStanza(stanza: string): Record<string, string> {
  const fields: Record<string, string> = {}
  let name = ''
  for (const line of stanza.split('\n')) {
    const field = /^([A-Za-z-]+):\s*(.*)$/.exec(line)
    if (field !== null) {
      name = (field[1] ?? '').toLowerCase()
      fields[name] = field[2]?.trim() ?? ''
    } else if (name !== '' && /^[ \t]/.test(line)) {
      fields[name] += `\n${line.trimEnd()}`
    }
  }
  return fields
}

/** Reads every source that apt on this host uses. `etc` is `/etc/apt` except in tests. */
export function readAptSources(etc = '/etc/apt'): AptSource[] {
  const read = (path: string): string => {
    try {
      return readFileSync(path, 'utf8')
    } catch {
      return '' // apt itself does without a file that isn't there
    }
  }
  const sources = parseOneLine(read(join(etc, 'sources.list')))
  for (const name of listFolder(join(etc, 'sources.list.d'))) {
    const text = () => read(join(etc, 'sources.list.d', name))
    if (name.endsWith('.list')) sources.push(...parseOneLine(text()))
    if (name.endsWith('.sources')) sources.push(...parseDeb822(text()))
  }
  return sources.map((source) => ({ ...source, uris: source.uris.flatMap((uri) => expandMirrorFile(uri, read)) }))
}

function listFolder(path: string): string[] {
  try {
    return readdirSync(path).toSorted()
  } catch {
    return [] // a host may have no such folder
  }
}

/** Debian's cloud images name their mirrors in a file: `mirror+file:/etc/apt/mirrors/debian.list`. */
function expandMirrorFile(uri: string, read: (path: string) => string): string[] {
  if (!uri.startsWith('mirror+file:')) return [uri]
  const lines = read(uri.slice('mirror+file:'.length).replace(/^\/+/, '/')).split('\n')
  return lines.flatMap((line) => line.trim().split(/\s/)[0] ?? []).filter((word) => /^https?:/.test(word))
}

/**
 * The sources of Debian itself, for one release and architecture. Repositories of third parties are left out: their suites
 * and components differ, or they are signed by a key of their own. A company's mirror signed anew with the company's key is
 * still taken when nothing is signed by Debian.
 */
export function selectDebian(sources: AptSource[], codename: string, architecture: string): AptSource[] {
  const suite = new RegExp(
    `^(${codename}|stable|oldstable|testing|unstable|sid)(-updates|-security|-backports|/updates)?$`,
  )
  const sections = new Set(['main', 'contrib', 'non-free', 'non-free-firmware'])
  const candidates = sources
    .map((source) => ({
      ...source,
      uris: source.uris.filter((uri) => /^https?:\/\//.test(uri)),
      suites: source.suites.filter((name) => suite.test(name)),
    }))
    .filter(({ uris, suites, components, options }) => {
      const fits = options['architectures'] === undefined || words(options['architectures']).includes(architecture)
      const debian = components.includes('main') && components.every((name) => sections.has(name))
      return fits && debian && uris.length > 0 && suites.length > 0
    })
  const signedByDebian = candidates.filter((source) => {
    const signedBy = source.options['signed-by']
    return signedBy === undefined || /\/debian-archive-[^/]*$/.test(signedBy)
  })
  return signedByDebian.length > 0 ? signedByDebian : candidates
}

/** The same sources without `user:password@` in any address. */
export function withoutCredentials(sources: AptSource[]): AptSource[] {
  return sources.map((source) => ({ ...source, uris: source.uris.map(stripCredentials) }))
}

/** An address without user, password, query and fragment: what may be shown and given to guests. */
export function stripCredentials(address: string): string {
  const url = new URL(address)
  url.username = ''
  url.password = ''
  url.search = ''
  url.hash = ''
  return url.href
}

/** Keyring files that the sources name, so that the guest can be given them. */
export function keyringFiles(sources: AptSource[]): string[] {
  const named = sources.flatMap((source) => words(source.options['signed-by']))
  return [...new Set(named.filter((word) => word.startsWith('/')))].toSorted()
}

/** Sources as a deb822 file. */
export function renderDeb822(sources: AptSource[]): string {
  return sources
    .map((source) => {
      const kept = KEPT_FIELDS.flatMap((field) => {
        const value = source.options[field.toLowerCase()]
        return value === undefined ? [] : [`${field}: ${value}`]
      })
      return [
        'Types: deb',
        `URIs: ${source.uris.join(' ')}`,
        `Suites: ${source.suites.join(' ')}`,
        `Components: ${source.components.join(' ')}`,
        ...kept,
        '',
      ].join('\n')
    })
    .join('\n')
}
