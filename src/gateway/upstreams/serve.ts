import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { HTTP_METHODS } from '../../contracts/network.ts'
import { VivariumError } from '../../contracts/errors.ts'
import { UPSTREAM_SUFFIX } from '../../link/constants.ts'
import type { SecretUse, Secrets } from '../../vault/types.ts'
import { answerText } from '../answer.ts'
import { endToEnd, framedBody, withoutBody, withoutCredentials } from '../headers.ts'
import { exchange, passAnswer, tap, UpstreamError } from '../relay.ts'
import type { Way } from '../way.ts'
import type { UpstreamAgents } from './agents.ts'
import type { Asked } from './asked.ts'
import { guestHeaders } from './redirect.ts'
import { replaceText } from './replace.ts'
import { isRouted, readPath } from './routes.ts'
import { destinationOf, formatCredential, type Upstream } from './upstream.ts'

/** Methods whose body is sent on. Of others none is: see `exchange`. */
const WITH_BODY = new Set(['POST', 'PUT', 'PATCH', 'DELETE'])

/** Fields by which a server may be told another method, path or client than the one that was checked. */
const OVERRIDES =
  /^(?:x-http-method(?:-override)?|x-method-override|x-original-url|x-rewrite-url|forwarded|x-forwarded-.*|x-real-ip)$/

/** The upstreams of all machines, and what is needed to ask them. */
export interface UpstreamSet {
  list: readonly Upstream[]
  /** Names of those that the settings name, and so open for every machine. */
  named: readonly string[]
  agents: UpstreamAgents
  secrets: Secrets
}

/** Whose machine asks. */
export type Asker = Omit<SecretUse, 'purpose'> & { userId: string }

/** The upstreams as one machine may use them. */
export class Upstreams {
  readonly #byName: ReadonlyMap<string, Upstream>
  readonly #agents: UpstreamAgents
  readonly #secrets: Secrets
  readonly #asker: Asker
  readonly #way: Way

  constructor({ list, agents, secrets }: UpstreamSet, asker: Asker, way: Way) {
    this.#byName = new Map(list.map((upstream) => [upstream.name, upstream]))
    this.#agents = agents
    this.#secrets = secrets
    this.#asker = asker
    this.#way = way
  }

  /** Forwards one request, if it may be made, with the credential in place of whatever the guest sent. Resolves when it has ended. */
  async serve(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, asked: Asked): Promise<void> {
    const upstream = this.#byName.get(asked.name)
    if (upstream === undefined) {
      this.#way.refused(`${asked.name}${UPSTREAM_SUFFIX}`, 'no such upstream')
      const names = [...this.#byName.keys()].join(', ')
      return answerText(stream, 404, `There is no upstream "${asked.name}" here; there are: ${names || 'none'}.`)
    }
    const method = headers[':method'] ?? ''
    const refusal = this.#check(upstream, method, asked.path)
    if (refusal !== undefined) return this.#refuse(stream, upstream, refusal)
    let credential: string | undefined
    try {
      credential = this.#credential(upstream)
    } catch (error) {
      if (!(error instanceof VivariumError)) throw error
      return this.#refuse(stream, upstream, { status: 403, rule: 'no credential', sentence: error.message })
    }
    const { inject } = upstream
    if (inject?.kind === 'secret' && inject.required && credential === undefined)
      return this.#refuse(stream, upstream, { status: 403, rule: 'no credential', sentence: missing(inject.secret) })
    await this.#forward(stream, headers, { upstream, method, asked, credential })
  }

  #check(upstream: Upstream, method: string, path: string): Refusal | undefined {
    const { name } = upstream
    const { policy } = this.#way
    const decision = policy.decideUpstream(name, destinationOf(upstream))
    if (!decision.allowed) return { status: 403, rule: decision.rule, sentence: decision.advice ?? decision.rule }
    const read = readPath(path)
    if (read === undefined) {
      const sentence =
        'This path could mean another one to the server: send it without dot segments, doubled slashes and the like.'
      return { status: 400, rule: `upstream ${name} takes no such path`, sentence }
    }
    const routes = [upstream.routes, ...policy.routesOf(name)]
    const isTaken =
      HTTP_METHODS.some((known) => known === method) && routes.every((rules) => isRouted(rules, method, read))
    if (isTaken) return undefined
    const what = `${method} ${path.split('?')[0] ?? ''}`.slice(0, 200)
    return {
      status: 403,
      rule: `upstream ${name} takes no ${what}`,
      sentence: `The upstream ${name} takes no ${what} here.`,
    }
  }

