import { expect, test } from 'vitest'
import { createClient } from '../client/client.ts'
import type { BuildProgress } from '../client/types.ts'
import { createApp } from './app.ts'
import { fakeOptions, fakeServices } from './testing/fake-services.ts'

function setUp() {
  const fakes = fakeServices()
  const app = createApp(fakes.services, fakeOptions)
  const clientOf = (apiKey: string) =>
    createClient({ url: 'http://127.0.0.1:8080', apiKey, fetch: (request) => app.fetch(request) })
  return { ...fakes, app, ada: clientOf('vv_ada'), owner: clientOf('vv_owner') }
}

test('a machine is started from a template, suspended and resumed, by its user only', async () => {
  const { ada, owner } = setUp()
  const machine = await ada.vms.create({ template: 'web' })
  expect(machine).toMatchObject({ startedFrom: 'template', template: 'web' })
  await expect(owner.vms.suspend(machine.id)).rejects.toMatchObject({ code: 'not_found' })
  await expect(owner.vms.resume(machine.id)).rejects.toMatchObject({ code: 'not_found' })
  expect((await ada.vms.suspend(machine.id)).state).toBe('suspended')
  expect((await ada.vms.resume(machine.id)).state).toBe('ready')
})

test('a template is built with progress, listed for everybody, and removed', async () => {
  const { ada, owner, templates } = setUp()
  const news: BuildProgress[] = []
  const built = await owner.templates.build({ name: 'web', vcpus: 4 }, { onProgress: (update) => news.push(update) })
  expect(news).toEqual([{ step: 'boot', fraction: 0.25 }])
  expect(templates.requests).toEqual([{ name: 'web', memoryMib: 2048, vcpus: 4, rebuild: false }])
  expect(await ada.templates.list()).toEqual([built])
  await owner.templates.remove('web')
  expect(await ada.templates.list()).toEqual([])
  await expect(owner.templates.remove('web')).rejects.toMatchObject({ code: 'not_found' })
})

test('a client that wants no stream gets the template when it is built', async () => {
  const { app } = setUp()
  const response = await app.request('http://127.0.0.1:8080/api/v1/templates', {
    method: 'POST',
    headers: { authorization: 'Bearer vv_owner', 'content-type': 'application/json' },
    body: '{}',
  })
  expect([response.status, await response.json()]).toEqual([200, expect.objectContaining({ name: 'default' })])
})

test('only the owner builds and removes templates', async () => {
  const { ada, owner, templates } = setUp()
  await owner.templates.build()
  await expect(ada.templates.build({ rebuild: true })).rejects.toMatchObject({ code: 'forbidden' })
  await expect(ada.templates.remove('default')).rejects.toMatchObject({ code: 'forbidden' })
  expect(templates.requests).toHaveLength(1)
  expect(await ada.templates.list()).toHaveLength(1)
})

test('a build that fails says why, and one whose client leaves is given up', async () => {
  const { owner, templates } = setUp()
  await expect(owner.templates.build({ name: 'broken' })).rejects.toMatchObject({
    code: 'invalid_request',
    message: expect.stringContaining('warm-up'),
  })
  const leaving = new AbortController()
  const build = owner.templates.build(
    { name: 'endless' },
    { signal: leaving.signal, onProgress: () => leaving.abort() },
  )
  await expect(build).rejects.toThrow('aborted')
  await expect.poll(() => templates.abandoned).toBe(1)
})

test('forks are tasks of their own that name the one they branch off from', async () => {
  const { ada, owner, tasks } = setUp()
  const task = await ada.tasks.submit({ prompt: 'first' })
  await expect(ada.tasks.fork(task.id, { prompt: 'again' })).rejects.toMatchObject({ code: 'conflict' })
  await tasks.finish(task.id)
  await expect(owner.tasks.fork(task.id, { prompt: 'again' })).rejects.toMatchObject({ code: 'not_found' })
  await expect(ada.tasks.fork(task.id, { prompt: 'again', count: 21 })).rejects.toMatchObject({ field: 'count' })
  const forks = await ada.tasks.fork(task.id, { prompt: 'again', count: 3, maxTurns: 5 })
  expect(new Set(forks.map((fork) => fork.id)).size).toBe(3)
  for (const fork of forks) expect(fork).toMatchObject({ continues: task.id, fork: true, prompt: 'again', maxTurns: 5 })

  const followUp = await ada.tasks.submit({ prompt: 'and then', continues: task.id, keepVmSeconds: 60 })
  const { items } = await ada.tasks.list({ continues: task.id })
  expect(items.map((item) => item.id).toSorted()).toEqual([...forks, followUp].map((item) => item.id).toSorted())
  expect(tasks.requests.at(-1)).toMatchObject({ continues: task.id, keepVmSeconds: 60 })
})
