import type { Command } from 'commander'
import { loadConfig } from '../../config/load.ts'
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
      io.print(io.paint.bold('Over HTTP, from any machine that reaches this one:'))
      io.print(`claude mcp add --transport http vivarium ${url}/mcp --header "${header}"`)
      io.print(`\n${io.paint.bold('The same as .mcp.json:')}`)
      io.print(JSON.stringify({ mcpServers: { vivarium: entry } }, null, 2))
      io.print(`\n${io.paint.bold('Over stdio, on this machine:')}`)
      io.print('claude mcp add vivarium -- vivarium mcp')
      io.print(`\n${io.paint.bold('In a browser:')}`)
      io.print(`${url}/#key=${apiKey}`)
    })

  program
    .command('config')
    .description('Print the settings in force and where each value came from.')
    .option('--json', 'print JSON')
    .action((options: { json?: true }) => {
      const { config, origins } = loadConfig({}, undefined, io.env)
      const { credentials, ...shown } = config
      const kinds = { apiKey: credentials.apiKey !== undefined, oauthToken: credentials.oauthToken !== undefined }
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
