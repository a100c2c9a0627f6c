import { Agent as HttpAgent, request as httpRequest, type ClientRequest } from 'node:http'
import type { IncomingHttpHeaders } from 'node:http2'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { signed, type Credential } from './credentials.ts'
import { endToEnd, withoutBody, withoutCredentials } from './headers.ts'

/** A request as the guest made it. */
export interface GuestRequest {
  method: string
  path: string
  headers: IncomingHttpHeaders
}

const agents = { http: new HttpAgent({ keepAlive: true }), https: new HttpsAgent({ keepAlive: true }) }

/** Where the model's API is. Connections to it are kept, and shared by all machines. */
export class ModelEndpoint {
  readonly #url: URL

  constructor(url: string) {
    this.#url = new URL(url)
  }

  get origin(): string {
    return this.#url.origin
  }

  /** A request on its way, with the host's credential in place of whatever the guest sent. Its body is still to be written. */
  request({ method, path, headers }: GuestRequest, credential: Credential | undefined): ClientRequest {
    const own = withoutCredentials(endToEnd(headers))
    const clean = method === 'POST' ? own : withoutBody(own)
    const isHttps = this.#url.protocol === 'https:'
    const options = {
      agent: isHttps ? agents.https : agents.http,
      method,
      headers: {
        ...(credential === undefined ? clean : signed(clean, credential)),
        host: this.#url.host,
        // What is compressed can't be counted on its way.
        'accept-encoding': 'identity',
      },
    }
    const url = `${this.#url.origin}${this.#url.pathname.replace(/\/$/, '')}${path}`
    return isHttps ? httpsRequest(url, options) : httpRequest(url, options)
  }
}
