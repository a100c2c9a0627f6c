import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** A login for some addresses, e.g. of apt's `auth.conf`. */
export interface Login {
  /** Undefined: for https only, as apt has it. */
  protocol: string | undefined
  /** `host`, or `host:port`. */
  host: string
  /** Begin of the paths it is for, without a slash at the end. */
  path: string
  user: string
  password: string
}

/** Parses a netrc file as apt writes it (apt_auth.conf(5)): `machine [protocol://]host[:port][/path] login NAME password WORD`. */
export function parseNetrc(text: string): Login[] {
  const words = text
    .split('\n')
    .filter((line) => !line.trimStart().startsWith('#'))
    .join(' ')
    .split(/\s+/)
  const logins: Login[] = []
  for (let at = 0; at < words.length - 1; at += 1) {
    const value = words[at + 1] ?? ''
    if (words[at] === 'machine') logins.push(machine(value))
    const login = logins.at(-1)
    if (login === undefined) continue
    if (words[at] === 'login') login.user = value
    if (words[at] === 'password') login.password = value
    if (['machine', 'login', 'password'].includes(words[at] ?? '')) at += 1
  }
  return logins.filter(({ host, password }) => host !== '' && password !== '')
}

function machine(text: string): Login {
  const [, protocol, host = '', path = ''] = /^(?:([a-z+]+):\/\/)?([^/]*)(.*)$/.exec(text) ?? []
  return { protocol, host: host.toLowerCase(), path: path.replace(/\/$/, ''), user: '', password: '' }
}

/** The logins that apt on this host has. `etc` is `/etc/apt` except in tests. */
export function readAptLogins(etc = '/etc/apt'): Login[] {
  const parts = join(etc, 'auth.conf.d')
  const names = list(parts).filter((name) => name.endsWith('.conf'))
  return [join(etc, 'auth.conf'), ...names.map((name) => join(parts, name))].flatMap((path) => parseNetrc(read(path)))
}

/** The login for an address, if there is one. */
export function loginFor({ protocol, host, pathname }: URL, logins: Login[]): Login | undefined {
  return logins.find(
    (login) =>
      login.host === host &&
      (login.protocol === undefined ? protocol === 'https:' : protocol === `${login.protocol}:`) &&
      `${pathname}/`.startsWith(`${login.path}/`),
  )
}

function list(path: string): string[] {
  try {
    return readdirSync(path).toSorted()
  } catch {
    return [] // a host may have no such folder
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // apt does without a file that isn't there, or that it may not read
  }
}
