import { readFileSync } from 'node:fs'
import { GUEST_USER } from '../../src/link/constants.ts'
import type { ExecSpec } from '../../src/link/protocol.ts'

export interface User {
  name: string
  uid: number
  gid: number
  home: string
}

const USERS: Record<ExecSpec['user'], User> = {
  agent: GUEST_USER,
  root: { name: 'root', uid: 0, gid: 0, home: '/root' },
}

export function userNamed(name: ExecSpec['user']): User {
  return USERS[name]
}

/** What the image sets for every login, e.g. where added certificates are: `NAME=value` lines without quotes. */
export function imageEnvironment(): Record<string, string> {
  const lines = readFileSync('/etc/environment', 'utf8').split('\n')
  const assignments = lines.map((line) => /^([A-Za-z_]\w*)=(.*)$/.exec(line)).filter((match) => match !== null)
  return Object.fromEntries(assignments.map(([, name = '', value = '']) => [name, value]))
}

/** What every process finds in its environment, below what the host asks for. Never a secret: there is none in a guest. */
export function baseEnvironment(user: User, proxyPort: number): Record<string, string> {
  const proxy = `http://127.0.0.1:${proxyPort}`
  const local = 'localhost,127.0.0.1,::1'
  return {
    PATH: `${user.home}/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
    HOME: user.home,
    USER: user.name,
    LOGNAME: user.name,
    SHELL: '/bin/bash',
    LANG: 'C.UTF-8',
    // The only way out. Both spellings: curl reads the lower, most others the upper case.
    http_proxy: proxy,
    https_proxy: proxy,
    HTTP_PROXY: proxy,
    HTTPS_PROXY: proxy,
    no_proxy: local,
    NO_PROXY: local,
    // Node's own fetch looks at the proxy variables only when told to.
    NODE_USE_ENV_PROXY: '1',
    // Nobody is there to answer.
    GIT_TERMINAL_PROMPT: '0',
  }
}
