import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { makeCertificates } from './certificates.ts'
import { debianPackage, npmPackage, wheel } from './packages.ts'

export interface ToolServer extends AsyncDisposable {
  /** `https://…`, of an authority of its own. */
  url: string
  /** `host:port` */
  host: string
  ca: string
  /** File of the authority's certificate. */
  caFile: string
  /** A bare repository that the server serves at `/acme/private.git`, to those who show the token. */
  repository: string
}

/**
 * One server on loopback, over TLS, for every tool of a guest: a page, registries for npm and pip and apt, and git. What is
 * private wants the token as GitHub and registries do: as password of HTTP Basic, or as bearer.
 */
export async function startToolServer(address: string, token: string): Promise<ToolServer> {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-tools-'))
  // npm checks the certificate of an address that it reaches by a proxy against "localhost".
  const { ca, key, cert } = await makeCertificates(`IP:${address}`, 'DNS:localhost')
  const caFile = join(folder, 'ca.crt')
  writeFileSync(caFile, ca)
  const repositories = join(folder, 'git')
  await makeRepositories(folder, repositories)
  const { deb, index } = await debianPackage(folder, 'vivarium-hello')
  const packages = { open: await npmPackage('hello-open'), private: await npmPackage('hello-private') }
  const accepted = new Set([`Bearer ${token}`, `Basic ${Buffer.from(`x-access-token:${token}`).toString('base64')}`])

  const server = createServer({ key, cert }, (request, response) => {
    const url = new URL(request.url ?? '/', origin())
    const isPrivate = /private|^\/(?:acme|user)\b/.test(url.pathname)
    if (isPrivate && !accepted.has(request.headers.authorization ?? ''))
      return void response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end('who are you?')
    const npm = /^\/npm\/hello-(open|private)(\/-\/x\.tgz)?$/.exec(url.pathname)
    if (npm !== null) return serveNpm(response, packages[npm[1] as 'open' | 'private'], npm[2] !== undefined, url)
    const pages: Record<string, string | Buffer> = {
      '/hello': 'hello from outside\n',
      '/page': '<html><body><h1>Fetched page</h1></body></html>',
      '/user': '{"login":"octocat"}',
      '/apt/Packages': index,
      '/apt/vivarium-hello.deb': deb,
      '/simple/hello-open/': '<a href="/wheels/hello_open-1.0.0-py3-none-any.whl">hello</a>',
      '/simple/hello-private/': '<a href="../../wheels/hello_private-1.0.0-py3-none-any.whl">hello</a>',
      '/wheels/hello_open-1.0.0-py3-none-any.whl': wheel('hello_open'),
      '/wheels/hello_private-1.0.0-py3-none-any.whl': wheel('hello_private'),
    }
    const page = pages[url.pathname]
    if (page !== undefined) return void response.writeHead(200, { 'content-type': mimeType(url.pathname) }).end(page)
    if (url.pathname.includes('.git/')) return serveGit(repositories, url, request, response)
    response.writeHead(404).end()
  }).listen(0, address)
  await once(server, 'listening')
  const host = `${address}:${(server.address() as AddressInfo).port}`
  const origin = () => `https://${host}`
  return {
    url: origin(),
    host,
    ca,
    caFile,
    repository: join(repositories, 'acme/private.git'),
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
      rmSync(folder, { recursive: true })
    },
  }
}

function mimeType(path: string): string {
  if (path === '/user') return 'application/json'
  return path === '/page' || path.startsWith('/simple/') ? 'text/html' : 'application/octet-stream'
}

type NpmPackage = Awaited<ReturnType<typeof npmPackage>>

/** A packument names its file by an absolute address, as registries do. */
function serveNpm(
  response: ServerResponse,
  { tarball, integrity, manifest }: NpmPackage,
  isFile: boolean,
  url: URL,
): void {
  if (isFile) return void response.end(tarball)
  const version = { ...manifest, dist: { tarball: `${url.origin}${url.pathname}/-/x.tgz`, integrity } }
  const name = url.pathname.slice('/npm/'.length)
  const packument = { name, 'dist-tags': { latest: '1.0.0' }, versions: { '1.0.0': version } }
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(packument))
}

/** git's own server, as a CGI program. */
function serveGit(root: string, url: URL, request: IncomingMessage, response: ServerResponse): void {
  const backend = spawn('git', ['http-backend'], {
    env: {
      PATH: process.env['PATH'],
      GIT_PROJECT_ROOT: root,
      GIT_HTTP_EXPORT_ALL: '1',
      REQUEST_METHOD: request.method,
      PATH_INFO: url.pathname,
      QUERY_STRING: url.search.slice(1),
      CONTENT_TYPE: request.headers['content-type'],
      HTTP_CONTENT_ENCODING: request.headers['content-encoding'],
      GIT_PROTOCOL: String(request.headers['git-protocol'] ?? ''),
      REMOTE_USER: 'test',
    },
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  backend.stdin.on('error', () => undefined)
  request.pipe(backend.stdin)
  const parts: Buffer[] = []
  backend.stdout.on('data', (part: Buffer) => parts.push(part))
  backend.stdout.once('end', () => {
    const output = Buffer.concat(parts)
    const end = output.indexOf('\r\n\r\n')
    const headers = output.subarray(0, end).toString().split('\r\n')
    let status = 200
    for (const header of headers) {
      const [name = '', value = ''] = header.split(': ')
      if (name === 'Status') status = Number.parseInt(value, 10)
      else response.setHeader(name, value)
    }
    response.writeHead(status).end(output.subarray(end + 4))
  })
}

/** `acme/private.git`, which may be pushed to, and `open/open.git`, each with one commit. */
async function makeRepositories(folder: string, root: string): Promise<void> {
  const work = join(folder, 'work')
  const git = (...args: string[]) =>
    execa('git', ['-C', work, '-c', 'user.name=t', '-c', 'user.email=t@example', ...args])
  await execa('git', ['init', '--quiet', '--initial-branch=main', work])
  writeFileSync(join(work, 'read.me'), 'cloned\n')
  await git('add', '.')
  await git('commit', '--quiet', '-m', 'first')
  for (const owner of ['acme', 'open']) mkdirSync(join(root, owner), { recursive: true })
  for (const name of ['acme/private.git', 'open/open.git']) {
    await execa('git', ['clone', '--quiet', '--bare', work, join(root, name)])
    await execa('git', ['-C', join(root, name), 'config', 'http.receivepack', 'true'])
  }
}
