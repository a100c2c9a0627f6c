import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { TaskEvent } from '../contracts/event.ts'
import type { NewEvent } from '../contracts/event.ts'
import { claudeCode } from './claude-code.ts'
import { parseLine } from './parse-line.ts'
import type { AgentJob } from './types.ts'

const job: AgentJob = {
  prompt: '--version',
  model: null,
  maxTurns: null,
  env: {},
  credentialKind: 'api-key',
  sessionId: '7b0d9f4e-3c51-4c5a-9d0e-2f7f1f0c6a11',
  resumes: null,
}
const OK = { code: 0, signal: null, outOfMemory: false }

function sample(name: string): string[] {
  return readFileSync(new URL(`testing/${name}.ndjson`, import.meta.url), 'utf8')
    .split('\n')
    .filter((l) => l !== '')
}

async function run(...output: (string | Buffer)[]) {
  const parser = claudeCode.parser(job)
  const events: NewEvent[] = []
  for (const piece of output) events.push(...(await parser.push('stdout', Buffer.from(piece))))
  events.push(...(await parser.end()))
  await parser.close()
  return { parser, events }
}

function result(fields: object): string {
  return `${JSON.stringify({ type: 'result', subtype: 'success', is_error: false, num_turns: 3, result: 'done', ...fields })}\n`
}

test.each(['partial', 'whole'])('every line of a recorded run (%s) becomes at least one valid event', (name) => {
  for (const line of sample(name)) {
    const { events } = parseLine(Buffer.from(line))
    expect(events.length).toBeGreaterThan(0)
    for (const event of events) {
      TaskEvent.parse({ ...event, seq: 1, taskId: 't_0123456789ab', at: new Date(0).toISOString() })
      expect(event.type).not.toBe('raw')
    }
  }
})

test('a recorded run gives its blocks, tool calls, results and outcome', async () => {
  const { events, parser } = await run(readFileSync(new URL('testing/partial.ndjson', import.meta.url)))
  const main = events.filter((event) => event.type !== 'log' && event.type !== 'delta')
  expect(main.map((event) => event.type)).toEqual([
    'thinking',
    'text',
    'tool_call',
    'tool_result',
    'tool_call',
    'tool_result',
    'text',
    'result',
  ])
  expect(main[2]).toMatchObject({ name: 'Bash', input: { command: 'uname -sr; id -u; echo err >&2' } })
  expect(main[3]).toMatchObject({ toolUseId: 'toolu_stub1_2', isError: false })
  expect(main[7]).toMatchObject({ isError: false, turns: 3, reportedCostUsd: 0.0177, text: 'Done: wrote hello.txt.' })
  expect(parser.outcome(OK)).toEqual({ result: 'Done: wrote hello.txt.', turns: 3, failure: undefined })
})

test('the partial text of a block adds up to the block', async () => {
  const { events } = await run(sample('partial').join('\n'))
  const partial = (kind: string) =>
    events.flatMap((event) => (event.type === 'delta' && event.kind === kind ? [event.text] : [])).join('')
  const whole = (type: 'text' | 'thinking') =>
    events.flatMap((event) => (event.type === type ? [event.text] : [])).join('')
  expect(partial('text')).toBe(whole('text'))
  expect(partial('thinking')).toBe(whole('thinking'))
})

test('a run reads the same however its output is cut', async () => {
  const bytes = readFileSync(new URL('testing/partial.ndjson', import.meta.url))
  const pieces = Array.from({ length: Math.ceil(bytes.length / 7) }, (_, n) => bytes.subarray(n * 7, n * 7 + 7))
  expect((await run(...pieces)).events).toEqual((await run(bytes)).events)
})

test('an image in a tool result is kept as an image, and a subagent keeps its parent', async () => {
  const content = [
    { type: 'text', text: 'a picture' },
    { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'iVBORw==' } },
  ]
  const message = { content: [{ type: 'tool_result', tool_use_id: 'toolu_1', content }] }
  const { events } = await run(JSON.stringify({ type: 'user', message, parent_tool_use_id: 'toolu_0' }))
  expect(events).toEqual([
    {
      type: 'tool_result',
      toolUseId: 'toolu_1',
      text: 'a picture',
      isError: false,
      images: [{ mimeType: 'image/png', data: 'iVBORw==' }],
      parentToolUseId: 'toolu_0',
    },
  ])
})

