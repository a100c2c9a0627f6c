import { assert, expect, test } from 'vitest'
import { agents } from '../agents/agents.ts'
import { VivariumError } from '../contracts/errors.ts'
import { ForkRequest } from '../contracts/task.ts'
import type { Task } from '../contracts/task.ts'
import type { FakeGuest } from './testing/fake-guest.ts'
import { request } from './testing/fake-house.ts'
import { OWNER } from './testing/fake-machines.ts'
import { playClaude, useHouse } from './testing/house-test.ts'

const t = useHouse(agents)

/** Claude Code in every guest. */
function claude(set: (guest: FakeGuest) => void = () => {}): FakeGuest[] {
  return t.guests((guest) => {
    guest.play = playClaude(guest)
    set(guest)
  })
}

const runClaude = (fields: object = {}) => t.run({ agent: 'claude-code', ...fields })

function commandLines(guests: FakeGuest[]): string[] {
  return guests.flatMap((guest) => [...guest.processes.values()].map(({ spec }) => spec.argv.join(' ')))
}

function sessionOf({ sessionId }: Task): string {
  assert(sessionId !== null)
  return sessionId
}

const forked = (id: string, fields: object = {}) =>
  t.house.tasks.fork(OWNER, id, ForkRequest.parse({ prompt: 'try', ...fields }))

const waitAll = (tasks: Task[]) => Promise.all(tasks.map(({ id }) => t.house.tasks.wait(OWNER, id)))

test('every task has a conversation of its own, named before its agent starts', async () => {
  const seen: unknown[] = []
  claude((guest) => {
    const play = guest.play
    guest.play = async (process) => {
      seen.push((await t.house.tasks.list(OWNER, { limit: 1 })).items[0]?.sessionId)
      await play(process)
    }
  })
  const [first, second] = [await runClaude(), await runClaude()]
  expect(seen).toEqual([first.sessionId, second.sessionId])
  expect(new Set([sessionOf(first), sessionOf(second)]).size).toBe(2)
  expect((await t.run()).sessionId).toBeNull()
})

test('a conversation that never began is not one to go on from', async () => {
  const guests = t.guests((guest) => {
    guest.play = (process) => process.end({ code: 1 })
  })
  const failed = await runClaude()
  expect(failed).toMatchObject({ status: 'failed', sessionId: null })
  expect(await runClaude({ continues: failed.id })).toMatchObject({ status: 'failed' })
  expect(commandLines(guests)[1]).not.toContain('--resume')
})

test('a follow-up on another machine finds workspace and conversation, and goes on in it', async () => {
  const guests = claude((guest) => guest.write('a.txt', 'a'))
  const first = await runClaude({ model: 'claude-opus-5-5', network: { allow: ['x.example'] }, memoryMib: 512 })
  const next = await runClaude({ continues: first.id, prompt: 'more' })
  expect(next).toMatchObject({ status: 'succeeded', continues: first.id, sessionId: first.sessionId, fork: false })
  expect(next).toMatchObject({ model: 'claude-opus-5-5', memoryMib: 512, network: { allow: ['x.example'] } })
  const projects = '/home/agent/.claude/projects/-workspace'
  const [, second] = guests
  expect(second?.unpacked).toEqual([
    '/workspace: tar of /workspace .',
    `${projects}: tar of ${projects} ${first.sessionId}.jsonl ${first.sessionId}`,
  ])
  expect(second?.baselines).toEqual([{ git: true }])
  expect(commandLines(guests)[1]).toContain(`--resume ${first.sessionId}`)
  // And on from there.
  expect((await runClaude({ continues: next.id })).sessionId).toBe(first.sessionId)
})

test('the way to a repository stays open for what goes on in its workspace', async () => {
  claude()
  const first = await runClaude({ repo: { url: 'https://git.example/x.git' }, network: { allow: ['a.example'] } })
  await runClaude({ continues: first.id, network: { allow: ['b.example'] } })
  expect(t.house.gateway.sessions[1]?.policy).toEqual({ allow: ['b.example', 'git.example'] })
})

test('an empty workspace is not stored, and a task that left nothing can be gone on from', async () => {
  const guests = t.guests()
  const first = await t.run()
  expect([...t.house.blobs.bytes.keys()]).toEqual([])
  expect(await t.run({ continues: first.id })).toMatchObject({ status: 'succeeded', agent: 'shell' })
  expect(guests[1]?.unpacked).toEqual([])
})

