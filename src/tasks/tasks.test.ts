import { Readable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { gunzipSync } from 'node:zlib'
import { extract } from 'tar-stream'
import { afterEach, assert, beforeEach, expect, test } from 'vitest'
import { agents } from '../agents/agents.ts'
import { VivariumError } from '../contracts/errors.ts'
import { newId } from '../contracts/ids.ts'
import type { Task } from '../contracts/task.ts'
import { openDatabase } from '../store/database.ts'
import { FakeGuest } from './testing/fake-guest.ts'
import type { FakeProcess } from './testing/fake-guest.ts'
import { fakeHouse, request } from './testing/fake-house.ts'
import { machineInfo, OWNER } from './testing/fake-machines.ts'

type House = ReturnType<typeof fakeHouse>
let house: House

async function newHouse(
  settings: Parameters<typeof fakeHouse>[2] = {},
  more: Parameters<typeof fakeHouse>[3] = {},
): Promise<House> {
  return fakeHouse(await openDatabase(':memory:'), agents, settings, more)
}

beforeEach(async () => {
  house = await newHouse()
})

afterEach(async () => {
  await house.tasks[Symbol.asyncDispose]()
  assert.deepEqual([...house.machines.alive.keys()], [], 'a machine was left')
  assert.equal(house.gateway.openSessions, 0, 'a gateway session was left open')
  await house.database.destroy()
})

/** The guest of the next machines. */
function guest(set: (guest: FakeGuest) => void): FakeGuest {
  const made = new FakeGuest()
  set(made)
  house.machines.guest = () => made
  return made
}

async function run(fields: Parameters<typeof request>[0] = {}): Promise<Task> {
  const { id } = await house.tasks.submit(OWNER, request(fields))
  return house.tasks.wait(OWNER, id)
}

function statuses(id: string): string[] {
  return (house.events.log.get(id) ?? []).flatMap((event) =>
    event.type === 'status' && event.phase === undefined ? [event.status] : [],
  )
}

/** Resolves when the agent of a task runs, with its process. */
function running(set: (guest: FakeGuest) => void = () => {}): Promise<FakeProcess> {
  const started = Promise.withResolvers<FakeProcess>()
  guest((made) => {
    made.play = started.resolve
    set(made)
  })
  return started.promise
}

const claudeResult = (fields: object = {}) =>
  `${JSON.stringify({ type: 'result', subtype: 'success', is_error: false, num_turns: 2, result: 'done', ...fields })}\n`

test('a task goes through every status, in its row and in its log, and comes back with its files', async () => {
  const made = guest((g) => {
    g.write('out/a.txt', 'text')
    g.write('b.png', Buffer.from('89504e470d0a1a0a00', 'hex'))
  })
  const seen: string[] = []
  house.events.onEvent = (event) => {
    if (event.type === 'status') void house.tasks.get(OWNER, event.taskId).then((task) => seen.push(task.status))
  }
  const task = await run()
  expect(task).toMatchObject({ status: 'succeeded', exitCode: 0, result: 'hello\n', error: null, hasPatch: false })
  expect(task.files).toEqual([
    { path: 'b.png', size: 9, mimeType: 'image/png' },
    { path: 'out/a.txt', size: 4, mimeType: 'text/plain' },
  ])
  expect(task.phases.map((phase) => phase.name)).toEqual(['boot', 'workspace', 'first output', 'agent run', 'collect'])
  expect(statuses(task.id)).toEqual(['queued', 'starting', 'running', 'collecting', 'succeeded'])
  expect(house.events.log.get(task.id)?.at(-1)).toMatchObject({ type: 'status', status: 'succeeded' })
  expect(seen.at(-1)).toBe('succeeded')
  expect([...made.processes.values()].map((process) => process.spec.user)).toEqual(['agent'])
  expect(made.baselines).toEqual([{ git: false }])
})

test('whoever has seen the last event finds the row final', async () => {
  guest(() => {})
  const found = Promise.withResolvers<Task>()
  house.events.onEvent = (event) => {
    if (event.type === 'status' && event.status === 'succeeded') found.resolve(house.tasks.get(OWNER, event.taskId))
  }
  await run()
  expect(await found.promise).toMatchObject({ status: 'succeeded', result: 'hello\n' })
})

test('one file, all files and the patch can be read', async () => {
  guest((g) => {
    g.write('a.txt', 'abcdef')
    g.patch = 'diff --git a/a.txt'
  })
  const { id, hasPatch } = await run({ files: [{ path: 'in/x', contentBase64: 'aGk=' }] })
  expect(hasPatch).toBe(true)
  const { file, body } = await house.tasks.file(OWNER, id, 'a.txt', { start: 1, end: 2 })
  expect([file.size, await text(body)]).toEqual([6, 'bc'])
  expect(await text(await house.tasks.patch(OWNER, id))).toBe('diff --git a/a.txt')
  const names: string[] = []
  const unpack = extract()
  unpack.end(gunzipSync(await buffer(await house.tasks.archive(OWNER, id))))
  for await (const entry of unpack) {
    names.push(`${entry.header.name} ${await text(entry)}`)
  }
  expect(names).toEqual(['a.txt abcdef'])
  await expect(house.tasks.file(OWNER, id, '../a.txt')).rejects.toMatchObject({ code: 'not_found' })
})

test('a failing script fails the task with its exit code and stderr, and its files still come back', async () => {
  guest((g) => {
    g.write('partial.txt', 'x')
    g.play = (process) => {
      process.print('no such file\n', 'stderr')
      process.end({ code: 3 })
    }
  })
  const task = await run()
  expect(task).toMatchObject({ status: 'failed', exitCode: 3, error: { code: 'agent_failed' } })
  expect(task.error?.message).toMatch(/exit code 3: no such file/)
  expect(task.files.map((file) => file.path)).toEqual(['partial.txt'])
})

test('out of memory is said in words', async () => {
  guest((g) => {
    g.play = (process) => process.end({ code: null, signal: 'SIGKILL', outOfMemory: true })
  })
  const task = await run()
  expect(task).toMatchObject({ status: 'failed', exitCode: 137, error: { code: 'out_of_memory' } })
})

test('a time limit ends the agent, also one that ignores SIGTERM, and files still come back', async () => {
  const made = guest((g) => {
    g.write('half.txt', 'half')
    g.play = (process) => {
      process.print('working')
      process.onSignal = (signal) => {
        if (signal === 'SIGKILL') process.end({ code: null, signal })
      }
    }
  })
  const task = await run({ timeoutSeconds: 1 })
  expect(task).toMatchObject({ status: 'timed_out', exitCode: 137, error: { code: 'timed_out' } })
  expect(task.error?.message).toMatch(/time limit of 1 s/)
  expect([...made.processes.values()][0]?.signals).toEqual(['SIGTERM', 'SIGKILL'])
  expect(task.files).toHaveLength(1)
})

test('a process that can not be killed is given up with its machine', async () => {
  guest((g) => {
    g.play = (process) => {
      process.onSignal = () => {}
    }
  })
  expect(await run({ timeoutSeconds: 1 })).toMatchObject({ status: 'timed_out', exitCode: null })
})

test('a waiting task is cancelled at once', async () => {
  const first = await newTaskThatRuns()
  const { id } = await house.tasks.submit(OWNER, request({ memoryMib: 8192 }))
  expect(await house.tasks.cancel(OWNER, id)).toMatchObject({ status: 'cancelled', error: { code: 'cancelled' } })
  expect(statuses(id)).toEqual(['queued', 'cancelled'])
  first.end()
})

async function newTaskThatRuns(): Promise<FakeProcess> {
  const process = running()
  await house.tasks.submit(OWNER, request())
  return process
}

test('a starting task is cancelled while its machine boots', async () => {
  const booting = Promise.withResolvers<void>()
  house.machines.boot = async ({ signal }) => {
    booting.resolve()
    await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)))
  }
  const { id } = await house.tasks.submit(OWNER, request())
  await booting.promise
  await house.tasks.cancel(OWNER, id)
  expect(await house.tasks.wait(OWNER, id)).toMatchObject({ status: 'cancelled', files: [] })
  expect(statuses(id)).toEqual(['queued', 'starting', 'cancelled'])
})

