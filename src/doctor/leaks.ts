import { existsSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { join } from 'node:path'
import { createClient } from '../client/client.ts'
import type { Config } from '../config/schema.ts'
import type { Leak } from '../contracts/server.ts'
import { findStrays } from '../machines/leaks.ts'
import { hostLeaks, stagingLeaks } from '../reaper/host.ts'
import type { FoundLeak } from '../reaper/types.ts'
import { findEndpoint } from '../server/endpoint.ts'
import { isLocked, lockDataFolder } from '../server/lock.ts'
import type { Check } from './types.ts'

type Folders = Pick<Config, 'home' | 'cacheDir' | 'runDir'>

/** As many as are worth reading. */
const SHOWN = 10

const ASK_MS = 10_000

/** What was made on this host and is nobody's any more. A server that runs knows best, and removes it by itself. */
export async function checkLeaks(config: Folders): Promise<Check> {
  const name = 'leaks'
  try {
    if (isLocked(config.home)) return told(await askServer(config.home), 'the server removes them within a minute')
    const waiting = journaledMachines(config.home).size
    const machines = waiting === 1 ? '1 machine waits' : `${waiting} machines wait`
    return told(await findLeaks(config), waiting === 0 ? 'no server runs' : `${machines} for the server's next start`)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    return { name, status: 'warning', detail: `could not be looked for: ${why}`, fix: null }
  }
}

/** Removes leaks while no server runs on the data folder; one that runs does so by itself. */
export async function removeLeaks(config: Folders): Promise<void> {
  if (!existsSync(config.home) || isLocked(config.home)) return
  using _lock = lockDataFolder(config.home)
  for (const { remove } of await findLeaks(config)) await remove()
}

async function findLeaks({ home, cacheDir, runDir }: Folders): Promise<FoundLeak[]> {
  const known = async () => journaledMachines(home)
  const strays = () => findStrays({ runDir, diskDir: join(home, 'machines'), known })
  const sources = [strays, stagingLeaks(home), ...hostLeaks({ home, cacheDir })]
  return (await Promise.all(sources.map((find) => find()))).flat()
}

async function askServer(home: string): Promise<Leak[]> {
  const endpoint = findEndpoint(home)
  if (endpoint === undefined) throw new Error('the server of this data folder is on its way: ask again in a moment')
  const client = createClient({ url: endpoint.url, apiKey: endpoint.key })
  return client.leaks({ signal: AbortSignal.timeout(ASK_MS) })
}

/** What a server's next start takes up, or removes. */
function journaledMachines(home: string): ReadonlySet<string> {
  const path = join(home, 'vivarium.db')
  if (!existsSync(path)) return new Set()
  using database = new DatabaseSync(path, { readOnly: true })
  const table = database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'machines'").get()
  const rows = table === undefined ? [] : database.prepare('SELECT id FROM machines').all()
  return new Set(rows.map(({ id }) => String(id)))
}

function told(leaks: readonly Pick<Leak, 'what' | 'why'>[], note: string): Check {
  const name = 'leaks'
  if (leaks.length === 0) return { name, status: 'ok', detail: `none (${note})`, fix: null }
  const shown = leaks.slice(0, SHOWN).map(({ what, why }) => `${what} (${why})`)
  const more = leaks.length > SHOWN ? [`and ${leaks.length - SHOWN} more`] : []
  const detail = `${[...shown, ...more].join('; ')}; ${note}`
  return { name, status: 'warning', detail, fix: 'vivarium doctor --fix' }
}
