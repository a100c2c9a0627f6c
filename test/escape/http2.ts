import { type Attack, type Ports } from './attack.ts'
import { NAMED } from './canary.ts'

/** One request of raw frames, for `guest/egress_port.py`. */
export interface Http2Attack extends Attack {
  fields: [string, string][]
  body?: string
  /** Leaves the request without an end. */
  open?: boolean
}

/** Not even taken for a request: it breaks a rule of HTTP/2 (RFC 9113, section 8). */
const malformed = /^(?:refused|session refused|session ended)/
const bad = /^400 /
const forbidden = /^403 /
/** The ordinary answer: what no field may be is left out, and what may be there has no effect. */
const harmless = /^200 let through$/

/** What the guest agent would never send, spoken to the host directly. */
export function http2({ port, otherPort }: Ports): Http2Attack[] {
  const named = `${NAMED}:${port}`
  const canary = `127.0.0.1:${port}`
  const get = (authority: string, path = '/plain'): [string, string][] => [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':authority', authority],
    [':path', path],
  ]
  const without = (name: string) => get(named).filter(([each]) => each !== name)
  const connect = (authority: string): [string, string][] => [
    [':method', 'CONNECT'],
    [':authority', authority],
  ]
  const attack = (
    name: string,
    fields: [string, string][],
    outcome: RegExp,
    rest: Pick<Http2Attack, 'body' | 'open' | 'log'> = {},
  ): Http2Attack => ({ name, fields, outcome, ...rest })
  const smuggled = `GET /smuggled HTTP/1.1\r\nHost: ${canary}\r\n\r\n`

  return [
    attack('an ordinary request', get(named), harmless),
    attack('CONNECT to the canary', connect(canary), forbidden, {
      open: true,
      log: { host: '127.0.0.1', port, rule: 'deny by default' },
    }),
    attack('CONNECT to a port that is not named', connect(`${NAMED}:${otherPort}`), forbidden, {
      open: true,
      log: { host: NAMED, port: otherPort, rule: 'deny by default' },
    }),
    attack('CONNECT to a number', connect(`2130706433:${port}`), bad, {
      open: true,
      log: { host: `2130706433:${port}`, rule: 'unreadable destination' },
    }),
    attack('CONNECT to a mapped address', connect('[::ffff:7f00:1]:80'), forbidden, {
      open: true,
      log: { host: '127.0.0.1', port: 80, rule: /^deny own address/ },
    }),
    attack('CONNECT with a user', connect(`${named}@${canary}`), malformed, { open: true }),
    attack('CONNECT with a path', [...connect(canary), [':scheme', 'http'], [':path', '/']], malformed),
    attack(
      'CONNECT with a protocol',
      [...connect(canary), [':protocol', 'websocket'], [':scheme', 'http'], [':path', '/']],
      malformed,
    ),
    attack('CONNECT in small letters', [[':method', 'connect'], ...get(canary).slice(1)], bad, {
      log: { host: '127.0.0.1', port, rule: 'unreadable request' },
    }),
    attack('a name that leads to loopback', get(`localtest.trap.example:${port}`), forbidden, {
      log: { host: 'localtest.trap.example', port, rule: /^deny own address/ },
    }),
    attack('two authorities', [...get(named), [':authority', canary]], malformed),
    attack('two paths', [...get(named), [':path', '/smuggled']], malformed),
    attack('two methods', [...get(named), [':method', 'CONNECT']], malformed),
    attack('an authority and another Host', [...get(named), ['host', canary]], harmless),
    attack('no authority but a Host', [...without(':authority'), ['host', canary]], bad, {
      log: { host: '', rule: 'unreadable destination' },
    }),
    attack('no path', without(':path'), malformed),
    attack('no scheme', without(':scheme'), malformed),
    attack('another scheme', [...without(':scheme'), [':scheme', 'https']], bad, {
      log: { host: NAMED, port, rule: 'not plain http' },
    }),
    attack('a scheme that is a file', [...without(':scheme'), [':scheme', 'file']], bad, {
      log: { host: NAMED, port, rule: 'not plain http' },
    }),
    attack('an unknown pseudo-header', [...get(named), [':target', canary]], malformed),
    attack('a pseudo-header behind a field', [['x-a', '1'], ...get(named)], malformed),
    attack('a pseudo-header of answers', [...get(named), [':status', '200']], malformed),
    attack('a field in capitals', [...get(named), ['Host', canary]], malformed),
    attack('a whole URL as path', get(named, `http://${canary}/`), malformed),
    attack('a path that is an authority', get(named, `//${canary}/plain`), harmless),
    attack('a path without a slash', get(named, `@${canary}/`), malformed),
    attack('a path of everything', get(named, '*'), malformed),
    attack('a line break in the path', get(named, `/ HTTP/1.1\r\nHost: ${canary}\r\n\r\nGET /smuggled`), malformed),
    attack('a blank in the path', get(named, '/plain HTTP/1.1'), malformed),
    attack('a line break in a field', [...get(named), ['x-a', `1\r\nHost: ${canary}`]], harmless),
    attack('a line break in the authority', get(`${named}\r\nHost: ${canary}`), malformed),
    attack('a line break in the name of a field', [...get(named), [`x-a: 1\r\nhost`, canary]], harmless),
    attack('a method of two words', [[':method', 'GET /smuggled HTTP/1.1'], ...get(named).slice(1)], malformed),
    attack('chunks', [...get(named), ['transfer-encoding', 'chunked']], malformed),
    attack('a field about the connection', [...get(named), ['connection', 'keep-alive']], malformed),
    attack('two lengths', [...get(named), ['content-length', '0'], ['content-length', '5']], malformed),
    attack('a length of nothing, and a body', [...get(named), ['content-length', '0']], malformed, { body: smuggled }),
    attack(
      'a length that is too short',
      [[':method', 'POST'], ...get(named).slice(1), ['content-length', '1']],
      malformed,
      { body: smuggled },
    ),
    attack('a body on GET', get(named), harmless, { body: smuggled }),
    attack('a body on GET to the model', get('anthropic.upstream', '/v1/models'), /^200 /, { body: smuggled }),
    attack('the model by CONNECT', connect('anthropic.upstream:443'), bad, {
      open: true,
      log: { host: 'anthropic.upstream', rule: 'an upstream is no host' },
    }),
    attack('an authority of 10,000 bytes', get(`${'a'.repeat(10_000)}:80`), bad, {
      log: { host: 'a'.repeat(253), rule: 'unreadable destination' },
    }),
    attack(
      '300 fields',
      [...get(named), ...Array.from({ length: 300 }, (_, n): [string, string] => [`x-${n}`, ''])],
      malformed,
    ),
  ]
}