test('a running task is cancelled with its processes and its files come back', async () => {
  const started = running((g) => g.write('kept.txt', 'kept'))
  const { id } = await house.tasks.submit(OWNER, request())
  const process = await started
  await house.tasks.cancel(OWNER, id)
  const task = await house.tasks.wait(OWNER, id)
  expect(task).toMatchObject({ status: 'cancelled', exitCode: 143 })
  expect(task.files).toHaveLength(1)
  expect(process.signals).toEqual(['SIGTERM'])
  expect(statuses(id)).toEqual(['queued', 'starting', 'running', 'collecting', 'cancelled'])
})

test('cancelling a task whose agent is done changes nothing: its work is not lost', async () => {
  const collecting = Promise.withResolvers<void>()
  const go = Promise.withResolvers<void>()
  guest((g) => {
    g.write('done.txt', 'done')
    g.onChanges = async () => {
      collecting.resolve()
      await go.promise
    }
  })
  const { id } = await house.tasks.submit(OWNER, request())
  await collecting.promise
  await house.tasks.cancel(OWNER, id)
  go.resolve()
  expect(await house.tasks.wait(OWNER, id)).toMatchObject({ status: 'succeeded', files: [{ path: 'done.txt' }] })
  expect(await house.tasks.cancel(OWNER, id)).toMatchObject({ status: 'succeeded' })
})

