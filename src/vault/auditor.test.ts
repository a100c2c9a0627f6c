import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { newId } from '../contracts/ids.ts'
import { openDatabase, type Database } from '../store/database.ts'
import { createLogger } from '../telemetry/logger.ts'
import { useLine } from './audit-line.ts'
import { Auditor } from './auditor.ts'

const ada = newId('u')
const SECRET = { userId: ada, name: 'github' }
const USE = { purpose: 'github', machineId: newId('vm'), taskId: null }
const OTHER = { ...USE, machineId: newId('vm') }

let database: Database
let logged: string[]

beforeEach(async () => {
  database = await openDatabase(':memory:')
  logged = []
})

afterEach(async () => {
  vi.useRealTimers()
  await database.destroy()
})

const auditor = () => new Auditor(database, createLogger('error', { write: (line) => logged.push(line) }))

async function counts(): Promise<number[]> {
  const rows = await database.selectFrom('audit').select('count').orderBy('id').execute()
  return rows.map(({ count }) => count)
}

test('a machine that uses a secret a thousand times a minute has every use counted, in a few lines', async () => {
  vi.useFakeTimers({ toFake: ['Date', 'setInterval', 'clearInterval'], now: new Date('2026-01-01T00:00:00Z') })
  {
    await using audit = auditor()
    for (let use = 0; use < 1000; use += 1) audit.used(SECRET, ada, USE)
    audit.used(SECRET, ada, OTHER)
    vi.setSystemTime('2026-01-01T00:01:00Z')
    audit.used(SECRET, ada, USE)
  }
  const lines = await counts()
  expect(lines.reduce((sum, count) => sum + count, 0)).toBe(1002)
  expect(lines).toHaveLength(23)
  expect(lines.filter((count) => count > 1)).toEqual([980])
})

test('what a flood has left over is written within the next minutes, without another use', async () => {
  vi.useFakeTimers({ toFake: ['Date', 'setInterval', 'clearInterval'], now: new Date('2026-01-01T00:00:00Z') })
  await using audit = auditor()
  for (let use = 0; use < 30; use += 1) audit.used(SECRET, ada, USE)
  vi.advanceTimersByTime(120_000)
  await expect.poll(counts).toContain(10)
})

test('uses are kept for ninety days, and changes longer', async () => {
  const old = new Date(Date.now() - 91 * 24 * 3600 * 1000).toISOString()
  const line = useLine(SECRET, ada, USE)
  await database
    .insertInto('audit')
    .values([
      { ...line, at: old },
      { ...line, at: old, action: 'set' },
      { ...line, action: 'use' },
    ])
    .execute()
  await using audit = auditor()
  await audit.prune()
  expect((await audit.query({ limit: 10 })).map(({ action }) => action)).toEqual(['use', 'set'])
})

test('a use that the store does not take is told in the log', async () => {
  await database.schema.dropTable('audit').execute()
  {
    await using audit = auditor()
    audit.used(SECRET, ada, USE)
  }
  expect(logged.join()).toMatch(/not written to the audit/)
  expect(logged.join()).toContain(USE.machineId)
})
