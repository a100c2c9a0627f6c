import { expect, test } from 'vitest'
import { startScriptedModel } from '../scripted-model/server.ts'
import { startComposed } from './support/composed.ts'

const KEYS = { ada: 'sk-ant-api03-of-ada', bob: 'sk-ant-api03-of-bob' }
type Name = keyof typeof KEYS

/** Asks the model so often, from a program of the guest. */
const ask = (name: Name, times: number) => `for n in $(seq ${times}); do
  curl -fsS http://127.0.0.1:3129/v1/messages -H 'content-type: application/json' -H 'x-api-key: of my own making' \\
    -d '{"model": "claude-opus-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "from ${name}"}]}' >/dev/null
done`

test("two users' machines at once: each request carries its owner's key, each cost is its owner's", async () => {
  await using stack = new AsyncDisposableStack()
  const turns = [{ blocks: [{ type: 'text' as const, text: 'hi' }] }]
  const model = stack.use(await startScriptedModel({ script: { conversations: [{ when: '', turns }] } }))
  const composed = stack.use(await startComposed({ env: { VIVARIUM_ANTHROPIC_UPSTREAM: model.url } }))
  const { identity, owner } = composed.orchestrator

  const join = async (name: Name) => {
    const { id } = await identity.createUser(name)
    const { key } = await identity.createKey(id, 'test')
    await composed.client(key).secrets.set('anthropic-api-key', KEYS[name])
    return composed.hold({ agent: 'shell', prompt: 'sleep 3600', memoryMib: 512, vcpus: 1 }, id)
  }
  const [ada, bob] = await Promise.all([join('ada'), join('bob')])
  await Promise.all([ada.exec(ask('ada', 4)), bob.exec(ask('bob', 8))])

  const signed = model.requests.map(({ headers, body }) => {
    const { messages } = body as { messages: { content: string }[] }
    return `${messages[0]?.content} with ${headers['x-api-key']}`
  })
  const times = (name: Name) => signed.filter((each) => each === `from ${name} with ${KEYS[name]}`).length
  expect([times('ada'), times('bob'), signed.length]).toEqual([4, 8, 12])

  // What was asked is counted right after its answer.
  const usage = async () => {
    const rows = await composed.client(owner.key).usage({ by: 'user' })
    return rows.map(({ name, requests, costUsd }) => ({ name, requests, costUsd }))
  }
  await expect.poll(async () => (await usage()).map(({ requests }) => requests)).toEqual([8, 4])
  const [his, hers] = await usage()
  expect([his?.name, hers?.name]).toEqual(['bob', 'ada'])
  expect(hers?.costUsd).toBeGreaterThan(0)
  expect(his?.costUsd).toBeCloseTo(2 * (hers?.costUsd ?? 0), 9)
})
