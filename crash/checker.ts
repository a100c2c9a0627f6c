/**
 * What is left of an orchestrator that was killed, judged from outside: this module reads the database, the files, /proc and
 * control groups by itself and shares nothing with the product, so that a mistake there is not made here as well.
 */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

/** Where everything of one orchestrator lies. */
export interface Premises {
  home: string
  runDir: string
}

/** A task that was answered for, and what it must have done if it has succeeded. */
export interface Expectation {
  id: string
  key: string
  lines: number
  longLine: number
  files: string[]
  questions: number
}

/** An answer that the model has given: to which task, and what it costs. */
export interface ModelAnswer {
  key: string
  isWhole: boolean
  inputTokens: number
  outputTokens: number
}

interface TaskRow {
  id: string
  status: string
  idempotency_key: string | null
  input_tokens: number
  output_tokens: number
  error_json: string | null
}

interface EventRow {
  seq: number
  type: string
  body_json: string
  payload_bytes: number | null
}

const FINAL = new Set(['succeeded', 'failed', 'cancelled', 'timed_out', 'over_budget', 'interrupted'])

/** What must hold at any moment, also while no orchestrator runs. Each violation is a sentence. */
export function checkRunning(premises: Premises, expected: readonly Expectation[]): string[] {
  using database = open(premises)
  return [
    ...checkDatabase(database),
    ...expected.flatMap((task) => checkAccepted(database, task)),
    ...taskRows(database).flatMap((task) => checkLog(premises, task, eventRows(database, task.id))),
  ]
}

/** What must hold besides once every task has ended and the orchestrator was stopped in order. */
export function checkStopped(
  premises: Premises,
  expected: readonly Expectation[],
  answers: readonly ModelAnswer[],
): string[] {
  using database = open(premises)
  const tasks = new Map(taskRows(database).map((row) => [row.id, row]))
  return [
    ...checkRunning(premises, expected),
    // No machine was ever lost, and nobody asked a task to stop.
    ...[...tasks.values()]
      .filter(({ status }) => status !== 'succeeded')
      .map(({ id, status, error_json }) => `${id} is ${status}: ${error_json}.`),
    ...expected
      .filter(({ id }) => tasks.get(id)?.status === 'succeeded')
      .flatMap((task) => checkOutput(premises, database, task)),
    ...expected.flatMap((task) => checkUsage(database, task, tasks.get(task.id), answers)),
    ...checkFiles(premises, database),
    ...checkLeftovers(premises, database),
  ]
}

/** How many tasks ended in which way; others than `succeeded` with their reasons. */
export function endings(premises: Premises): Record<string, number> {
  using database = open(premises)
  const counts: Record<string, number> = {}
  for (const { status, error_json } of taskRows(database)) {
    const { message = '' } = (JSON.parse(error_json ?? '{}') ?? {}) as { message?: string }
    const ending = message === '' ? status : `${status}: ${message}`
    counts[ending] = (counts[ending] ?? 0) + 1
  }
  return counts
}

function open({ home }: Premises): DatabaseSync {
  return new DatabaseSync(join(home, 'vivarium.db'), { readOnly: true })
}

function taskRows(database: DatabaseSync): TaskRow[] {
  const columns = 'id, status, idempotency_key, input_tokens, output_tokens, error_json'
  return database.prepare(`SELECT ${columns} FROM tasks`).all() as unknown as TaskRow[]
}

function eventRows(database: DatabaseSync, taskId: string): EventRow[] {
  const columns = 'seq, type, body_json, payload_bytes'
  const query = `SELECT ${columns} FROM events WHERE task_id = ? ORDER BY seq`
  return database.prepare(query).all(taskId) as unknown as EventRow[]
}

function checkDatabase(database: DatabaseSync): string[] {
  const { integrity_check: answer } = database.prepare('PRAGMA integrity_check').get() as { integrity_check: string }
  return answer === 'ok' ? [] : [`The database is damaged: ${answer}.`]
}

/** A task that a client was told of is there, once. */
function checkAccepted(database: DatabaseSync, { id, key }: Expectation): string[] {
  const rows = database.prepare('SELECT id FROM tasks WHERE idempotency_key = ?').all(key)
  if (rows.length === 1 && rows[0]?.['id'] === id) return []
  return [`"${key}" was accepted as ${id}, but there are the tasks ${JSON.stringify(rows.map((row) => row['id']))}.`]
}