test('a machine lost in the middle fails the task with the reason and keeps its events', async () => {
  const made = guest((g) => {
    g.play = (process) => {
      process.print('so far')
      setTimeout(() => g.lose('QEMU was ended by SIGKILL'), 20)
    }
  })
  const task = await run()
  expect(task).toMatchObject({ status: 'failed', error: { code: 'guest_lost' }, files: [] })
  expect(task.error?.message).toMatch(/QEMU was ended by SIGKILL/)
  const events = house.events.log.get(task.id) ?? []
  expect(events).toContainEqual(expect.objectContaining({ type: 'raw', text: 'so far' }))
  expect(events).toContainEqual(
    expect.objectContaining({ type: 'log', message: expect.stringMatching(/lost with the/) }),
  )
  expect(made.processes.size).toBe(1)
})

test('the files of a machine that is lost in the middle are read from its disk', async () => {
  house.machines.onDisk = new FakeGuest()
  house.machines.onDisk.write('saved.txt', 'so far')
  guest((g) => {
    g.play = () => void setTimeout(() => g.lose('QEMU was ended by SIGKILL'), 20)
  })
  const task = await run()
  expect(task).toMatchObject({ status: 'failed', error: { code: 'guest_lost' }, files: [{ path: 'saved.txt' }] })
  const vmId = task.vmId ?? ''
  expect(house.machines.calls).toEqual([`salvage ${vmId}`, `resume ${vmId}`])
  expect(house.machines.alive.size).toBe(0)
})

test('a machine that does not boot fails the task with the reason', async () => {
  house.machines.boot = async () => {
    throw new Error('no kernel')
  }
  expect(await run()).toMatchObject({ status: 'failed', error: { message: 'no kernel' } })
})

test('a log that can not be written fails the task and leaves nothing running', async () => {
  const started = running()
  const { id } = await house.tasks.submit(OWNER, request())
  const process = await started
  house.events.failure = new Error('disk full')
  process.print('lost')
  expect(await house.tasks.wait(OWNER, id)).toMatchObject({ status: 'failed', error: { code: 'storage_failed' } })
})

test('a task whose first event can not be stored is refused, and does not wait for ever', async () => {
  house.events.failure = new VivariumError('storage_failed', 'The disk is full.')
  await expect(house.tasks.submit(OWNER, request())).rejects.toMatchObject({ code: 'storage_failed' })
  expect(house.tasks.activeCount()).toBe(0)
  house.events.failure = undefined
  const { items } = await house.tasks.list(OWNER, { limit: 10 })
  expect(items).toMatchObject([{ status: 'failed', error: { code: 'storage_failed' } }])
})

