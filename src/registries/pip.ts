import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

type Environment = Record<string, string | undefined>

/** Where pip on this host finds packages, credentials included. Both are empty where its configuration names none. */
export interface PipIndexes {
  index: string | undefined
  extra: string[]
}

/** What pip uses by itself: its index, and where that keeps files. */
export const PYPI = ['https://pypi.org/simple', 'https://files.pythonhosted.org/']

/** Reads pip's settings as pip itself would: the host's file, the user's, then the environment. */
export function readPipIndexes(env: Environment = process.env, home = homedir(), etc = '/etc'): PipIndexes {
  const own = join(env['XDG_CONFIG_HOME'] || join(home, '.config'), 'pip/pip.conf')
  const files = [join(etc, 'pip.conf'), join(home, '.pip/pip.conf'), own, env['PIP_CONFIG_FILE'] ?? '']
  const settings = Object.assign({}, ...files.map((path) => parsePipConf(read(path)))) as Record<string, string>
  const index = env['PIP_INDEX_URL'] || settings['index-url']
  const extra = env['PIP_EXTRA_INDEX_URL'] || settings['extra-index-url'] || ''
  const isWeb = (address: string) => /^https?:\/\//.test(address) && URL.canParse(address)
  return { index: index !== undefined && isWeb(index) ? index : undefined, extra: extra.split(/\s+/).filter(isWeb) }
}

/** The settings in `[global]` of a pip.conf; values may go on in lines that are indented. */
export function parsePipConf(text: string): Record<string, string> {
  const settings: Record<string, string> = {}
  let section = ''
  let key = ''
  for (const line of text.split('\n')) {
    if (/^\s*[#;]/.test(line) || line.trim() === '') continue
    const field = /^([\w-]+)\s*[=:]\s*(.*)$/.exec(line)
    if (/^\[.*\]\s*$/.test(line)) {
      section = line.trim()
      key = ''
    } else if (section !== '[global]') continue
    else if (field !== null) {
      key = (field[1] ?? '').toLowerCase().replaceAll('_', '-')
      settings[key] = field[2]?.trim() ?? ''
    } else if (key !== '' && /^\s/.test(line)) settings[key] = `${settings[key]} ${line.trim()}`.trim()
  }
  return settings
}

function read(path: string): string {
  if (path === '') return ''
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // pip does without a file that isn't there
  }
}
