import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { ClaudeParser } from '../../src/agents/claude-parser.ts'
import { LineParser } from '../../src/agents/line-parser.ts'
import { parseLine } from '../../src/agents/parse-line.ts'
import { shell } from '../../src/agents/shell.ts'
import type { AgentParser, AgentStart } from '../../src/agents/types.ts'
import { type NewEvent, TaskEvent } from '../../src/contracts/event.ts'
import { encodeEvent } from '../../src/events/record.ts'
import { cut, mutate } from '../mutate.ts'
import { Random } from '../random.ts'
import { CUT_BYTES, type Harness, type Target } from '../target.ts'

/** Recorded runs. */
const SAMPLES = ['whole', 'partial'].flatMap((name) => {
  const file = new URL(`../../src/agents/testing/${name}.ndjson`, import.meta.url)
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => Buffer.from(line))
})

const START: AgentStart = {
  model: null,
  maxTurns: null,
  env: {},
  credentialKind: undefined,
  sessionId: '00000000-0000-4000-8000-000000000000',
  resumes: null,
}

const AT = new Date(0).toISOString()

/** JSON that is valid and means harm. */
function harm(random: Random): Buffer {
  const count = random.size(2000)
  const value = random.pick([
    `${'['.repeat(count)}${']'.repeat(count)}`,
    `${'{"a":'.repeat(count)}0${'}'.repeat(count)}`,
    `[${'0,'.repeat(count)}0]`,
    JSON.stringify(random.text(count)),
    '{"__proto__":{"type":"result"},"constructor":1}',
    String(random.pick([-1, 0, 1e308, 2 ** 53, 0.1])),
  ])
  const type = random.pick(['assistant', 'user', 'system', 'result', 'stream_event', 'tool_progress', 'unknown'])
  const field = random.pick(['message', 'subtype', 'event', 'result', 'parent_tool_use_id', 'num_turns', 'task_id'])
  return Buffer.from(`{"type":"${type}","is_error":false,"subtype":"success","${field}":${value}}`)
}

async function parse(parser: AgentParser, chunks: Buffer[], stream: 'stdout' | 'stderr'): Promise<NewEvent[]> {
  try {
    const events: NewEvent[] = []
    for (const chunk of chunks) events.push(...(await parser.push(stream, chunk)))
    events.push(...(await parser.end()))
    const outcome = parser.outcome({ code: 0, signal: null, outOfMemory: false })
    assert.ok(Number.isSafeInteger(outcome.turns))
    return events
  } finally {
    await parser.close()
  }
}

function textOf(events: NewEvent[]): string {
  return events.map((event) => (event.type === 'raw' || event.type === 'stderr' ? event.text : '')).join('')
}

/** What an agent prints: the same events however it is cut, all of them valid and storable; a worker reads a line as we do. */
export const lines: Target = {
  name: 'lines',
  generate(random) {
    const made = random.list(random.between(1, 5), () => {
      const line = random.chance(0.3) ? harm(random) : random.pick(SAMPLES)
      return random.chance(0.3) ? line : mutate(line, random, SAMPLES)
    })
    const ends = random.pick(['\n', '\n', '\r\n', '\n\n'])
    return Buffer.concat([random.bytes(CUT_BYTES), ...made.flatMap((line) => [line, Buffer.from(ends)])])
  },
  async open(): Promise<Harness> {
    const worker = new LineParser({ inlineBytes: 0 })
    return {
      async run(input) {
        const bytes = input.subarray(CUT_BYTES)
        const random = new Random(input.toString('hex', 0, CUT_BYTES))
        const chunks = cut(bytes, random)
        const events = await parse(new ClaudeParser(START), chunks, 'stdout')
        assert.deepEqual(events, await parse(new ClaudeParser(START), [bytes], 'stdout'))
        for (const event of events) {
          TaskEvent.parse({ ...event, seq: 1, taskId: 't_000000000000', at: AT })
          JSON.parse(encodeEvent(event, AT).body)
        }
        const stream = random.pick(['stdout', 'stderr'] as const)
        const printed = textOf(await parse(shell.parser(START), chunks, stream))
        assert.equal(printed, new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes))
        if (random.chance(0.05)) {
          const line = bytes.subarray(0, bytes.indexOf('\n'))
          assert.deepEqual(await worker.parse(line), parseLine(line))
        }
      },
      [Symbol.asyncDispose]: () => worker.close(),
    }
  },
}