test('a workspace beyond the limit costs the task nothing, and is said to be missing', async () => {
  t.guests((guest) => {
    guest.write('a.txt', 'a')
    guest.archive = () => Buffer.alloc(1024 * 1024 + 1)
  })
  const first = await t.run()
  expect(first).toMatchObject({ status: 'succeeded', files: [{ path: 'a.txt' }] })
  expect(t.logged(first.id)).toContainEqual(
    expect.stringMatching(/larger than 1 MiB \(results\.stateMib\).*keepVmSeconds/),
  )
  const refused = t.house.tasks.submit(OWNER, request({ continues: first.id }))
  await expect(refused).rejects.toMatchObject({ code: 'conflict', message: expect.stringMatching(/keepVmSeconds/) })
})

test('what is stored of a task goes with it', async () => {
  t.guests((guest) => guest.write('a.txt', 'a'))
  const { id } = await t.run()
  expect([...t.house.blobs.bytes.keys()]).toContain(`results/${id}/state/workspace.tar`)
  await t.house.tasks.remove(OWNER, id)
  expect(t.house.blobs.bytes.size).toBe(0)
  await expect(t.house.tasks.submit(OWNER, request({ continues: id }))).rejects.toMatchObject({ code: 'not_found' })
})

test.each([
  ['with a repository', { repo: { url: 'https://git.example/x.git' } }, 'invalid_request', /leave repo out/],
  ['of another agent', { agent: 'shell' as const }, 'invalid_request', /one of claude-code/],
  ['from another template', { template: 'other' }, 'invalid_request', /leave template out/],
])('a follow-up %s is refused', async (_name, fields, code, message) => {
  claude()
  const first = await runClaude()
  const refused = t.house.tasks.submit(OWNER, request({ agent: 'claude-code', ...fields, continues: first.id }))
  await expect(refused).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
})

test("another user's task, one that still runs and a fork of nothing can not be gone on from", async () => {
  const started = Promise.withResolvers<() => void>()
  t.guests((guest) => {
    guest.play = (process) => started.resolve(() => process.end())
  })
  const { id } = await t.house.tasks.submit(OWNER, request())
  const end = await started.promise
  await expect(t.house.tasks.submit(OWNER, request({ continues: id }))).rejects.toMatchObject({ code: 'conflict' })
  await expect(forked(id)).rejects.toMatchObject({ code: 'conflict' })
  end()
  await t.house.tasks.wait(OWNER, id)
  const stranger = t.house.tasks.submit('u_0000000000bb', request({ continues: id }))
  await expect(stranger).rejects.toMatchObject({ code: 'not_found' })
  await expect(t.house.tasks.submit(OWNER, request({ fork: true }))).rejects.toMatchObject({ code: 'invalid_request' })
})

test('a kept machine stays with its way out, and its follow-up goes on in it', async () => {
  const guests = claude()
  const first = await runClaude({ keepVmSeconds: 600 })
  const vmId = first.vmId ?? ''
  expect(t.house.machines.calls).toEqual([`keep ${vmId}`])
  expect(t.house.gateway.openSessions).toBe(1)
  const kept = t.house.machines.list()[0]
  const next = await runClaude({ continues: first.id, prompt: 'more' })
  expect(next).toMatchObject({ status: 'succeeded', vmId, sessionId: first.sessionId })
  expect(next.phases.map(({ name }) => name)).toEqual([
    'kept machine',
    'workspace',
    'first output',
    'agent run',
    'collect',
  ])
  expect(commandLines(guests)).toHaveLength(2)
  expect(commandLines(guests)[1]).toContain(`--resume ${first.sessionId}`)
  expect(guests[0]).toMatchObject({ unpacked: [], baselines: [{ git: false }, { git: true }] })
  // It stays for as long as was asked for, as the machine of the last one.
  expect(t.house.machines.list()).toMatchObject([{ id: vmId, taskId: next.id, keepUntil: kept?.keepUntil }])
  expect(t.house.gateway.openSessions).toBe(1)
  await t.house.machines.evict(vmId)
  expect(t.house.gateway.openSessions).toBe(0)
})

test('what a kept machine does after its task is not written into a log that has ended', async () => {
  claude()
  const { id } = await runClaude({ keepVmSeconds: 600 })
  const events = t.house.events.log.get(id)?.length
  t.house.gateway.sessions[0]?.onEgress?.({ host: 'x', port: 1, allowed: false, rule: 'deny by default' })
  t.house.gateway.sessions[0]?.onHeld?.({ until: new Date(Date.now() + 1000), message: 'limit' })
  expect(t.house.events.log.get(id)).toHaveLength(events ?? 0)
  expect((await t.house.tasks.get(OWNER, id)).status).toBe('succeeded')
})