/** Numbers without hole or twin, one final event at most, nothing behind it, every body there. */
function checkLog(premises: Premises, { id, status }: TaskRow, events: EventRow[]): string[] {
  const found: string[] = []
  const hole = events.find(({ seq }, index) => seq !== index + 1)
  if (hole !== undefined) found.push(`The log of ${id} has event ${hole.seq} where another should be.`)
  const finals = events.filter((event) => event.type === 'status' && FINAL.has(statusOf(event)))
  if (finals.length > 1) found.push(`The log of ${id} has ${finals.length} final events.`)
  const last = finals[0]
  if (last !== undefined && last !== events.at(-1)) found.push(`The log of ${id} goes on after its end.`)
  if (FINAL.has(status) && (last === undefined || statusOf(last) !== status))
    found.push(`${id} is ${status}, but its log ends ${last === undefined ? 'open' : statusOf(last)}.`)
  for (const { seq, payload_bytes } of events) {
    if (payload_bytes === null) continue
    const size = statSync(payloadOf(premises, id, seq), { throwIfNoEntry: false })?.size
    if (size !== payload_bytes) found.push(`The body of event ${seq} of ${id} has ${size} bytes, not ${payload_bytes}.`)
  }
  return found
}

function statusOf({ body_json }: EventRow): string {
  return (JSON.parse(body_json) as { status: string }).status
}

function payloadOf({ home }: Premises, taskId: string, seq: number): string {
  return join(home, 'payloads', taskId, `${seq}.json`)
}

/** All that was printed is in the log, once and in order, and the files are what the guest said they are. */
function checkOutput(premises: Premises, database: DatabaseSync, task: Expectation): string[] {
  const { id, lines, longLine, files } = task
  const printed = eventRows(database, id)
    .filter(({ type }) => type === 'raw')
    .map(({ seq, body_json, payload_bytes }) => {
      const body = payload_bytes === null ? body_json : readFileSync(payloadOf(premises, id, seq), 'utf8')
      return (JSON.parse(body) as { text: string }).text
    })
    .join('')
    .split('\n')
  const expected = [
    ...Array.from({ length: lines }, (_, index) => `line ${index + 1}`),
    ...(longLine > 0 ? [`long ${'"'.repeat(longLine)}`] : []),
  ]
  const wrong = expected.findIndex((line, index) => printed[index] !== line)
  if (wrong !== -1)
    return [
      `The output of ${id} has ${cut(printed[wrong])} for line ${wrong + 1} of ${printed.length}, not ${cut(expected[wrong])}.`,
    ]
  const rest = printed.slice(expected.length)
  const hashes = rest.flatMap((line) => /^hash ([0-9a-f]{64}) (.+)$/.exec(line)?.slice(1) ?? [])
  const [end, nothing] = rest.slice(-2)
  if (hashes.length !== 2 * files.length || rest.length !== files.length + 2 || end !== 'done' || nothing !== '')
    return [`The output of ${id} ends with ${cut(rest.join(' | '))}.`]
  return files.flatMap((path) => checkFile(premises, database, id, path, hashes[hashes.indexOf(path) - 1]))
}

function cut(text: string | undefined): string {
  return JSON.stringify(text === undefined || text.length <= 100 ? text : `${text.slice(0, 100)}…`)
}

function checkFile(
  { home }: Premises,
  database: DatabaseSync,
  taskId: string,
  path: string,
  hash: string | undefined,
): string[] {
  const row = database.prepare('SELECT size FROM result_files WHERE task_id = ? AND path = ?').get(taskId, path)
  const file = join(home, 'blobs/objects/results', taskId, 'files', path)
  if (row === undefined || !existsSync(file)) return [`The file ${path} of ${taskId} did not come back.`]
  const content = readFileSync(file)
  const isSame = createHash('sha256').update(content).digest('hex') === hash && content.length === row['size']
  return isSame ? [] : [`The file ${path} of ${taskId} is not what the guest wrote.`]
}

