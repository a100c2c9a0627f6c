import type { Command } from 'commander'
import { VivariumError } from '../../contracts/errors.ts'
import type { UsageGrouping } from '../../contracts/usage.ts'
import type { VivariumClient } from '../../client/types.ts'
import { connect } from '../connection.ts'
import type { Io } from '../io.ts'
import { formatUsd, table } from '../render.ts'

export function registerPeople(program: Command, io: Io): void {
  const user = program.command('user').description('People who may use this server (the owner’s to manage).')
  user
    .command('list')
    .description('List them.')
    .action(async () => {
      const users = await (await connect(io)).users.list()
      io.print(table([['USER', 'NAME', 'SINCE'], ...users.map((each) => [each.id, each.name, each.createdAt])]))
    })
  user
    .command('add <name>')
    .description('Add one, and print a first API key for them.')
    .action(async (name: string) => {
      const client = await connect(io)
      const added = await client.users.create(name)
      const { key } = await client.keys.create({ userId: added.id, label: 'first key' })
      io.note(`Added ${added.name} (${added.id}). This is their API key; it is shown only now:`)
      io.print(key)
    })
  user
    .command('remove <name>')
    .description('Remove one and their keys.')
    .action(async (name: string) => {
      const client = await connect(io)
      await client.users.remove(await userId(client, name))
      io.print(`${name} removed`)
    })

  const key = program.command('key').description('API keys.')
  key
    .command('list')
    .description('List keys: yours, or everybody’s for the owner.')
    .action(async () => {
      const keys = await (await connect(io)).keys.list()
      const rows = keys.map((each) => [each.id, `${each.prefix}…`, each.userId, each.label, each.lastUsedAt ?? 'never'])
      io.print(table([['KEY', 'BEGINS', 'USER', 'LABEL', 'LAST USED'], ...rows]))
    })
  key
    .command('add')
    .description('Make a key and print it; it is shown only then.')
    .option('--label <text>', 'what it is for', 'key')
    .option('--user <name>', 'for somebody else (the owner only)')
    .action(async (options: { label: string; user?: string }) => {
      const client = await connect(io)
      const owner = options.user === undefined ? {} : { userId: await userId(client, options.user) }
      io.print((await client.keys.create({ label: options.label, ...owner })).key)
    })
  key
    .command('remove <id>')
    .description('Remove a key.')
    .action(async (id: string) => {
      await (await connect(io)).keys.remove(id)
      io.print(`${id} removed`)
    })

  program
    .command('usage')
    .description('Tokens and cost.')
    .option('--by <what>', 'user, task, model or day', 'day')
    .option('--since <date>', 'from this day on (YYYY-MM-DD)')
    .option('--json', 'print JSON')
    .action(async (options: { by: UsageGrouping; since?: string; json?: true }) => {
      const rows = await (await connect(io)).usage({ by: options.by, ...(options.since && { since: options.since }) })
      if (options.json === true) return io.print(JSON.stringify(rows))
      const cells = rows.map((each) => [
        each.key,
        String(each.requests),
        String(each.inputTokens),
        String(each.outputTokens),
        String(each.cacheReadTokens),
        String(each.cacheWriteTokens),
        formatUsd(each.costUsd),
      ])
      io.print(
        table([[options.by.toUpperCase(), 'REQUESTS', 'IN', 'OUT', 'CACHE READ', 'CACHE WRITE', 'COST'], ...cells]),
      )
    })
}

async function userId(client: VivariumClient, name: string): Promise<string> {
  const user = (await client.users.list()).find((each) => each.name === name || each.id === name)
  if (user === undefined) throw new VivariumError('not_found', `There is no user ${name}: see "vivarium user list".`)
  return user.id
}
