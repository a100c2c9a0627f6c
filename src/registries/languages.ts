import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

type Environment = Record<string, string | undefined>

/** Where cargo and go on this host find packages. Empty where their configuration names nothing. */
export interface LanguageMirrors {
  /** What stands for crates.io, e.g. `sparse+https://cargo.example/index/`. */
  cargo: string | undefined
  /** `GOPROXY`, `GOSUMDB`, `GONOSUMDB`, `GOPRIVATE`, as far as they are set. */
  go: Record<string, string>
}

/** What cargo and go use by themselves. */
export const CRATES_IO = ['https://index.crates.io/', 'https://static.crates.io/', 'https://crates.io/']
export const GO_PROXY = ['https://proxy.golang.org/', 'https://sum.golang.org/']

const GO_SETTINGS = ['GOPROXY', 'GOSUMDB', 'GONOSUMDB', 'GOPRIVATE']

/** Reads the mirrors that this host's cargo and go are configured for: the environment, then the user's files. */
export function readLanguageMirrors(env: Environment = process.env, home = homedir()): LanguageMirrors {
  const cargoHome = env['CARGO_HOME'] || join(home, '.cargo')
  const goFile = env['GOENV'] || join(env['XDG_CONFIG_HOME'] || join(home, '.config'), 'go/env')
  const goSettings = Object.fromEntries(
    read(goFile)
      .split('\n')
      .flatMap((line) => [/^(\w+)=(.*)$/.exec(line.trim())?.slice(1) ?? []])
      .filter((pair) => pair.length === 2),
  ) as Record<string, string>
  const go = GO_SETTINGS.flatMap((name) => {
    const value = env[name] || goSettings[name]
    return value === undefined || value === '' ? [] : [[name, value] as const]
  })
  return { cargo: cratesIoMirror(read(join(cargoHome, 'config.toml'))), go: Object.fromEntries(go) }
}

/** The web addresses in a `GOPROXY`. */
export function goProxies(value: string | undefined): string[] {
  return (value ?? '').split(/[,|]/).filter((each) => /^https?:\/\//.test(each) && URL.canParse(each))
}

/** What `[source.crates-io] replace-with` leads to in cargo's configuration, where that is a registry on the web. */
export function cratesIoMirror(toml: string): string | undefined {
  const sources: Record<string, Record<string, string>> = {}
  let name: string | undefined
  for (const line of toml.split('\n')) {
    const table = /^\s*\[(.*)\]\s*$/.exec(line)
    if (table !== null) name = /^source\.["']?([\w.-]+?)["']?$/.exec(table[1] ?? '')?.[1]
    const field = /^\s*([\w-]+)\s*=\s*["'](.*)["']\s*(?:#.*)?$/.exec(line)
    if (name !== undefined && field !== null) (sources[name] ??= {})[field[1] ?? ''] = field[2] ?? ''
  }
  let at: string | undefined = 'crates-io'
  const seen = new Set<string>()
  while (at !== undefined && !seen.has(at)) {
    seen.add(at)
    const source: Record<string, string> = sources[at] ?? {}
    if (source['registry'] !== undefined)
      return /^(?:sparse\+)?https?:\/\//.test(source['registry']) ? source['registry'] : undefined
    at = source['replace-with']
  }
  return undefined
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // both do without a file that isn't there
  }
}