test('lines that are no JSON, of no known type or broken are kept as raw', async () => {
  const lines = ['plain text', '{"type":"from the future"}', '{"type":"assistant"}', '{"cut', '[1]', 'null']
  expect((await run(`${lines.join('\r\n')}\n`)).events).toEqual(lines.map((text) => ({ type: 'raw', text })))
})

test('broken UTF-8 is replaced, not fatal', async () => {
  const { events } = await run(Buffer.from([0xff, 0xfe, 0x41, 0x0a]), '{"type":"system","subtype":"x"}\n')
  expect(events).toEqual([
    { type: 'raw', text: '\uFFFD\uFFFDA' },
    { type: 'log', level: 'debug', message: 'system/x', data: { type: 'system', subtype: 'x' } },
  ])
})

test('a deep or many-parted line is kept as raw, so that whoever stores it is safe', async () => {
  const deep = `{"type":"system","subtype":"x","data":${'['.repeat(100_000)}${']'.repeat(100_000)}}`
  const wide = `{"type":"system","subtype":"x","data":[${'0,'.repeat(300_000)}0]}`
  expect((await run(`${deep}\n${wide}`)).events.map((event) => event.type)).toEqual(['raw', 'raw'])
})

test('output after a result is kept and the last result counts', async () => {
  const { events, parser } = await run(
    result({ result: 'first' }),
    'noise\n',
    result({ result: 'second', num_turns: 5 }),
  )
  expect(events.filter((event) => event.type === 'result')).toHaveLength(2)
  expect(events).toContainEqual({ type: 'raw', text: 'noise' })
  expect(parser.outcome(OK)).toEqual({ result: 'second', turns: 5, failure: undefined })
})

test('a run has nothing left to do after a result, unless it works on or has work in the background', async () => {
  const parser = claudeCode.parser(job)
  const push = (line: object) => parser.push('stdout', Buffer.from(`${JSON.stringify(line)}\n`))
  const success = { type: 'result', subtype: 'success', is_error: false }
  expect(parser.resultAt).toBeUndefined()
  await push(success)
  expect(parser.resultAt).toBeTypeOf('number')
  await push({ type: 'assistant', message: { content: [{ type: 'text', text: 'more' }] } })
  expect(parser.resultAt).toBeUndefined()
  await push({ type: 'system', subtype: 'task_started', task_id: 'b1' })
  await push(success)
  expect(parser.resultAt).toBeUndefined()
  await push({ type: 'system', subtype: 'task_notification', task_id: 'b1' })
  expect(parser.resultAt).toBeTypeOf('number')
})

test.each([
  [
    'an API failure, which calls itself a success',
    { is_error: true, result: 'API Error: 401 bad key' },
    1,
    'model_error',
  ],
  ['too many turns', { subtype: 'error_max_turns', is_error: true }, 1, 'max_turns'],
  ['an error while it ran', { subtype: 'error_during_execution', is_error: true, errors: ['boom'] }, 1, 'agent_failed'],
  ['an error result with exit code 0', { is_error: true, result: 'gave up' }, 0, 'agent_failed'],
  ['a good result with exit code 1', {}, 1, 'agent_failed'],
])('%s is a failure', async (_name, fields, code, expected) => {
  const { parser } = await run(result(fields))
  expect(parser.outcome({ ...OK, code }).failure?.code).toBe(expected)
})

test('a run without a result says how its process ended, with what it said on stderr', async () => {
  const { parser } = await run()
  await parser.push('stderr', Buffer.from('cannot be used with root\n'))
  expect(parser.outcome({ ...OK, code: 1 }).failure?.message).toMatch(/exit code 1: cannot be used with root/)
  const killed = parser.outcome({ code: null, signal: 'SIGKILL', outOfMemory: true })
  expect(killed.failure).toMatchObject({ code: 'out_of_memory', message: expect.stringMatching(/more memory/) })
  expect(parser.outcome(OK).failure?.message).toMatch(/without giving a result/)
})

