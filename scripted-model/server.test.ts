import { expect, test } from 'vitest'
import { z } from 'zod'
import type { ScriptInput } from './script.ts'
import { startScriptedModel, type ScriptedModel } from './server.ts'

const USER = (text: string) => ({ role: 'user', content: [{ type: 'text', text }] })
const RESULT = (text: string) => ({
  role: 'user',
  content: [{ type: 'tool_result', tool_use_id: 'toolu_1', content: [{ type: 'text', text }] }],
})
const ANSWER = { role: 'assistant', content: [{ type: 'text', text: 'so' }] }

const Message = z.looseObject({ content: z.array(z.looseObject({ type: z.string() })), stop_reason: z.string() })

function post(model: ScriptedModel, messages: unknown[], more: object = {}, headers: Record<string, string> = {}) {
  return fetch(`${model.url}/v1/messages?beta=true`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ model: 'claude-opus-5-5', messages, tools: [{ name: 'Bash' }], ...more }),
  })
}

async function text(model: ScriptedModel, messages: unknown[], more: object = {}): Promise<unknown> {
  return Message.parse(await (await post(model, messages, more)).json()).content[0]?.['text']
}

const SCRIPT: ScriptInput = {
  conversations: [
    {
      when: 'fetch it',
      captures: { id: 'task (t_\\w+)' },
      turns: [
        { blocks: [{ type: 'text', text: 'first' }] },
        { blocks: [{ type: 'tool_use', name: 'get', input: { ids: ['{{id}}'], other: '{{unknown}}' } }] },
      ],
    },
    { when: '', turns: [{ blocks: [{ type: 'text', text: 'anything else' }] }] },
  ],
}

test('a request gets the turn that is due after its last prompt, whatever came before', async () => {
  await using model = await startScriptedModel({ script: SCRIPT })
  expect(await text(model, [USER('fetch it')])).toBe('first')
  expect(await text(model, [USER('hello')])).toBe('anything else')
  expect(await text(model, [USER('hello'), ANSWER, USER('<system-reminder>x</system-reminder>fetch it')])).toBe('first')
  expect(await text(model, [USER('hello'), ANSWER, USER('<system-reminder>fetch it</system-reminder>')])).toContain(
    'nothing more to say',
  )
  expect(model.requests).toHaveLength(4)
})

test('values from tool results are filled into tool calls', async () => {
  await using model = await startScriptedModel({ script: SCRIPT })
  const answer = await post(model, [USER('fetch it'), ANSWER, RESULT('task t_123 done')])
  const message = Message.parse(await answer.json())
  expect(message.content).toMatchObject([
    { type: 'tool_use', name: 'get', input: { ids: ['t_123'], other: '{{unknown}}' } },
  ])
  expect(message.stop_reason).toBe('tool_use')
})

test('a request without tools is never answered with a tool call', async () => {
  await using model = await startScriptedModel({ script: SCRIPT })
  const messages = [USER('fetch it'), ANSWER, RESULT('x')]
  expect(await text(model, messages, { tools: [] })).toContain('nothing more to say')
})

test('a streamed answer holds the same text and names the usage', async () => {
  await using model = await startScriptedModel({
    script: {
      conversations: [
        {
          when: '',
          turns: [{ blocks: [{ type: 'text', text: 'a long story' }], pieceChars: 5, usage: { outputTokens: 7 } }],
        },
      ],
    },
  })
  const body = await (await post(model, [USER('x')], { stream: true })).text()
  const events = body.matchAll(/^data: (.*)$/gm).map(([, data]) => z.looseObject({}).parse(JSON.parse(data ?? '')))
  expect([...events]).toMatchObject([
    { type: 'message_start', message: { usage: { input_tokens: 1000, cache_read_input_tokens: 300 } } },
    { type: 'content_block_start' },
    { delta: { text: 'a lon' } },
    { delta: { text: 'g sto' } },
    { delta: { text: 'ry' } },
    { type: 'content_block_stop' },
    { type: 'message_delta', usage: { output_tokens: 7 } },
    { type: 'message_stop' },
  ])
})

test('faults happen as often as the script says', async () => {
  const overloaded = { kind: 'status', status: 529, type: 'overloaded_error', message: 'busy' } as const
  await using model = await startScriptedModel({
    script: {
      conversations: [
        {
          when: '',
          turns: [
            {
              blocks: [{ type: 'text', text: 'now' }],
              fault: { ...overloaded, headers: { 'retry-after': '1' } },
              faultTimes: 1,
            },
          ],
        },
      ],
    },
  })
  const refused = await post(model, [USER('x')])
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([529, '1'])
  expect(await refused.json()).toMatchObject({ type: 'error', error: { type: 'overloaded_error', message: 'busy' } })
  expect(await text(model, [USER('x')])).toBe('now')
})

test('an answer can be cut, broken, or never come', async () => {
  const blocks = [{ type: 'text' as const, text: 'half of this' }]
  await using model = await startScriptedModel({
    script: {
      conversations: [
        { when: 'cut', turns: [{ blocks, fault: { kind: 'cut', afterEvents: 2 } }] },
        { when: 'broken', turns: [{ blocks, fault: { kind: 'malformed', afterEvents: 1 } }] },
        { when: 'silent', turns: [{ blocks, fault: { kind: 'hang' } }] },
      ],
    },
  })
  await expect((await post(model, [USER('cut')], { stream: true })).text()).rejects.toThrow('terminated')
  expect(await (await post(model, [USER('broken')], { stream: true })).text()).toContain('oops')
  const broken = await post(model, [USER('broken')])
  await expect(broken.json()).rejects.toThrow('JSON')
  const asked = model.requests.length
  const hangUp = async () => {
    await expect.poll(() => model.requests.length).toBe(asked + 1)
    await model[Symbol.asyncDispose]()
  }
  const [silent] = await Promise.allSettled([post(model, [USER('silent')]), hangUp()])
  expect(silent.status).toBe('rejected')
})

test('only the right credential is let in when one is required', async () => {
  await using model = await startScriptedModel({ script: SCRIPT, requireKey: 'right' })
  const status = async (headers: Record<string, string>) => (await post(model, [USER('x')], {}, headers)).status
  expect(await status({})).toBe(401)
  expect(await status({ 'x-api-key': 'wrong' })).toBe(401)
  expect(await status({ 'x-api-key': 'right' })).toBe(200)
  expect(await status({ authorization: 'Bearer right' })).toBe(200)
})