/** Every answer of the model is counted once: whole where all of it was served and arrived, else as cut off. */
function checkUsage(
  database: DatabaseSync,
  { id, key, questions }: Expectation,
  row: TaskRow | undefined,
  answers: readonly ModelAnswer[],
): string[] {
  const columns = 'input_tokens AS input, output_tokens AS output, complete'
  const query = `SELECT ${columns} FROM usage_records WHERE task_id = ?`
  const records = database.prepare(query).all(id) as { input: number; output: number; complete: number }[]
  const served = answers.filter((answer) => answer.key === key)
  const found: string[] = []
  if (records.length < served.length)
    found.push(`${id} asked the model ${served.length} times; ${records.length} of that are counted.`)
  const left = served.filter(({ isWhole }) => isWhole)
  for (const { input, output } of records.filter(({ complete }) => complete === 1)) {
    const match = left.findIndex((answer) => answer.inputTokens === input && answer.outputTokens === output)
    if (match === -1)
      found.push(`${id} is charged for an answer of ${input}/${output} tokens that was not served whole.`)
    else left.splice(match, 1)
  }
  const whole = records.filter(({ complete }) => complete === 1).length
  if (row?.status === 'succeeded' && whole < questions)
    found.push(`${id} got ${questions} answers; ${whole} are counted as whole.`)
  const sum = (kind: 'input' | 'output') => records.reduce((total, record) => total + record[kind], 0)
  if (row !== undefined && (sum('input') !== row.input_tokens || sum('output') !== row.output_tokens))
    found.push(
      `${id} shows ${row.input_tokens}/${row.output_tokens} tokens; its records have ${sum('input')}/${sum('output')}.`,
    )
  return found
}

/** Every stored file belongs to a row, and nothing was left half written. */
function checkFiles({ home }: Premises, database: DatabaseSync): string[] {
  const files = database.prepare('SELECT task_id, path FROM result_files').all()
  const payloads = database.prepare('SELECT task_id, seq FROM events WHERE payload_bytes IS NOT NULL').all()
  const known = new Set([
    ...files.map((row) => `blobs/objects/results/${row['task_id']}/files/${row['path']}`),
    ...payloads.map((row) => `payloads/${row['task_id']}/${row['seq']}.json`),
  ])
  const tasks = new Set(taskRows(database).map(({ id }) => id))
  const isState = (path: string) => {
    const [, taskId = ''] = /^blobs\/objects\/results\/([^/]+)\/(?:state\/.+|patch|transcript\.jsonl)$/.exec(path) ?? []
    return tasks.has(taskId)
  }
  return ['blobs', 'payloads']
    .flatMap((folder) => filesBelow(home, folder))
    .filter((path) => !known.has(path) && !isState(path))
    .map((path) => `Nobody knows the file ${path}.`)
}

function filesBelow(root: string, folder: string): string[] {
  const entries = readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
}

/** Nothing of any machine is there, and no file that was on its way somewhere else. */
function checkLeftovers({ home, runDir }: Premises, database: DatabaseSync): string[] {
  return [
    ...['machines', 'runs', 'checkpoints', 'model_requests'].flatMap((table) => {
      const rows = database.prepare(`SELECT * FROM ${table}`).all()
      return rows.map((row) => `The table ${table} still has ${JSON.stringify(row).slice(0, 200)}.`)
    }),
    ...namesIn(runDir).map((name) => `${name} is left in the run folder.`),
    ...namesIn(join(home, 'machines')).map((name) => `The disk of ${name} is left.`),
    ...namesIn(home)
      .filter((name) => name.endsWith('.tmp') || name === 'server.json')
      .map((name) => `${name} is left in the data folder.`),
    ...machineGroups(runDir).map((name) => `The control group of ${name} is left.`),
    ...processesAt({ home, runDir }).map(({ pid, command }) => `The process ${pid} (${command}) is left.`),
  ]
}

function namesIn(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : []
}

/** Control groups of this orchestrator's machines. */
function machineGroups(runDir: string): string[] {
  return ['/sys/fs/cgroup', '/sys/fs/cgroup/unified']
    .flatMap((mount) => namesIn(join(mount, 'vivarium', basename(runDir))))
    .filter((name) => name.startsWith('vm_'))
}

/** Processes, other than this one, whose command line, environment or mounts name the premises. */
export function processesAt({ home, runDir }: Premises): { pid: number; command: string }[] {
  // As a mount, the run folder shows without the file system it lies in.
  const texts = [home, runDir.replace(/^\/run/, '')]
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
  return pids.flatMap((pid) => {
    const said = ['cmdline', 'environ', 'mountinfo'].map((file) => readProc(`/proc/${pid}/${file}`))
    const isThere = texts.some((text) => said.some((content) => content.includes(text)))
    return isThere ? [{ pid: Number(pid), command: said[0]?.replaceAll('\0', ' ').slice(0, 100) ?? '' }] : []
  })
}

function readProc(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return '' // it has ended, or is the kernel's
  }
}