test('a kept machine that can not be used is replaced by the stored state, and stays', async () => {
  const guests = claude((guest) => guest.write('a.txt', 'a'))
  const first = await runClaude({ keepVmSeconds: 600 })
  await t.house.machines.suspend(first.vmId ?? '')
  t.house.machines.assignFailure = new VivariumError('engine_failed', 'No memory.')
  const next = await runClaude({ continues: first.id })
  expect(next).toMatchObject({ status: 'succeeded', sessionId: first.sessionId })
  expect(t.logged(next.id)).toContainEqual(expect.stringMatching(/No memory\. The stored state is used instead/))
  expect(guests[1]?.unpacked).toHaveLength(2)
  expect(t.house.machines.list()).toMatchObject([{ id: first.vmId, taskId: first.id, state: 'suspended' }])
})

test('attempts start from copies of the kept machine, each with a conversation of its own', async () => {
  const guests = claude()
  const first = await runClaude({ keepVmSeconds: 600, timeoutSeconds: 77, maxTurns: 5, metadata: { a: 'b' } })
  const attempts = await waitAll(await forked(first.id, { count: 3 }))
  expect(attempts).toHaveLength(3)
  for (const attempt of attempts) {
    expect(attempt).toMatchObject({ status: 'succeeded', continues: first.id, fork: true, prompt: 'try' })
    expect(attempt).toMatchObject({ timeoutSeconds: 77, maxTurns: 5, metadata: { a: 'b' } })
  }
  const sessions = attempts.map(sessionOf)
  expect(new Set([...sessions, first.sessionId]).size).toBe(4)
  const lines = commandLines(guests).slice(1)
  for (const id of sessions) {
    const resumed = `--resume ${first.sessionId} --fork-session --session-id ${id} `
    expect(lines.filter((line) => line.includes(resumed))).toHaveLength(1)
  }
  expect(t.house.machines.created.slice(1).map(({ forkOf }) => forkOf)).toEqual(Array(3).fill(first.vmId))
  expect(t.house.machines.calls.filter((call) => call.startsWith('suspend'))).toHaveLength(1)
  expect(t.house.machines.list()).toMatchObject([{ id: first.vmId, taskId: first.id, state: 'suspended' }])
  const { items } = await t.house.tasks.list(OWNER, { limit: 9, continues: first.id })
  expect(items.map(({ id }) => id).toSorted()).toEqual(attempts.map(({ id }) => id).toSorted())
})

test('without a kept machine, attempts start from the stored state', async () => {
  const guests = claude((guest) => guest.write('a.txt', 'a'))
  const first = await runClaude()
  const attempts = await waitAll(await forked(first.id))
  expect(attempts.map(({ status }) => status)).toEqual(['succeeded', 'succeeded'])
  expect(guests.slice(1).map(({ unpacked }) => unpacked.length)).toEqual([2, 2])
  expect(
    commandLines(guests)
      .slice(1)
      .every((line) => line.includes(`--resume ${first.sessionId} --fork-session`)),
  ).toBe(true)
})

test('all attempts are queued or none', async () => {
  claude()
  const first = await runClaude()
  await expect(forked(first.id, { count: 11 })).rejects.toMatchObject({ code: 'queue_full' })
  t.house.machines.canSuspend = false
  await t.house.database.updateTable('tasks').set({ hasState: 0 }).execute()
  await expect(forked(first.id)).rejects.toMatchObject({ code: 'conflict' })
  expect((await t.house.tasks.list(OWNER, { limit: 9, continues: first.id })).items).toEqual([])
})

test('a task that takes over a kept machine needs no room besides it', async () => {
  claude()
  const first = await runClaude({ memoryMib: 5000, keepVmSeconds: 600 })
  // 8,192 MiB in all: another of that size waits for the kept one to go.
  const { id } = await t.house.tasks.submit(OWNER, request({ agent: 'claude-code', memoryMib: 5000 }))
  expect((await t.house.tasks.wait(OWNER, id, { timeoutMs: 20 })).status).toBe('queued')
  await t.house.tasks.cancel(OWNER, id)
  expect(await runClaude({ continues: first.id })).toMatchObject({ status: 'succeeded', vmId: first.vmId })
  await t.house.machines.suspend(first.vmId ?? '')
  expect(await runClaude({ memoryMib: 5000 })).toMatchObject({ status: 'succeeded' })
})
