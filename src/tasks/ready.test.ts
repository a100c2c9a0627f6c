import { expect, test } from 'vitest'
import { agents } from '../agents/agents.ts'
import { claudeCode } from '../agents/claude-code.ts'
import { shell } from '../agents/shell.ts'
import type { TaskRequestInput } from '../contracts/task.ts'
import { FakeGuest } from './testing/fake-guest.ts'
import type { FakeProcess } from './testing/fake-guest.ts'
import { waitingAgent } from './testing/fake-machines.ts'
import { playClaude, useHouse } from './testing/house-test.ts'
import { startWaitingAgent } from './waiting-agent.ts'

const t = useHouse(agents)
const READY = 'vm_0000000000ff'
const ANSWER = `${JSON.stringify({ type: 'control_response', response: { request_id: 'vivarium-greeting' } })}\n`

const never = new AbortController().signal
const options = { model: null, credentialKind: 'api-key' as const, exclude: [], timeoutMs: 5000, signal: never }
const wait = (guest: FakeGuest, more: object = {}) =>
  startWaitingAgent({ link: guest.link(), hasBaseline: false, agent: claudeCode, ...options, ...more })

/** A guest whose Claude Code answers a greeting, and a prompt with a result. */
function greeted(): FakeGuest {
  const guest = new FakeGuest()
  guest.play = (process) => {
    process.onInput = (input) => {
      if (!input.includes('"type":"user"')) return process.print(ANSWER)
      playClaude(guest)(process)
    }
  }
  return guest
}

/** A ready machine in which an agent waits. */
async function readyWithAgent(id = READY): Promise<FakeGuest> {
  const guest = greeted()
  const waiting = await wait(guest)
  t.house.machines.add(id, guest)
  t.house.pool.ready.push({ id, waiting })
  return guest
}

test('a task is given to the agent that waits for it, which is started once and prompted once', async () => {
  const guest = await readyWithAgent()
  const task = await t.run({ agent: 'claude-code', prompt: 'do it' })
  expect(task).toMatchObject({ status: 'succeeded', vmId: READY, result: 'done' })
  const [process, ...others] = guest.processes.values()
  expect(others).toEqual([])
  const lines = (await process?.stdin.promise)?.trim().split('\n') ?? []
  expect(lines.map((line) => (JSON.parse(line) as { type: string }).type)).toEqual(['control_request', 'user'])
  expect(lines[1]).toContain('do it')
  expect(process?.spec.argv).toContain(task.sessionId)
  expect(guest.baselines).toEqual([{ git: false }])
  expect(task.phases.map(({ name }) => name)).toEqual(['ready machine', 'first output', 'agent run', 'collect'])
  expect(t.statuses(task.id)).toEqual(['queued', 'starting', 'running', 'collecting', 'succeeded'])
  expect(t.house.machines.created).toEqual([])
})

test('what it printed while it waited is in the log of its task', async () => {
  await readyWithAgent()
  const { id } = await t.run({ agent: 'claude-code' })
  expect(t.logged(id)).toContain('control_response')
})

test.each<[string, Partial<TaskRequestInput>]>([
  ['files', { files: [{ path: 'x', contentBase64: 'aGk=' }] }],
  ['a repository', { repo: { url: 'https://git.example/x.git' } }],
  ['variables', { env: { A: '1' } }],
  ['a limit of turns', { maxTurns: 3 }],
  ['another agent', { agent: 'shell' }],
])('a task with %s gets a machine in which no agent has started', async (_name, fields) => {
  const guest = new FakeGuest()
  guest.play = (process) => (fields.agent === 'shell' ? process.end() : playClaude(guest)(process))
  t.house.machines.add(READY, guest)
  t.house.pool.ready.push({ id: READY, waiting: undefined })
  const task = await t.run({ agent: 'claude-code', ...fields })
  expect(task).toMatchObject({ status: 'succeeded', vmId: READY })
  expect(t.house.pool.wishes).toEqual([{ memoryMib: 1024, vcpus: 2, template: null, agent: undefined }])
})

test('the pool is asked for what the task would start', async () => {
  t.guests((guest) => {
    guest.play = playClaude(guest)
  })
  t.house.gateway.credential = 'oauth'
  await t.run({ agent: 'claude-code', model: 'claude-opus-5-5', template: 'warm', vcpus: 4 })
  const agent = { model: 'claude-opus-5-5', credentialKind: 'oauth' }
  expect(t.house.pool.wishes).toEqual([{ memoryMib: 1024, vcpus: 4, template: 'warm', agent }])
})

test('ready machines that are of no use go, and after two of them the task gets a machine of its own', async () => {
  const guests = t.guests((guest) => {
    guest.play = playClaude(guest)
  })
  for (const id of ['vm_0000000000f1', 'vm_0000000000f2', 'vm_0000000000f3']) {
    t.house.machines.add(id, new FakeGuest())
    t.house.pool.ready.push({ id, waiting: waitingAgent({ ended: Promise.resolve() }) })
  }
  const task = await t.run({ agent: 'claude-code' })
  expect(task.status).toBe('succeeded')
  expect(guests).toHaveLength(1)
  expect(t.house.machines.created.map(({ id }) => id)).toEqual([task.vmId])
  expect(t.house.machines.calls.filter((call) => call.startsWith('evict'))).toHaveLength(2)
  expect(t.logged(task.id).filter((message) => /has ended/.test(message))).toHaveLength(2)
  await t.house.machines.evict('vm_0000000000f3')
})

test('ready machines take no room from tasks', async () => {
  t.house.machines.others = [0, 1, 2, 3].map((n) => ({
    ...t.house.machines.nobody(`vm_00000000000${n}`),
    memoryMib: 8000,
  }))
  expect((await t.run()).status).toBe('succeeded')
})

test('an agent that ends, says too much or nothing, or can not wait does not come to wait', async () => {
  const guest = (play: (process: FakeProcess) => void) => Object.assign(new FakeGuest(), { play })
  await expect(wait(guest((process) => process.end({ code: 1 })))).rejects.toThrow(/exit code 1/)
  await expect(wait(guest((process) => process.print('x'.repeat(600_000))))).rejects.toThrow(/too much/)
  await expect(
    wait(
      guest(() => {}),
      { timeoutMs: 10 },
    ),
  ).rejects.toThrow(/timeout/)
  await expect(wait(new FakeGuest(), { agent: shell })).rejects.toMatchObject({ code: 'internal' })
})

test('the end of an agent that waits is noticed, until it is released', async () => {
  const [guest, other] = [greeted(), greeted()]
  const [waiting, released] = [await wait(guest), await wait(other)]
  const end = (of: FakeGuest) => [...of.processes.values()][0]?.end()
  released.release()
  end(other)
  end(guest)
  const first = await Promise.race([waiting.ended.then(() => 'waiting'), released.ended.then(() => 'released')])
  expect(first).toBe('waiting')
})

test('changes are told from what a template has put into the workspace', async () => {
  const guest = greeted()
  guest.files.set('/workspace/from-template', Buffer.from('x'))
  await wait(guest)
  expect(guest.baselines).toEqual([{ git: true }])
})
