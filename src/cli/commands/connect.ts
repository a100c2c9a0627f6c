import { resolve } from 'node:path'
import { isSea } from 'node:sea'
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import { findServer } from '../connection.ts'
import type { Io } from '../io.ts'

export function registerConnect(program: Command, io: Io): void {
  program
    .command('connect')
    .description('Print how Claude Code connects to this server.')
    .action(async () => {
      const { url, apiKey } = await findServer(io, { start: false })
      const header = `Authorization: Bearer ${apiKey}`
      const entry = { type: 'http', url: `${url}/mcp`, headers: { Authorization: `Bearer ${apiKey}` } }
      const home = io.env['VIVARIUM_HOME']
      const environment = home ? ` -e VIVARIUM_HOME=${quoted(resolve(io.cwd, home))}` : ''
      io.print(io.paint.bold(isLoopback(url) ? 'Over HTTP, on this machine:' : 'Over HTTP:'))
      io.print(`claude mcp add --transport http vivarium ${url}/mcp --header "${header}"`)
      io.print(`\n${io.paint.bold('The same as .mcp.json:')}`)
      io.print(JSON.stringify({ mcpServers: { vivarium: entry } }, null, 2))
      io.print(`\n${io.paint.bold('Over stdio, on this machine (starts a server where none runs):')}`)
      io.print(`claude mcp add vivarium${environment} -- ${quoted(programPath())} mcp`)
      io.print(`\n${io.paint.bold('In a browser:')}`)
      io.print(`${url}/#key=${apiKey}`)
    })
}

/** This program as others start it: the executable, or the clone's script. */
function programPath(): string {
  return isSea() ? process.execPath : fileURLToPath(new URL('../../../vivarium', import.meta.url))
}

/** A word for a shell. */
function quoted(word: string): string {
  return /^[\w./:@-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}

function isLoopback(url: string): boolean {
  return ['127.0.0.1', '[::1]', 'localhost'].includes(new URL(url).hostname)
}