test('an agent that lingers after its result is ended and the result counts', async () => {
  const started = running()
  const { id } = await house.tasks.submit(OWNER, request({ agent: 'claude-code', prompt: 'do it' }))
  const process = await started
  expect(await process.stdin.promise).toContain('"text":"do it"')
  process.print(claudeResult())
  const task = await house.tasks.wait(OWNER, id)
  expect(task).toMatchObject({ status: 'succeeded', exitCode: 0, result: 'done', turns: 2 })
  expect(process.signals).toEqual(['SIGTERM'])
})

test('a refused credential ends the agent at once instead of letting it try for minutes', async () => {
  const started = running()
  const { id } = await house.tasks.submit(OWNER, request({ agent: 'claude-code' }))
  await started
  house.gateway.sessions[0]?.onModelError?.({ status: 401, type: 'authentication_error', message: 'invalid x-api-key' })
  const task = await house.tasks.wait(OWNER, id)
  expect(task).toMatchObject({ status: 'failed', error: { code: 'model_error' } })
  expect(task.error?.message).toMatch(/refused the credential: invalid x-api-key/)
})

test('a failed model request is explained by what the gateway saw', async () => {
  guest((g) => {
    g.play = (process) => {
      house.gateway.sessions[0]?.onModelError?.({ status: 529, type: 'overloaded_error', message: 'Overloaded' })
      process.print(claudeResult({ is_error: true, result: 'API Error: Repeated 529' }))
      process.end({ code: 1 })
    }
  })
  const task = await run({ agent: 'claude-code' })
  expect(task.error?.message).toMatch(/Repeated 529.*529 overloaded_error: Overloaded/)
})

test("a spent budget is its own status, and cost is the gateway's count", async () => {
  const usage = { inputTokens: 10, outputTokens: 20, cacheReadTokens: 30, cacheWriteTokens: 40 }
  guest((g) => {
    g.play = (process) => {
      const overBudgetReason = "ada's budget is spent"
      house.gateway.spent = { usage, costUsd: 0.5, requests: 1, overBudget: true, overBudgetReason }
      const answered = { requestId: newId('mr'), model: 'm', costUsd: 0.5, complete: true, status: 200 }
      const counted = { ...answered, chargedUsd: 0.5, overBudgetUsd: 0.1 }
      house.gateway.sessions[0]?.onUsage?.({ ...usage, ...counted })
      process.print(claudeResult({ is_error: true, total_cost_usd: 7 }))
      process.end({ code: 1 })
    }
  })
  const task = await run({ agent: 'claude-code', maxCostUsd: 0.4 })
  expect(task).toMatchObject({ status: 'over_budget', costUsd: 0.5, usage })
  expect(task.error).toEqual({ code: 'over_budget', message: "ada's budget is spent" })
  expect(house.gateway.sessions[0]).toMatchObject({ maxCostUsd: 0.4, taskId: task.id, userId: OWNER })
  const events = house.events.log.get(task.id) ?? []
  expect(events).toContainEqual(
    expect.objectContaining({ type: 'usage', model: 'm', costUsd: 0.5, overBudgetUsd: 0.1 }),
  )
  expect(events).toContainEqual(expect.objectContaining({ type: 'result', reportedCostUsd: 7 }))
})

test('two tasks at once never mix their events', async () => {
  house.machines.guest = ({ taskId }) => {
    const made = new FakeGuest()
    made.play = async (process) => {
      for (let n = 0; n < 50; n += 1) {
        process.print(`${taskId}\n`)
        const usage = { inputTokens: 1, outputTokens: 1, cacheReadTokens: 0, cacheWriteTokens: 0 }
        const session = house.gateway.sessions.find((context) => context.taskId === taskId)
        const answered = { requestId: newId('mr'), costUsd: 0, chargedUsd: 0, complete: true, status: 200 }
        session?.onUsage?.({ ...usage, ...answered, model: taskId ?? '' })
        await new Promise((resolve) => setImmediate(resolve))
      }
      process.end()
    }
    return made
  }
  const tasks = await Promise.all([run(), run()])
  for (const { id } of tasks) {
    const printed = (house.events.log.get(id) ?? []).flatMap((event) => {
      if (event.type === 'raw') return event.text.trim().split('\n')
      return event.type === 'usage' ? [event.model] : []
    })
    expect(printed).toEqual(Array<string>(100).fill(id))
  }
})

