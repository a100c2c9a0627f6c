import { Agent as HttpAgent, request as httpRequest, type ClientRequest, type OutgoingHttpHeaders } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { getCACertificates } from 'node:tls'

/** What a request to an upstream is made of. `path` has been checked; it goes out as it is. */
export interface UpstreamCall {
  origin: URL
  method: string
  path: string
  headers: OutgoingHttpHeaders
}

/** Sends requests to upstreams over connections that are kept. */
export class UpstreamAgents {
  readonly #http = new HttpAgent({ keepAlive: true })
  readonly #certificates: () => string[]
  #https: HttpsAgent | undefined

  /** `certificates` are the authorities trusted; by default also those added to this host, which Node alone does not know. */
  constructor(certificates = () => [...getCACertificates('default'), ...getCACertificates('system')]) {
    this.#certificates = certificates
  }

  request({ origin, method, path, headers }: UpstreamCall): ClientRequest {
    const to = { hostname: origin.hostname.replace(/^\[|\]$/g, ''), port: origin.port, method, path, headers }
    if (origin.protocol !== 'https:') return httpRequest({ ...to, agent: this.#http })
    this.#https ??= new HttpsAgent({ keepAlive: true, ca: this.#certificates() })
    return httpsRequest({ ...to, agent: this.#https })
  }
}
