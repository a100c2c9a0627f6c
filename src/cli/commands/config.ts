import type { Command } from 'commander'
import { z } from 'zod'
import { loadConfig } from '../../config/load.ts'
import { type Config, Settings } from '../../config/schema.ts'
import type { Io } from '../io.ts'

export function registerConfig(program: Command, io: Io): void {
  program
    .command('config')
    .description('Print the settings in force and where each value came from; never a secret.')
    .option('--json', 'print JSON')
    .option('--schema', 'print the JSON schema of the settings file instead')
    .option('--config <file>', 'settings file')
    .action((options: { json?: true; schema?: true; config?: string }) => {
      if (options.schema === true) return io.print(JSON.stringify(z.toJSONSchema(Settings, { io: 'input' }), null, 2))
      const { config, origins } = loadConfig({}, options.config, io.env)
      const { credentials, ...shown } = config
      const set = credentialsSet(credentials)
      if (options.json === true)
        return io.print(withoutPasswords(JSON.stringify({ ...shown, credentials: set, origins }, null, 2)))
      for (const [path, origin] of Object.entries(origins))
        io.print(`${path} = ${withoutPasswords(valueAt(config, path))}  ${io.paint.grey(`(${origin})`)}`)
      for (const [name, isSet] of Object.entries(set)) io.print(`${name} ${isSet ? 'is set' : 'is not set'}`)
    })
}

/** Which secrets of the environment are there, by variable. */
function credentialsSet(credentials: Config['credentials']): Record<string, boolean> {
  return {
    ANTHROPIC_API_KEY: credentials.apiKey !== undefined,
    CLAUDE_CODE_OAUTH_TOKEN: credentials.oauthToken !== undefined,
    VIVARIUM_MASTER_KEY: credentials.masterKey !== undefined,
    VIVARIUM_PREVIOUS_MASTER_KEY: credentials.previousMasterKey !== undefined,
  }
}

function valueAt(config: object, path: string): string {
  const value = path.split('.').reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], config)
  return JSON.stringify(value) ?? 'not set'
}

/** Addresses may hold a user and a password. */
function withoutPasswords(text: string): string {
  return text.replaceAll(/(https?:\/\/)[^\s"/@]*@/gi, '$1***@')
}
