/** An MCP server over stdio for tests: `node stdio-fixture.ts URL KEY GRACE_MS`. */
import { Readable } from 'node:stream'
import { createClient } from '../../client/client.ts'
import { serveMcpStdio } from '../stdio.ts'

const [url = '', apiKey = '', graceMs = ''] = process.argv.slice(2)
await using server = serveMcpStdio({
  client: createClient({ url, apiKey }),
  packWorkspace: async (path) => Readable.from([Buffer.from(`tar of ${path}`)]),
  graceMs: Number(graceMs),
  progressMs: 50,
})
await server.closed