test('inputs are in the workspace before the agent starts, and gone from the store after', async () => {
  const made = guest(() => {})
  const upload = await house.tasks.upload(OWNER, Readable.from(['tar bytes']))
  const repo = { url: 'https://git.example:8443/x.git', ref: 'main' }
  const files = [{ path: 'in/x.txt', contentBase64: Buffer.from('hi').toString('base64') }]
  const task = await run({ repo, files, uploadId: upload.id })
  expect(task.status).toBe('succeeded')
  expect(made.execs).toEqual([
    ['git', 'clone', '--quiet', '--', repo.url, '.'],
    ['git', 'checkout', '--quiet', 'main', '--'],
  ])
  expect(made.uploaded?.toString()).toBe('tar bytes')
  expect(made.files.get('/workspace/in/x.txt')?.toString()).toBe('hi')
  expect(made.baselines).toEqual([{ git: true }])
  expect(house.gateway.sessions[0]?.policy).toEqual({ allow: ['git.example:8443'] })
  expect([...house.blobs.bytes.keys()].filter((key) => !key.startsWith('results/'))).toEqual([])
  await expect(house.tasks.submit(OWNER, request({ uploadId: upload.id }))).rejects.toMatchObject({ code: 'not_found' })
})

test('a repository that can not be cloned fails the task with what git said', async () => {
  guest((g) => {
    g.exec = () => ({ exit: { code: 128, signal: null, outOfMemory: false }, stderr: Buffer.from('fatal: not found') })
  })
  const task = await run({ repo: { url: 'https://git.example/x.git' } })
  expect(task).toMatchObject({ status: 'failed', error: { code: 'invalid_request' } })
  expect(task.error?.message).toMatch(/git\.example\/x\.git could not be cloned: fatal: not found/)
})

test('the same request with the same key is the same task; a different one is a conflict', async () => {
  const options = { idempotencyKey: 'k1' }
  const [first, second] = await Promise.all([
    house.tasks.submit(OWNER, request({ metadata: { a: '1', b: '2' } }), options),
    house.tasks.submit(OWNER, request({ metadata: { b: '2', a: '1' } }), options),
  ])
  expect(second.id).toBe(first.id)
  await expect(house.tasks.submit(OWNER, request({ prompt: 'other' }), options)).rejects.toMatchObject({
    code: 'conflict',
  })
  expect((await house.tasks.submit('u_0000000000bb', request(), options)).id).not.toBe(first.id)
})

test.each([
  ['without a credential', { agent: 'claude-code' as const }, 'no_credential', /secret set anthropic-api-key/],
  ['larger than the host', { memoryMib: 9000 }, 'machine_too_large', /8192 MiB/],
  ['with a token in an address', { repo: { url: 'https://u:t@git.example/x' } }, 'invalid_request', /must not hold/],
])('a task %s is refused at once', async (_name, fields, code, message) => {
  house.gateway.credential = undefined
  const refused = house.tasks.submit(OWNER, request(fields))
  await expect(refused).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
  expect((await house.tasks.list(OWNER, { limit: 10 })).items).toEqual([])
})

test('a full queue refuses, and higher priority goes first', async () => {
  await house.tasks[Symbol.asyncDispose]()
  house = await newHouse({ maxQueued: 3 }, { limits: { machines: 1 } })
  const order: (string | null)[] = []
  const first = Promise.withResolvers<FakeProcess>()
  house.machines.guest = ({ taskId }) => {
    const made = new FakeGuest()
    order.push(taskId)
    if (order.length === 1) made.play = first.resolve
    return made
  }
  const submit = (priority: 'low' | 'normal' | 'high') => house.tasks.submit(OWNER, request({ priority }))
  const tasks = [await submit('low'), await submit('low'), await submit('normal'), await submit('high')]
  await expect(submit('high')).rejects.toMatchObject({ code: 'queue_full' })
  const process = await first.promise
  process.end()
  await Promise.all(tasks.map(({ id }) => house.tasks.wait(OWNER, id)))
  expect(order).toEqual([tasks[0]?.id, tasks[3]?.id, tasks[2]?.id, tasks[1]?.id])
})

