import type { Readable, Writable } from 'node:stream'
import { serveStdio, StdioServerTransport } from '@modelcontextprotocol/server/stdio'
import type { VivariumClient } from '../client/types.ts'
import { Grace } from './grace.ts'
import { createMcpServer } from './server.ts'
import { MCP_DEFAULTS, type McpOptions } from './types.ts'

/** Tasks come with their files, as over HTTP. */
const MAX_MESSAGE_BYTES = 96 * 1024 * 1024

export interface StdioOptions extends McpOptions {
  client: VivariumClient
  /** A folder of this machine as a tar stream, for `workspace_path`. */
  packWorkspace: (path: string) => Promise<Readable>
  stdin: Readable
  stdout: Writable
}

export interface StdioServer extends AsyncDisposable {
  /** Resolves when the client has closed its end. */
  closed: Promise<void>
}

/**
 * MCP over stdio, both protocol eras. Tasks whose `run_task` was under way when the client left go on: with this process
 * goes the one who would cancel them, and a client that is started anew finds them with `wait_for_task`.
 */
export function serveMcpStdio(
  options: Pick<StdioOptions, 'client' | 'packWorkspace'> & Partial<StdioOptions>,
): StdioServer {
  const { client, packWorkspace, stdin = process.stdin, stdout = process.stdout } = options
  const grace = new Grace(options.graceMs ?? MCP_DEFAULTS.graceMs)
  const progressMs = options.progressMs ?? MCP_DEFAULTS.progressMs
  const closed = Promise.withResolvers<void>()
  const transport = new StdioServerTransport(stdin, stdout, { maxBufferSize: MAX_MESSAGE_BYTES })
  // This process has no tasks of its own: when the server restarts, it follows them again.
  const ending = new AbortController().signal
  const listenForCancel = () => undefined
  const factory = () => createMcpServer({ client, grace, progressMs, ending, packWorkspace, listenForCancel })
  const handle = serveStdio(factory, { transport })
  stdin.once('close', closed.resolve)
  stdin.once('end', closed.resolve)
  return {
    closed: closed.promise,
    async [Symbol.asyncDispose]() {
      grace.close()
      await handle.close()
    },
  }
}
