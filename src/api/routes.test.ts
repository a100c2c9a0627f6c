import { Readable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { createClient } from '../client/client.ts'
import { createApp } from './app.ts'
import { fakeOptions, fakeServices } from './testing/fake-services.ts'

function setUp() {
  const fakes = fakeServices()
  const app = createApp(fakes.services, fakeOptions)
  const clientOf = (apiKey: string) =>
    createClient({ url: 'http://127.0.0.1:8080', apiKey, fetch: (r) => app.fetch(r) })
  const ask = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
    app.fetch(
      new Request(`http://127.0.0.1:8080/api/v1${path}`, {
        method,
        headers: { authorization: 'Bearer vv_ada', ...headers },
      }),
    )
  return { ...fakes, ask, ada: clientOf('vv_ada'), owner: clientOf('vv_owner') }
}

test('a task goes through its whole life over the client', async () => {
  const { ada, tasks } = setUp()
  const task = await ada.tasks.submit({ prompt: 'hello', maxTurns: 3 }, { idempotencyKey: 'once' })
  expect(task).toMatchObject({ status: 'queued', prompt: 'hello', maxTurns: 3, memoryMib: 2048 })
  expect((await ada.tasks.submit({ prompt: 'hello', maxTurns: 3 }, { idempotencyKey: 'once' })).id).toBe(task.id)
  expect((await ada.tasks.list({ status: 'queued' })).items.map((item) => item.id)).toEqual([task.id])
  await expect(ada.tasks.remove(task.id)).rejects.toMatchObject({ code: 'conflict' })
  expect((await ada.tasks.cancel(task.id)).status).toBe('cancelled')
  expect(tasks.cancelled).toEqual([task.id])
  await ada.tasks.remove(task.id)
  await expect(ada.tasks.get(task.id)).rejects.toMatchObject({ code: 'not_found' })
})

test("another user's task and machine are not found, whatever is asked of them", async () => {
  const { ada, owner } = setUp()
  const task = await owner.tasks.submit({ prompt: 'mine' })
  const machine = await owner.vms.create()
  const asked = [
    ada.tasks.get(task.id),
    ada.tasks.cancel(task.id),
    ada.tasks.events(task.id),
    ada.tasks.follow(task.id)[Symbol.asyncIterator]().next(),
    ada.tasks.files(task.id),
    ada.tasks.patch(task.id),
    ada.tasks.archive(task.id),
    ada.vms.get(machine.id),
    ada.vms.exec(machine.id, { command: 'id' }),
    ada.vms.readFile(machine.id, '/etc/passwd'),
    ada.vms.destroy(machine.id),
  ]
  for (const promise of asked) await expect(promise).rejects.toMatchObject({ code: 'not_found' })
})

test('a workspace is taken as a tar stream, and only as one, up to its cap', async () => {
  const { ada, ask, tasks } = setUp()
  const upload = await ada.tasks.upload(Readable.from([Buffer.alloc(1024, 7), Buffer.alloc(512, 7)]))
  expect(upload.size).toBe(1536)
  expect(tasks.uploads[0]).toEqual(Buffer.alloc(1536, 7))
  const huge = Readable.from(Array.from({ length: 20 }, () => Buffer.alloc(100_000)))
  await expect(ada.tasks.upload(huge)).rejects.toMatchObject({ code: 'too_large' })
  expect((await ask('/uploads', { 'content-type': 'text/plain' }, 'POST')).status).toBe(415)
})

test('a page of events says where the next one starts', async () => {
  const { ada, log, tasks } = setUp()
  const { id } = await ada.tasks.submit({ prompt: 'x' })
  await log.append(id, [
    { type: 'text', text: 'a' },
    { type: 'text', text: 'b' },
  ])
  await tasks.finish(id)
  const first = await ada.tasks.events(id, { from: 1, limit: 3 })
  expect(first).toMatchObject({ items: [{ seq: 1 }, { seq: 2 }, { seq: 3 }], nextFrom: 4 })
  expect(await ada.tasks.events(id, { from: 4, limit: 1 })).toEqual({ items: [expect.objectContaining({ seq: 4 })] })
})

test('guest-made files are named as what they are, sandboxed, and saved instead of shown unless raster images', async () => {
  const { ada, ask, tasks } = setUp()
  const { id } = await ada.tasks.submit({ prompt: 'x' })
  tasks.addFile(id, 'out/page.html', Buffer.from('<script>alert(1)</script>'), 'text/html')
  tasks.addFile(id, 'picture.svg', Buffer.from('<svg/>'), 'image/svg+xml')
  tasks.addFile(id, 'plot.png', Buffer.from('png'), 'image/png')
  tasks.addFile(id, 'odd "näme".txt', Buffer.from('x'), 'text/plain\r\nset-cookie: a=b')
  const dispositions: Record<string, string> = {
    'out/page.html': 'attachment',
    'picture.svg': 'attachment',
    'plot.png': 'inline',
    'odd "näme".txt': 'attachment',
  }
  for (const [path, disposition] of Object.entries(dispositions)) {
    const { headers } = await ask(`/tasks/${id}/files/${path.split('/').map(encodeURIComponent).join('/')}`)
    expect(headers.get('x-content-type-options')).toBe('nosniff')
    expect(headers.get('content-security-policy')).toBe("sandbox; default-src 'none'")
    expect(headers.get('content-disposition')).toMatch(new RegExp(`^${disposition}; filename=`))
    expect(headers.get('set-cookie')).toBeNull()
  }
  const odd = await ask(`/tasks/${id}/files/${encodeURIComponent('odd "näme".txt')}`)
  expect(odd.headers.get('content-disposition')).toBe(
    `attachment; filename="odd _n_me_.txt"; filename*=UTF-8''odd%20%22n%C3%A4me%22.txt`,
  )
  expect(odd.headers.get('content-type')).toBe('application/octet-stream')
  expect((await ada.tasks.files(id)).map((file) => file.path)).toEqual(Object.keys(dispositions))
})

test('a file comes whole, in ranges, and as headers alone', async () => {
  const { ada, ask, tasks } = setUp()
  const { id } = await ada.tasks.submit({ prompt: 'x' })
  tasks.addFile(id, 'a.txt', Buffer.from('0123456789'), 'text/plain')
  const path = `/tasks/${id}/files/a.txt`
  const whole = await ada.tasks.file(id, 'a.txt')
  expect(whole).toMatchObject({ mimeType: 'text/plain; charset=utf-8', size: 10 })
  expect(await text(whole.body)).toBe('0123456789')
  const ranges: Record<string, [number, string, string | null]> = {
    'bytes=2-4': [206, '234', 'bytes 2-4/10'],
    'bytes=7-': [206, '789', 'bytes 7-9/10'],
    'bytes=-3': [206, '789', 'bytes 7-9/10'],
    'bytes=5-99': [206, '56789', 'bytes 5-9/10'],
    'bytes=0-1,3-4': [200, '0123456789', null],
    'lines=1-2': [200, '0123456789', null],
  }
  for (const [range, [status, body, contentRange]] of Object.entries(ranges)) {
    const response = await ask(path, { range })
    expect([response.status, await response.text(), response.headers.get('content-range')]).toEqual([
      status,
      body,
      contentRange,
    ])
  }
  const beyond = await ask(path, { range: 'bytes=10-' })
  expect([beyond.status, beyond.headers.get('content-range')]).toEqual([416, 'bytes */10'])
  const head = await ask(path, {}, 'HEAD')
  expect([head.status, head.headers.get('content-length'), await head.text()]).toEqual([200, '10', ''])
})

test('a file that is not there, and a path that leaves the workspace, are refused', async () => {
  const { ada, ask } = setUp()
  const { id } = await ada.tasks.submit({ prompt: 'x' })
  await expect(ada.tasks.file(id, 'missing')).rejects.toMatchObject({ code: 'not_found' })
  await expect(ada.tasks.file(id, '../../me')).rejects.toMatchObject({ code: 'invalid_request', field: 'path' })
  expect((await ask(`/tasks/${id}/files/${encodeURIComponent('../../me')}`)).status).toBe(400)
})

test('patch and archive are downloads', async () => {
  const { ada, ask } = setUp()
  const { id } = await ada.tasks.submit({ prompt: 'x' })
  expect(await text((await ada.tasks.patch(id)).body)).toContain('diff --git')
  expect(await buffer((await ada.tasks.archive(id)).body)).toEqual(Buffer.from([0x1f, 0x8b]))
  const disposition = (await ask(`/tasks/${id}/archive`)).headers.get('content-disposition')
  expect(disposition).toContain(`attachment; filename="${id}.tar.gz"`)
})

test('a machine is made, used and destroyed over the client', async () => {
  const { ada } = setUp()
  const machine = await ada.vms.create({ memoryMib: 1024 })
  expect(await ada.vms.list()).toEqual([machine])
  const result = await ada.vms.exec(machine.id, { command: 'echo hi' })
  expect(result).toEqual({ exitCode: 143, stdout: 'echo hi', stderr: '', truncated: false, timedOut: false })
  await ada.vms.writeFile(machine.id, '/workspace/a', Buffer.from([1, 2, 3]))
  expect(await buffer((await ada.vms.readFile(machine.id, '/workspace/a')).body)).toEqual(Buffer.from([1, 2, 3]))
  await expect(ada.vms.exec(machine.id, {})).rejects.toMatchObject({ code: 'invalid_request', field: 'command' })
  await expect(ada.vms.readFile(machine.id, 'relative')).rejects.toMatchObject({ field: 'path' })
  await ada.vms.destroy(machine.id)
  await expect(ada.vms.get(machine.id)).rejects.toMatchObject({ code: 'not_found' })
})

test('a command whose watcher leaves is killed, and one whose machine goes says so', async () => {
  const { ada, machines } = setUp()
  const { id } = await ada.vms.create()
  for await (const event of ada.vms.execStream(id, { command: 'hang' })) {
    expect(event.kind).toBe('stdout')
    break
  }
  await expect.poll(() => machines.killed).toBe(1)
  await expect(ada.vms.exec(id, { command: 'vanish' })).rejects.toMatchObject({ code: 'guest_lost' })
})

test('only the owner manages people, and everybody their own keys', async () => {
  const { ada, owner, identity } = setUp()
  await expect(ada.users.list()).rejects.toMatchObject({ code: 'forbidden' })
  await expect(ada.users.create('eve')).rejects.toMatchObject({ code: 'forbidden' })
  await expect(ada.keys.create({ userId: identity.owner.id })).rejects.toMatchObject({
    code: 'forbidden',
    field: 'userId',
  })
  const key = await ada.keys.create({ label: 'laptop' })
  expect(key).toMatchObject({ userId: identity.ada.id, label: 'laptop', key: expect.stringMatching(/^vv_/) })
  expect((await ada.keys.list()).every((listed) => listed.userId === identity.ada.id)).toBe(true)
  const ownersKey = (await owner.keys.list()).find((listed) => listed.userId === identity.owner.id)
  await expect(ada.keys.remove(ownersKey?.id ?? '')).rejects.toMatchObject({ code: 'not_found' })
  await ada.keys.remove(key.id)
  const user = await owner.users.create('bob')
  await expect(owner.users.create('bob')).rejects.toMatchObject({ code: 'conflict', field: 'name' })
  await owner.users.remove(user.id)
  expect((await owner.users.list()).map((listed) => listed.name)).toEqual(['owner', 'ada'])
})

test("usage is one's own, for the owner everybody's", async () => {
  const { ada, owner, identity } = setUp()
  expect(await ada.usage({ by: 'model' })).toMatchObject([{ key: `model:${identity.ada.id}` }])
  expect(await owner.usage({ since: '2026-11-01' })).toMatchObject([{ key: 'day:all' }])
  await expect(ada.usage({ since: 'yesterday' })).rejects.toMatchObject({ field: 'since' })
})

test('usage comes as CSV to whoever asks for it', async () => {
  const { ask, identity } = setUp()
  for (const response of [await ask('/usage?format=csv'), await ask('/usage', { accept: 'text/csv' })]) {
    expect(response.headers.get('content-type')).toBe('text/csv; charset=utf-8')
    expect(response.headers.get('content-disposition')).toBe('attachment; filename="usage-by-day.csv"')
    expect(await response.text()).toBe(
      'day,requests,inputTokens,outputTokens,cacheReadTokens,cacheWriteTokens,costUsd,incomplete,unpriced\r\n' +
        `day:${identity.ada.id},1,1,2,3,4,0.5,0,0\r\n`,
    )
  }
  expect((await ask('/usage')).headers.get('content-type')).toContain('application/json')
})

test('removing a user stops what would go on spending with nobody to see it', async () => {
  const { ada, owner, identity, tasks } = setUp()
  const running = await ada.tasks.submit({ prompt: 'go on and on' })
  await owner.users.remove(identity.ada.id)
  expect(tasks.cancelled).toEqual([running.id])
})

test('what retention has taken is answered 410 with the setting and the day, the task itself goes on telling', async () => {
  const { ada, ask, tasks } = setUp()
  const { id } = await ada.tasks.submit({ prompt: 'hello' })
  const removal = (setting: string) => ({ at: '2026-01-31T12:00:00.000Z', setting })
  const removed = { files: removal('retention.resultsDays'), events: removal('retention.eventsMib') }
  await tasks.finish(id, 'succeeded', { removed })
  expect(await ada.tasks.get(id)).toMatchObject({ status: 'succeeded', removed })
  for (const path of ['files', 'files/a.txt']) {
    const response = await ask(`/tasks/${id}/${path}`)
    expect([response.status, await response.json()]).toMatchObject([
      410,
      { code: 'gone', detail: `The results of ${id} were removed by retention (retention.resultsDays) on 2026-01-31.` },
    ])
  }
  for (const accept of ['application/json', 'text/event-stream']) {
    const response = await ask(`/tasks/${id}/events`, { accept })
    expect([response.status, await response.text()]).toEqual([410, expect.stringContaining('retention.eventsMib')])
  }
})
