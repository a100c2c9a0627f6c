import { LOOPBACK, METADATA, TRAPS, type Attack, type Ports } from './attack.ts'
import { NAMED } from './canary.ts'

/** Where programs of a guest find the gateway. */
const PROXY = 3128
const MODEL = 3129
const UPSTREAMS = 3130

/** Bytes for one of the agent's servers. */
export interface RequestAttack extends Attack {
  to: number
  bytes: Buffer
}

/** An answer that is none of the server's, or none at all. */
const refused = /^(?:HTTP\/1\.1 [45]\d\d |$)/
const forbidden = /^HTTP\/1\.1 403 /
const bad = /^HTTP\/1\.1 400 /
/** The ordinary answer of the server that the policy names: what was hidden in the request was taken for a part of it. */
const harmless = /^HTTP\/1\.1 200 OK\r\n(?:.*\r\n)*\r\n(?:a\r\n)?let through/

/** Requests for what the policy forbids, and for what it allows with something else hidden in them. */
export function requests({ port, otherPort }: Ports): RequestAttack[] {
  const named = `${NAMED}:${port}`
  const canary = `127.0.0.1:${port}`
  const attack = (name: string, to: number, text: string, outcome: RegExp, log?: Attack['log']): RequestAttack => ({
    name,
    to,
    bytes: Buffer.from(text),
    outcome,
    ...(log && { log }),
  })
  const connect = (authority: string) => `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`
  const get = (url: string, host = named) => `GET ${url} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`
  const post = (fields: string[], body: string, target = `http://${named}/plain`) =>
    `POST ${target} HTTP/1.1\r\n${[`Host: ${named}`, 'Connection: close', ...fields].join('\r\n')}\r\n\r\n${body}`
  const smuggled = `GET http://${canary}/smuggled HTTP/1.1\r\nHost: ${canary}\r\n\r\n`

  const spellings = LOOPBACK.flatMap((host) => [
    attack(`CONNECT to ${host}`, PROXY, connect(`${host}:${port}`), refused),
    attack(`GET from ${host}`, PROXY, get(`http://${host}:${port}/`), refused),
  ])
  // On ports that the policy opens for every host; so it is the address that is refused.
  const addresses = ['127.0.0.1', '10.0.0.1', '[::1]', '[::ffff:127.0.0.1]', ...METADATA].flatMap((address) => {
    const host = address.includes(':') && !address.startsWith('[') ? `[${address}]` : address
    const log = { host: host.replace(/^\[|\]$/g, '').replace('::ffff:', ''), rule: /^deny (?:private|own) address/ }
    return [
      attack(`CONNECT to ${host} on a web port`, PROXY, connect(`${host}:443`), forbidden, { ...log, port: 443 }),
      attack(`GET from ${host} on a web port`, PROXY, get(`http://${host}/`), forbidden, { ...log, port: 80 }),
    ]
  })
  const traps = Object.keys(TRAPS).flatMap((host) => {
    const log = { host, rule: /^deny (?:private|own) address/ }
    const at = host.endsWith('.trap.example') ? `${host}:${port}` : `${host}:80`
    return [
      attack(`CONNECT to ${host}`, PROXY, connect(at), forbidden, log),
      attack(`GET from ${host}`, PROXY, get(`http://${at}/`), forbidden, log),
      attack(`GET from ${host}.`, PROXY, get(`http://${at.replace(':', '.:')}/`), forbidden, log),
    ]
  })

  return [
    ...spellings,
    ...addresses,
    ...traps,
    attack('CONNECT to a port that is not named', PROXY, connect(`${NAMED}:${otherPort}`), forbidden, {
      host: NAMED,
      port: otherPort,
      rule: 'deny by default',
    }),
    attack('CONNECT to ssh', PROXY, connect('example.com:22'), forbidden, {
      host: 'example.com',
      port: 22,
      rule: 'deny by default',
    }),
    attack('CONNECT to DNS', PROXY, connect('8.8.8.8:53'), forbidden, {
      host: '8.8.8.8',
      port: 53,
      rule: 'deny by default',
    }),
    attack('CONNECT without a port', PROXY, connect('127.0.0.1'), bad, { host: '127.0.0.1', rule: /unreadable/ }),
    attack('CONNECT to port 0', PROXY, connect('127.0.0.1:0'), bad),
    attack('CONNECT to a port over 65535', PROXY, connect(`127.0.0.1:${port + 65_536}`), bad),
    attack('CONNECT with a user', PROXY, connect(`${NAMED}@${canary}`), refused),
    attack('CONNECT with a path', PROXY, connect(`${named}/@${canary}`), refused),
    attack('CONNECT to two', PROXY, connect(`${named},${canary}`), refused),
    attack(
      'CONNECT with the way out in a Host field',
      PROXY,
      `CONNECT ${canary} HTTP/1.1\r\nHost: ${named}\r\n\r\n`,
      forbidden,
    ),
    attack('CONNECT to an upstream', PROXY, connect('anthropic.upstream:443'), bad, {
      host: 'anthropic.upstream',
      rule: 'an upstream is no host',
    }),
    attack('a full-width spelling', PROXY, connect(`①②⑦.⓪.⓪.①:${port}`), refused),
    attack('an ideographic full stop', PROXY, get(`http://127。0。0。1:${port}/`), refused),
    attack('a circled letter', PROXY, get(`http://ⓛocalhost:${port}/`), refused),
    attack('punycode of nothing', PROXY, get(`http://xn--localhost-:${port}/`), refused),
    attack('a zone', PROXY, connect(`[fe80::1%25lo]:${port}`), refused),
    attack('a percent-encoded host', PROXY, get(`http://%31%32%37.0.0.1:${port}/`), forbidden),

    attack('a user before the host', PROXY, get(`http://${named}@${canary}/`), forbidden),
    attack('a user and a password before the host', PROXY, get(`http://${NAMED}:80@${canary}/`), forbidden),
    attack('a backslash before the host', PROXY, get(`http://${named}\\@${canary}/`), refused),
    attack('a fragment before the host', PROXY, get(`http://${named}#@${canary}/`), bad),
    attack('a query before the host', PROXY, get(`http://${named}?@${canary}/`), harmless),
    attack('a scheme without slashes', PROXY, get(`http:${canary}/`), bad),
    attack('a scheme with backslashes', PROXY, get(`http:\\\\${canary}/`), bad),
    attack('no scheme', PROXY, get(`//${canary}/`), bad),
    attack('only a host', PROXY, get(canary), bad),
    attack('https to the proxy', PROXY, get(`https://${canary}/`), bad),
    attack('a file', PROXY, get('file:///etc/passwd'), bad),
    attack('ftp', PROXY, get(`ftp://${canary}/`), bad),
    attack('a Host field that names the canary', PROXY, get(`http://${named}/plain`, canary), harmless),
    attack('a Host field that names what is allowed', PROXY, get(`http://${canary}/`, named), forbidden),
    attack('HTTP/0.9', PROXY, `GET http://${canary}/\r\n\r\n`, refused),
    attack('HTTP/1.0', PROXY, `GET http://${canary}/ HTTP/1.0\r\n\r\n`, forbidden),
    attack('HTTP/2 to the proxy', PROXY, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', refused),
    attack('a redirect', PROXY, get(`http://${named}/redirect?to=http://${canary}/`), /^HTTP\/1\.1 302 /),

    attack(
      'content-length and chunks',
      PROXY,
      post(['Content-Length: 6', 'Transfer-Encoding: chunked'], `0\r\n\r\n${smuggled}`),
      bad,
    ),
    attack(
      'chunks by another name',
      PROXY,
      post(['Content-Length: 5', 'Transfer-Encoding: xchunked'], `0\r\n\r\n${smuggled}`),
      bad,
    ),
    attack(
      'chunks twice',
      PROXY,
      post(['Transfer-Encoding: chunked', 'Transfer-Encoding: identity'], `0\r\n\r\n${smuggled}`),
      bad,
    ),
    attack('chunks behind a blank', PROXY, post(['Transfer-Encoding : chunked'], `0\r\n\r\n${smuggled}`), bad),
    attack('chunks behind a vertical tab', PROXY, post(['Transfer-Encoding:\vchunked'], `0\r\n\r\n${smuggled}`), bad),
    attack('two lengths', PROXY, post(['Content-Length: 0', `Content-Length: ${smuggled.length}`], smuggled), bad),
    attack('a list of lengths', PROXY, post([`Content-Length: 0, ${smuggled.length}`], smuggled), bad),
    attack('a length with a sign', PROXY, post(['Content-Length: +0'], smuggled), bad),
    attack('a negative length', PROXY, post(['Content-Length: -1'], smuggled), bad),
    attack(
      'a chunk larger than any number',
      PROXY,
      post(['Transfer-Encoding: chunked'], `fffffffffffffffff\r\n${smuggled}`),
      refused,
    ),
    attack(
      'a chunk longer than it says',
      PROXY,
      post(['Transfer-Encoding: chunked'], `1\r\n${smuggled}\r\n0\r\n\r\n`),
      refused,
    ),
    attack(
      'a line break in a chunk extension',
      PROXY,
      post(['Transfer-Encoding: chunked'], `0;a\nb\r\n\r\n${smuggled}`),
      refused,
    ),
    attack(
      'a Host field in a trailer',
      PROXY,
      post(['Transfer-Encoding: chunked'], `1\r\nx\r\n0\r\nHost: ${canary}\r\n\r\n`),
      harmless,
    ),
    attack(
      'a field on two lines',
      PROXY,
      get(`http://${named}/plain`, `${named}\r\nX-A: 1\r\n Host: ${canary}`),
      refused,
    ),
    attack(
      'two Host fields',
      PROXY,
      get(`http://${named}/plain`, `${named}\r\nHost: ${canary}`),
      /^HTTP\/1\.1 (?:400 |200 )/,
    ),
    attack(
      'a bare line feed',
      PROXY,
      `GET http://${named}/plain HTTP/1.1\r\nHost: ${named}\nX-A: 1\n\n${smuggled}`,
      bad,
    ),
    attack('a bare carriage return', PROXY, get(`http://${named}/plain`, `${named}\r\nX-A: 1\rHost: ${canary}`), bad),
    attack('a null', PROXY, get(`http://${named}/plain`, `${named}\r\nX-A: 1\0Host: ${canary}`), bad),
    attack(
      'a body on GET',
      PROXY,
      `GET http://${named}/plain HTTP/1.1\r\nHost: ${named}\r\nConnection: close\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`,
      harmless,
    ),
    attack(
      'a request behind another',
      PROXY,
      `GET http://${named}/plain HTTP/1.1\r\nHost: ${named}\r\n\r\n${smuggled}`,
      /let through(?:.*\r\n)*[^]*HTTP\/1\.1 403 /,
    ),
    attack(
      'a change of protocol',
      PROXY,
      get(`http://${named}/plain`, `${named}\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA`),
      harmless,
    ),
    attack('a method that is none', PROXY, get(`http://${named}/plain`).replace('GET', 'GE T'), refused),
    attack('a path to a proxy', PROXY, `GET http://${named}http://${canary}/ HTTP/1.1\r\n\r\n`, refused),

    attack('another host of the model', MODEL, get(`http://${canary}/v1/models`, canary), /^HTTP\/1\.1 502 /),
    attack('a path of the model that climbs', MODEL, get('/v1/models/../../../etc'), /^HTTP\/1\.1 404 /, {
      host: 'anthropic.upstream',
      rule: /takes no GET/,
    }),
    attack('a path of the model that is an authority', MODEL, get(`//${canary}/v1/models`), /^HTTP\/1\.1 404 /),
    attack('an account behind the credential', MODEL, get('/v1/organizations/api_keys'), /^HTTP\/1\.1 404 /, {
      host: 'anthropic.upstream',
      rule: 'upstream anthropic takes no GET /v1/organizations/api_keys',
    }),
    attack(
      'a request hidden in one to the model',
      MODEL,
      `POST /v1/messages/count_tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nPOST /smuggled HTTP/1.1\r\nHost: x\r\n\r\n`,
      bad,
    ),
    attack(
      'a body on a GET to the model',
      MODEL,
      `GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 33\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n`,
      /^HTTP\/1\.1 200 /,
    ),

    attack('no upstream', UPSTREAMS, get('/'), /^HTTP\/1\.1 404 /, { host: '.upstream', rule: 'no such upstream' }),
    attack('an upstream that there is not', UPSTREAMS, get(`/${canary}/`), /^HTTP\/1\.1 404 /, {
      host: `${canary}.upstream`,
      rule: 'no such upstream',
    }),
    attack('a path that leaves what the upstream takes', UPSTREAMS, get('/mirror/open/../closed'), bad, {
      host: NAMED,
      rule: /takes no such path/,
    }),
    attack('the same, encoded', UPSTREAMS, get('/mirror/open/%2e%2e/closed'), bad, {
      host: NAMED,
      rule: /takes no such path/,
    }),
    attack('the same, encoded twice', UPSTREAMS, get('/mirror/open/%252e%252e/closed'), bad, {
      host: NAMED,
      rule: /takes no such path/,
    }),
    attack('the same by a backslash', UPSTREAMS, get('/mirror/open/..\\closed'), bad, {
      host: NAMED,
      rule: /takes no such path/,
    }),
    attack('what the upstream does not take', UPSTREAMS, get('/mirror/closed'), forbidden, {
      host: NAMED,
      rule: 'upstream mirror takes no GET /closed',
    }),
    attack(
      'a method that the upstream does not take',
      UPSTREAMS,
      get('/mirror/open/x').replace('GET', 'DELETE'),
      forbidden,
      { host: NAMED, rule: 'upstream mirror takes no DELETE /open/x' },
    ),
    attack(
      'an override of the method',
      UPSTREAMS,
      get('/mirror/open/x', `${named}\r\nX-HTTP-Method-Override: DELETE\r\nX_Original_URL: /closed`),
      harmless,
    ),
    attack('a user before an upstream', PROXY, get(`http://mirror.upstream@${canary}/`), forbidden),
    attack('an upstream before another host', PROXY, get(`http://mirror.upstream.${canary}/`), refused),
  ]
}