  #credential({ name, inject }: Upstream): string | undefined {
    if (inject?.kind !== 'secret') return inject?.value
    const { userId, ...use } = this.#asker
    const secret = this.#secrets.use(userId, inject.secret, { purpose: name, ...use })
    return secret === undefined ? undefined : formatCredential(inject.format, secret)
  }

  async #forward(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, call: Call): Promise<void> {
    const { upstream, method, asked, credential } = call
    const { url, name } = upstream
    const path = `${url.pathname.replace(/\/$/, '')}${asked.path}`
    const count = { out: 0, in: 0 }
    try {
      const request = this.#agents.request({ origin: url, method, path, headers: outgoing(stream, headers, call) })
      const body = WITH_BODY.has(method) ? tap((chunk) => (count.out += chunk.length)) : undefined
      const response = await exchange(stream, request, body)
      if (response.statusCode === 401 && credential === undefined && upstream.inject?.kind === 'secret') {
        // A client would ask its user for a password, whom nobody can answer.
        response.destroy()
        return answerText(stream, 403, missing(upstream.inject.secret))
      }
      const place = { upstream: url, guest: asked.guest, asked: new URL(`${url.origin}${path}`) }
      response.headers = guestHeaders(response.headers, place)
      await this.#pass(stream, response, call, (chunk) => (count.in += chunk.length))
    } catch (error) {
      if (!(error instanceof UpstreamError)) throw error
      answerText(stream, 502, `The upstream ${name} at ${url.origin} can't be reached: ${error.message}.`)
    } finally {
      const decision = { ...destinationOf(upstream), allowed: true, rule: `upstream ${name}` }
      this.#way.decided({ ...decision, bytesOut: count.out, bytesIn: count.in })
    }
  }

  #pass(stream: ServerHttp2Stream, response: IncomingMessage, call: Call, onChunk: (chunk: Buffer) => void) {
    const { upstream, method, asked } = call
    const isText = /^(?:application\/(?:[\w.-]+\+)?json|text\/html)\b/.test(response.headers['content-type'] ?? '')
    const isPlain = (response.headers['content-encoding'] ?? 'identity') === 'identity'
    const rewrites = upstream.rewritesBodies && isText && isPlain
    const through = rewrites ? replaceText(`${upstream.url.origin}/`, `${asked.guest}/`, onChunk) : tap(onChunk)
    // Cookies may stand for the credential; the length of a body that is rewritten is another.
    const drop = (field: string) => field === 'set-cookie' || (rewrites && field === 'content-length')
    return passAnswer(stream, response, { method, drop, through })
  }

  #refuse(stream: ServerHttp2Stream, upstream: Upstream, { status, rule, sentence }: Refusal): void {
    this.#way.decided({ ...destinationOf(upstream), allowed: false, rule })
    answerText(stream, status, sentence)
  }
}

interface Refusal {
  status: number
  rule: string
  sentence: string
}

interface Call {
  upstream: Upstream
  method: string
  asked: Asked
  credential: string | undefined
}

function outgoing(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, call: Call): OutgoingHttpHeaders {
  const { upstream, method, credential } = call
  // Some servers take `_` for `-`.
  const isOwn = (name: string) => !OVERRIDES.test(name) && name !== upstream.inject?.header
  const own = Object.entries(withoutCredentials(endToEnd(headers))).filter(([name]) => isOwn(name.replaceAll('_', '-')))
  const kept = Object.fromEntries(own)
  return {
    ...(WITH_BODY.has(method) ? { ...kept, ...framedBody(headers, stream.endAfterHeaders) } : withoutBody(kept)),
    ...(upstream.rewritesBodies ? { 'accept-encoding': 'identity' } : {}),
    host: upstream.url.host,
    ...(upstream.inject === undefined || credential === undefined ? {} : { [upstream.inject.header]: credential }),
  }
}

function missing(secret: string): string {
  return `This needs the secret "${secret}", which is not stored for you on this server: store it with "vivarium secret set ${secret}".`
}