test('the prompt travels by stdin, behind a greeting, and never among the arguments', () => {
  const spec = claudeCode.spec({ ...job, model: 'claude-opus-5-5', maxTurns: 4 })
  const [greeting, prompt, ...rest] = claudeCode
    .input({ ...job, prompt: 'say "hi"\n{}' })
    .toString()
    .split('\n')
  expect(`${greeting}\n`).toBe(claudeCode.greeting?.input.toString())
  expect(JSON.parse(prompt ?? '')).toEqual({
    type: 'user',
    message: { role: 'user', content: [{ type: 'text', text: 'say "hi"\n{}' }] },
  })
  expect(rest).toEqual([''])
  expect(spec.argv).not.toContain('--version')
  expect(spec.argv.join(' ')).toMatch(/--model claude-opus-5-5 --max-turns 4$/)
  expect(spec.stdin).toBe('pipe')
})

test('the answer to the greeting is known among other lines, and is no news to the task', async () => {
  const { response } = { response: { subtype: 'success', request_id: 'vivarium-greeting', response: { commands: [] } } }
  const answer = `${JSON.stringify({ type: 'control_response', response })}\n`
  const before = `${JSON.stringify({ type: 'system', subtype: 'hook_started' })}\n`
  expect(claudeCode.greeting?.isAnswered(before)).toBe(false)
  expect(claudeCode.greeting?.isAnswered(before + answer)).toBe(true)
  expect((await run(answer)).events).toEqual([{ type: 'log', level: 'debug', message: 'control_response' }])
})

test('the user can set variables but not where the model is or what it is sent', () => {
  const env = {
    MY: '1',
    ANTHROPIC_BASE_URL: 'https://evil.example',
    ANTHROPIC_AUTH_TOKEN: 'x',
    DISABLE_AUTOUPDATER: '0',
  }
  const { env: key } = claudeCode.spec({ ...job, env })
  expect(key).toMatchObject({ MY: '1', ANTHROPIC_BASE_URL: 'http://127.0.0.1:3129', DISABLE_AUTOUPDATER: '1' })
  expect(Object.keys(key).filter((name) => /TOKEN|KEY/.test(name))).toEqual(['ANTHROPIC_API_KEY'])
  const { env: oauth } = claudeCode.spec({ ...job, credentialKind: 'oauth' })
  expect(Object.keys(oauth).filter((name) => /TOKEN|KEY/.test(name))).toEqual(['CLAUDE_CODE_OAUTH_TOKEN'])
})

test.each([
  ['a new one', null, '--session-id SELF'],
  ['the same one', 'SELF', '--resume SELF'],
  ['a branch of another', 'OTHER', '--resume OTHER --fork-session --session-id SELF'],
])('a conversation goes on as %s', (_name, resumes, expected) => {
  const { argv } = claudeCode.spec({ ...job, sessionId: 'SELF', resumes })
  expect(argv.join(' ')).toContain(` --dangerously-skip-permissions ${expected}`)
  expect(argv.filter((word) => word === '--session-id' || word === '--resume')).toHaveLength(
    expected.match(/SELF|OTHER/g)?.length ?? 0,
  )
  expect(claudeCode.conversation?.('SELF').transcript).toBe('SELF.jsonl')
})

test('work in the background that a guest makes up takes no memory without end', async () => {
  const started = (task_id: string) => `${JSON.stringify({ type: 'system', subtype: 'task_started', task_id })}\n`
  const done = (task_id: string) => `${JSON.stringify({ type: 'system', subtype: 'task_notification', task_id })}\n`
  const many = Array.from({ length: 1500 }, (_, n) => String(n))
  // Only so many are waited for: when those have ended, so has the work.
  const { parser } = await run(...many.map(started), ...many.slice(0, 1000).map(done), result({}))
  expect(parser.resultAt).toBeDefined()
  const { parser: other } = await run(started('x'.repeat(1000)), result({}))
  expect(other.resultAt).toBeDefined()
})
