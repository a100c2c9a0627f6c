import type { Command } from 'commander'
import type { SecretOwner, VivariumClient } from '../../client/types.ts'
import type { AuditEntry } from '../../contracts/secret.ts'
import { connect } from '../connection.ts'
import type { Io } from '../io.ts'
import { number } from '../options.ts'
import { table } from '../render.ts'
import { readSecret } from '../secret-input.ts'
import { userId } from './people.ts'

interface WhoseOptions {
  shared?: true
  user?: string
}

export function registerSecrets(program: Command, io: Io): void {
  const secret = program.command('secret').description('Credentials, for use by machines through the gateway only.')
  secret
    .command('set <name>')
    .description('Store one, or give it a new value: from standard input, or asked for without showing it.')
    .option('--shared', 'for all users (the owner only)')
    .option('--user <name>', 'for somebody else (the owner only)')
    .addHelpText('after', '\nNames used by themselves: anthropic-api-key, claude-oauth-token, github.')
    .action(async (name: string, options: WhoseOptions) => {
      const client = await connect(io)
      const owner = await ownerOf(client, options)
      const { version } = await client.secrets.set(name, await readSecret(io, `Value of ${name}`), owner)
      io.print(`${name} ${version === 1 ? 'stored' : 'replaced'}`)
    })
  secret
    .command('list')
    .description('List them, never their values: yours and the shared ones, everybody’s for the owner.')
    .option('--json', 'print JSON')
    .action(async (options: { json?: true }) => {
      const client = await connect(io)
      const secrets = await client.secrets.list()
      if (options.json === true) return io.print(JSON.stringify(secrets))
      const nameOf = await userNames(client)
      const rows = secrets.map((each) => [
        each.name,
        each.userId === null ? 'shared' : nameOf(each.userId),
        String(each.version),
        each.updatedAt,
        each.lastUsedAt ?? 'never',
      ])
      io.print(table([['SECRET', 'OF', 'VERSION', 'SET', 'LAST USED'], ...rows]))
    })
  secret
    .command('rm <name>')
    .description('Remove one.')
    .option('--shared', 'the one for all users (the owner only)')
    .option('--user <name>', 'somebody else’s (the owner only)')
    .action(async (name: string, options: WhoseOptions) => {
      const client = await connect(io)
      await client.secrets.remove(name, await ownerOf(client, options))
      io.print(`${name} removed`)
    })
  secret
    .command('rotate')
    .description('Encrypt all of them anew (the owner only). A new value is given with "set".')
    .option('--master', 'under a new master key as well')
    .action(async (options: { master?: true }) => {
      const { secrets, master } = await (await connect(io)).secrets.rotate({ master: options.master === true })
      io.print(`${secrets} encrypted anew${master ? ', under a new master key' : ''}`)
    })
  secret
    .command('audit [name]')
    .description('Who used and changed them, newest first.')
    .option('--limit <n>', 'lines at most', number('limit'), 100)
    .option('--json', 'print JSON')
    .action(async (name: string | undefined, options: { limit: number; json?: true }) => {
      const client = await connect(io)
      const lines = await client.secrets.audit({ ...(name !== undefined && { name }), limit: options.limit })
      if (options.json === true) return io.print(JSON.stringify(lines))
      const nameOf = await userNames(client)
      io.print(table([['AT', 'WHAT', 'SECRET', 'OF', 'BY', 'FOR'], ...lines.map((line) => auditRow(line, nameOf))]))
    })
}

function auditRow(line: AuditEntry, nameOf: (id: string) => string): string[] {
  const owner = line.ownerId === null ? (line.name === '*' ? 'all' : 'shared') : nameOf(line.ownerId)
  const by = line.userId === null ? 'the server' : nameOf(line.userId)
  const place = [line.purpose, line.taskId ?? '', line.machineId ?? ''].filter((part) => part !== '').join(' ')
  return [line.at, line.count === 1 ? line.action : `${line.action} ×${line.count}`, line.name, owner, by, place]
}

/** Names for ids, as far as the caller may know them: their own, and for the owner everybody's. */
async function userNames(client: VivariumClient): Promise<(id: string) => string> {
  const me = await client.me()
  const users = me.isOwner ? await client.users.list() : [me]
  const names = new Map(users.map(({ id, name }) => [id, name]))
  return (id) => names.get(id) ?? id
}

async function ownerOf(client: VivariumClient, { shared, user }: WhoseOptions): Promise<SecretOwner> {
  return {
    ...(shared === true && { shared }),
    ...(user !== undefined && { userId: await userId(client, user) }),
  }
}
