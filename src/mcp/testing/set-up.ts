import { fileURLToPath } from 'node:url'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio'
import { createApp } from '../../api/app.ts'
import { listen } from '../../api/listen.ts'
import { fakeOptions, fakeServices } from '../../api/testing/fake-services.ts'
import { createMcpEndpoint } from '../endpoint.ts'

export type Era = 'legacy' | 'modern'
export type Transport = 'http' | 'stdio'

/** A server with faked services on a free port, and official MCP clients of it. Disposing closes all of them. */
export async function setUpMcp(options: { graceMs?: number } = {}) {
  const graceMs = options.graceMs ?? 60_000
  const stack = new AsyncDisposableStack()
  const fakes = fakeServices()
  fakes.services.mcp = createMcpEndpoint(fakes.services.shutdown.ending, { graceMs, progressMs: 50 })
  const app = createApp(fakes.services, fakeOptions)
  const server = stack.use(await listen(app.fetch, { host: '127.0.0.1', port: 0 }))

  async function connect(transport: Transport, era: Era, key = 'vv_ada'): Promise<Client> {
    const client = new Client(
      { name: 'test', version: '1' },
      { versionNegotiation: { mode: era === 'legacy' ? 'legacy' : { pin: '2026-07-28' } } },
    )
    await client.connect(transport === 'http' ? overHttp(key) : overStdio(key))
    stack.defer(() => client.close())
    return client
  }

  function overHttp(key: string) {
    const headers = { authorization: `Bearer ${key}` }
    return new StreamableHTTPClientTransport(new URL(`${server.url}/mcp`), { requestInit: { headers } })
  }

  function overStdio(key: string) {
    const fixture = fileURLToPath(new URL('stdio-fixture.ts', import.meta.url))
    return new StdioClientTransport({ command: process.execPath, args: [fixture, server.url, key, String(graceMs)] })
  }

  return { ...fakes, server, connect, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}