test('machines without a task count, and their going lets a task start', async () => {
  house.machines.others = [machineInfo('vm_0000000000aa', null, 8000)]
  const { id } = await house.tasks.submit(OWNER, request())
  expect((await house.tasks.wait(OWNER, id, { timeoutMs: 20 })).status).toBe('queued')
  house.machines.others = []
  house.machines.changed()
  expect((await house.tasks.wait(OWNER, id)).status).toBe('succeeded')
})

test('a shutdown interrupts what runs, bringing its files back, and keeps what waits', async () => {
  const started = running((g) => g.write('kept.txt', 'kept'))
  const { id } = await house.tasks.submit(OWNER, request({ memoryMib: 8192 }))
  const { id: waiting } = await house.tasks.submit(OWNER, request())
  await started
  await house.tasks[Symbol.asyncDispose]()
  expect(await house.tasks.get(OWNER, id)).toMatchObject({ status: 'interrupted', files: [{ path: 'kept.txt' }] })
  expect((await house.tasks.get(OWNER, waiting)).status).toBe('queued')
  await expect(house.tasks.submit(OWNER, request())).rejects.toMatchObject({ code: 'shutting_down' })
})

test('a shutdown does not wait for a guest that hangs', async () => {
  const started = running((g) => {
    g.onChanges = () => new Promise(() => {})
  })
  const { id } = await house.tasks.submit(OWNER, request())
  const process = await started
  process.onSignal = () => {}
  await house.tasks[Symbol.asyncDispose]()
  expect((await house.tasks.get(OWNER, id)).status).toBe('interrupted')
})

test("tasks are listed newest first, page by page, each user's own only", async () => {
  const ids: string[] = []
  for (let n = 0; n < 5; n += 1) ids.push((await run()).id)
  await house.tasks.submit('u_0000000000bb', request())
  const seen: string[] = []
  for (let cursor: string | undefined; ;) {
    const page = await house.tasks.list(OWNER, { limit: 2, ...(cursor === undefined ? {} : { cursor }) })
    seen.push(...page.items.map((task) => task.id))
    if (page.nextCursor === undefined) break
    cursor = page.nextCursor
  }
  expect(seen.toSorted()).toEqual(ids.toSorted())
  expect((await house.tasks.list(OWNER, { limit: 9, status: 'failed' })).items).toEqual([])
  await expect(house.tasks.list(OWNER, { limit: 2, cursor: 'x' })).rejects.toMatchObject({ code: 'invalid_request' })
  await expect(house.tasks.get('u_0000000000bb', ids[0] ?? '')).rejects.toMatchObject({ code: 'not_found' })
})

test('a finished task can be forgotten with all of its, a running one can not', async () => {
  guest((g) => g.write('a.txt', 'a'))
  const { id } = await run()
  await house.tasks.remove(OWNER, id)
  await expect(house.tasks.get(OWNER, id)).rejects.toMatchObject({ code: 'not_found' })
  expect([house.blobs.bytes.size, house.events.log.has(id)]).toEqual([0, false])
  const process = await newTaskThatRuns()
  const { items } = await house.tasks.list(OWNER, { limit: 1 })
  await expect(house.tasks.remove(OWNER, items[0]?.id ?? '')).rejects.toMatchObject({ code: 'conflict' })
  process.end()
})

test('a wait ends with its time or its caller, and the task goes on', async () => {
  const process = await newTaskThatRuns()
  const { items } = await house.tasks.list(OWNER, { limit: 1 })
  const id = items[0]?.id ?? ''
  expect((await house.tasks.wait(OWNER, id, { timeoutMs: 10 })).status).toBe('running')
  await expect(house.tasks.wait(OWNER, id, { signal: AbortSignal.abort() })).rejects.toThrow(/aborted/)
  expect(house.tasks.activeCount()).toBe(1)
  process.end()
  expect((await house.tasks.wait(OWNER, id)).status).toBe('succeeded')
  expect(house.tasks.activeCount()).toBe(0)
})
