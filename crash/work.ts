import type { TaskRequestInput } from '../src/contracts/task.ts'
import type { Random } from './random.ts'

/** What a task is asked to do, and what the checker may therefore expect of it. */
export interface Work {
  /** The client's name for it (idempotency key): the same one however often it is sent. */
  key: string
  request: TaskRequestInput
  /** Numbered lines that it prints before anything else. */
  lines: number
  /** Characters of one long line that it prints then. */
  longLine: number
  /** Files that it writes, whose hashes it prints last. */
  files: string[]
  /** Model requests that it needs answered. */
  questions: number
}

const MODEL = 'http://127.0.0.1:3129/v1/messages'

/** Asks until there is a whole answer: a connection that is cut in the middle says nothing of what was billed. */
const ASK = `ask() {
  for try in $(seq 60); do
    curl -sS --fail --max-time 60 -o /tmp/answer -H 'content-type: application/json' -d "$1" ${MODEL} 2>/tmp/why &&
      grep -q message_stop /tmp/answer && return 0
    sleep 0.5
  done
  cat /tmp/why >&2
  return 1
}`

/** One of many kinds of work, none of which takes longer than some seconds. */
export function someWork(random: Random, key: string): Work {
  const quick = random.int(0, 3) === 0
  const lines = quick ? random.int(0, 20) : random.int(20, 400)
  const longLine = random.int(0, 3) === 0 ? random.int(1, 300_000) : 0
  const files = Array.from({ length: random.int(0, 3) }, (_, n) => `out/file ${n}.bin`)
  const questions = random.int(0, 2) === 0 ? random.int(1, 3) : 0
  const inputs = random.int(0, 3) === 0 ? 1 : 0
  const script = [
    'set -e',
    // Some printed as fast as can be, some over time.
    `for i in $(seq ${lines}); do echo "line $i"; ${quick ? ':' : '[ $((i % 10)) != 0 ] || sleep 0.1'}; done`,
    longLine > 0 ? `echo "long $(head -c ${longLine} /dev/zero | tr '\\0' '"')"` : ':',
    inputs > 0 ? '[ "$(cat input)" = given ]' : ':',
    ASK,
    ...Array.from({ length: questions }, (_, n) => {
      const content = `${random.pick(['short', 'long'])} answer for ${key}, ${n}`
      const body = { model: 'claude-sonnet-4-5', max_tokens: 1000, stream: true, messages: [{ role: 'user', content }] }
      return `ask '${JSON.stringify(body)}'`
    }),
    'mkdir -p out',
    // The largest travels by itself, the others in one archive.
    ...files.map((path) => `head -c ${random.pick([0, 100, 50_000, 50_000, 5_000_000])} /dev/urandom > '${path}'`),
    ...files.map((path) => `echo "hash $(sha256sum < '${path}' | cut -c1-64) ${path}"`),
    'echo done',
  ].join('\n')
  const request: TaskRequestInput = {
    prompt: script,
    agent: 'shell',
    memoryMib: 512,
    vcpus: 1,
    timeoutSeconds: 600,
    priority: random.pick(['low', 'normal', 'high']),
    network: { allow: questions > 0 ? ['none', 'anthropic'] : ['none'] },
    ...(inputs > 0 && { files: [{ path: 'input', contentBase64: Buffer.from('given').toString('base64') }] }),
  }
  return { key, request, lines, longLine, files, questions }
}
