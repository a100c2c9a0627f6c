import { Option, type Command } from 'commander'
import { VivariumError } from '../../contracts/errors.ts'
import { usageCsv } from '../../contracts/usage-csv.ts'
import { UsageGrouping, type UsageRow } from '../../contracts/usage.ts'
import type { VivariumClient } from '../../client/types.ts'
import { harmless } from '../colour.ts'
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
    .addOption(new Option('--by <what>', 'group by this').choices(UsageGrouping.options).default('day'))
    .addOption(new Option('--split <what>', 'and by this').choices(UsageGrouping.options))
    .option('--since <date>', 'from this day on (YYYY-MM-DD, UTC)')
    .option('--task <id>', 'of one task only')
    .addOption(new Option('--json', 'print JSON').conflicts('csv'))
    .option('--csv', 'print CSV')
    .action(async ({ json, csv, ...query }: UsageOptions) => {
      const rows = await (await connect(io)).usage({ ...query, ...(csv === true && { limit: MAX_CSV_ROWS }) })
      if (json === true) return io.print(JSON.stringify(rows))
      if (csv === true) return io.print(usageCsv(rows, query.by, query.split).trimEnd())
      io.print(usageTable(rows, query))
    })
}

interface UsageOptions {
  by: UsageGrouping
  split?: UsageGrouping
  since?: string
  task?: string
  json?: true
  csv?: true
}

/** As many as the API gives. */
const MAX_CSV_ROWS = 100_000

/** Rows in columns. A cost that lacks requests without a known price ends in `+ ?`. */
export function usageTable(rows: UsageRow[], { by, split }: Pick<UsageOptions, 'by' | 'split'>): string {
  const keys = split === undefined || split === by ? [by] : [by, split]
  const head = [...keys.map((key) => key.toUpperCase()), 'REQUESTS', 'IN', 'OUT', 'CACHE READ', 'CACHE WRITE', 'COST']
  const lines = rows.map((row) => [
    ...[row.name ?? row.key, row.split ?? ''].slice(0, keys.length).map(harmless),
    String(row.requests),
    String(row.inputTokens),
    String(row.outputTokens),
    String(row.cacheReadTokens),
    String(row.cacheWriteTokens),
    `${formatUsd(row.costUsd)}${row.unpriced > 0 ? ' + ?' : ''}`,
  ])
  const unpriced = rows.reduce((sum, row) => sum + row.unpriced, 0)
  const incomplete = rows.reduce((sum, row) => sum + row.incomplete, 0)
  const notes = [
    ...(unpriced > 0 ? [`${unpriced} requests went to models without a known price (settings: prices).`] : []),
    ...(incomplete > 0 ? [`${incomplete} answers were cut off or never came; they are counted at an estimate.`] : []),
  ]
  return [table([head, ...lines]), ...notes].join('\n')
}

/** The id of a user given by name or id; rejects with `not_found`. */
export async function userId(client: VivariumClient, name: string): Promise<string> {
  const user = (await client.users.list()).find((each) => each.name === name || each.id === name)
  if (user === undefined) throw new VivariumError('not_found', `There is no user ${name}: see "vivarium user list".`)
  return user.id
}
