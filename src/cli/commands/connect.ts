import { resolve } from 'node:path'
import { isSea } from 'node:sea'
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import { z } from 'zod'
import { loadConfig } from '../../config/load.ts'
import { Settings } from '../../config/schema.ts'
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

  program
    .command('config')
    .description('Print the settings in force and where each value came from.')
    .option('--json', 'print JSON')
    .option('--schema', 'print the JSON schema of the settings file instead')
    .action((options: { json?: true; schema?: true }) => {
      if (options.schema === true) return io.print(JSON.stringify(z.toJSONSchema(Settings, { io: 'input' }), null, 2))
      const { config, origins } = loadConfig({}, undefined, io.env)
      const { credentials, ...shown } = config
      const kinds = {
        apiKey: credentials.apiKey !== undefined,
        oauthToken: credentials.oauthToken !== undefined,
        masterKey: credentials.masterKey !== undefined,
      }
      if (options.json === true) return io.print(JSON.stringify({ ...shown, credentials: kinds, origins }, null, 2))
      for (const [path, origin] of Object.entries(origins))
        io.print(`${path} = ${valueAt(config, path)}  ${io.paint.grey(`(${origin})`)}`)
      io.print(`home = ${config.home}\ncacheDir = ${config.cacheDir}\nrunDir = ${config.runDir}`)
      io.print(
        `ANTHROPIC_API_KEY ${kinds.apiKey ? 'is set' : 'is not set'}, CLAUDE_CODE_OAUTH_TOKEN ${kinds.oauthToken ? 'is set' : 'is not set'}`,
      )
    })
}

function valueAt(config: object, path: string): string {
  const value = path.split('.').reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], config)
  return JSON.stringify(value)
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
