import { setInterval as every } from 'node:timers/promises'
import type { Command } from 'commander'
import type { VivariumClient } from '../../client/types.ts'
import { serveMcpStdio } from '../../mcp/stdio.ts'
import { connect } from '../connection.ts'
import { untilAborted, type Io } from '../io.ts'
import { packWorkspace } from '../workspace.ts'

/** A server in the background leaves when it hears from nobody; an open window of Claude Code is somebody. */
const SIGN_OF_LIFE_MS = 60_000

export function registerMcp(program: Command, io: Io): void {
  program
    .command('mcp')
    .description('MCP over stdio, for a client on this machine.')
    .action(async () => {
      const client = await connect(io, { start: true })
      const done = new AbortController()
      const signal = AbortSignal.any([io.signal, done.signal])
      void showLife(client, signal)
      await using server = serveMcpStdio({ client, packWorkspace })
      await Promise.race([server.closed, untilAborted(io.signal)])
      done.abort()
    })
}

async function showLife(client: VivariumClient, signal: AbortSignal): Promise<void> {
  try {
    for await (const _ of every(SIGN_OF_LIFE_MS, undefined, { signal, ref: false }))
      await client.health({ signal }).catch(() => {})
  } catch {
    // Aborted: the client has left.
  }
}
