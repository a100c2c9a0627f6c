import { appendFile, mkdir, readdir, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { REQUEST, setUpMachines } from '../../../test/machines/fakes.ts'
import { createMachines } from '../machines.ts'
import { ownTag } from '../../files/owner.ts'

const SHAPE = { memoryMib: 512, vcpus: 1 }
const PLAIN = { ...SHAPE, name: 'default', rebuild: false }
const warm = { web: { script: 'npm ci', allow: [], timeoutSeconds: 5 } }

type Set = Awaited<ReturnType<typeof setUpMachines>>

/** Folders of templates, whole or not. */
async function stored({ folder }: Set): Promise<string[]> {
  return (await readdir(join(folder, 'templates'))).filter((name) => !name.startsWith('build.lock'))
}

/** Boots so far: what else there was came from a template. */
function boots({ engine }: Set): number {
  return engine.specs.length - engine.restored.length
}

test('a template is built once, however many ask for it, and machines start from it', async () => {
  await using set = await setUpMachines({}, { templates: {} })
  const { machines } = set
  const built = await Promise.all([1, 2, 3].map(() => machines.templates.build(PLAIN)))
  for (const template of built) expect(template).toMatchObject({ name: 'default', state: 'ready', memory: 'mapped' })
  expect(boots(set)).toBe(1)
  expect(machines.list()).toEqual([])
  const machine = await machines.create(REQUEST)
  expect(machine.info()).toMatchObject({ startedFrom: 'template', template: 'default', state: 'ready' })
  const [name = ''] = await stored(set)
  expect(set.engine.restored).toEqual([{ folder: join(set.folder, 'templates', name), disk: 'over' }])
  await machines.templates.build(PLAIN)
  expect(boots(set)).toBe(1)
})

test('a plain template that was missed is built when there is nothing better to do; few are remembered', async () => {
  await using set = await setUpMachines({}, { templates: {} })
  const { machines } = set
  for (let memoryMib = 512; memoryMib < 532; memoryMib += 1) {
    const machine = await machines.create({ ...REQUEST, memoryMib })
    expect(machine.info().startedFrom).toBe('boot')
    await machine.destroy()
  }
  for (let round = 0; round < 20; round += 1) await machines.templates.buildWanted()
  expect(await machines.templates.list()).toHaveLength(8)
  const machine = await machines.create(REQUEST)
  expect(machine.info().startedFrom).toBe('template')
})

test.each([
  ['the VMM', (set: Set) => void (set.engine.version = 'fake 2'), /the vmm has changed: fake 1 → fake 2/],
  ['the guest image', (set: Set) => void (set.image.manifest.key = 'another'), /the guest image has changed/],
  ['its memory file', spoil('memory'), /its file memory was changed or replaced/],
  ['its state file', spoil('state'), /its file state was changed or replaced/],
])('a template is not used once %s has changed; why is logged, and it is built again', async (_, change, reason) => {
  await using set = await setUpMachines({}, { templates: {} })
  const { machines } = set
  await machines.templates.build(PLAIN)
  await change(set)
  const machine = await machines.create(REQUEST)
  expect(machine.info().startedFrom).toBe('boot')
  await machines.templates.build(PLAIN)
  const reasons = set.said.map(({ facts }) => String(facts['reason']))
  expect(reasons).toContainEqual(expect.stringMatching(reason))
  expect((await machines.create(REQUEST)).info().startedFrom).toBe('template')
})

/** Writes a byte as a VMM that was broken out of could, and hides the time of it. */
function spoil(file: string) {
  return async (set: Set) => {
    const [name = ''] = await stored(set)
    const path = join(set.folder, 'templates', name, file)
    await writeFile(path, 'x', { flag: 'r+' })
    await utimes(path, 0, 0)
  }
}

test('a build that fails tells its user why, and leaves nothing', async () => {
  await using set = await setUpMachines({}, { templates: { warm } })
  const { machines, behaviour } = set
  behaviour.exec = (_, stdin) => (stdin === 'npm ci' ? 3 : 0)
  await expect(machines.create({ ...REQUEST, template: 'web' })).rejects.toMatchObject({
    code: 'invalid_request',
    message: 'The warm-up script of the template ended with 3: it went wrong',
  })
  behaviour.exec = () => 0
  behaviour.during = { save: () => Promise.reject(new Error('no space left')) }
  await expect(machines.templates.build(PLAIN)).rejects.toThrow('no space left')
  expect(await stored(set)).toEqual([])
  expect(machines.list()).toEqual([])
  expect(await set.database.selectFrom('machines').select('id').execute()).toEqual([])
})

test('a name that the settings do not have is not found', async () => {
  await using set = await setUpMachines({}, { templates: { warm } })
  await expect(set.machines.create({ ...REQUEST, template: 'wob' })).rejects.toMatchObject({
    code: 'not_found',
    message: expect.stringContaining('default, web'),
  })
})

test('a server without templates has none, and builds none', async () => {
  await using set = await setUpMachines()
  await expect(set.machines.templates.build(PLAIN)).rejects.toMatchObject({ code: 'conflict' })
  await expect(set.machines.create({ ...REQUEST, template: 'web' })).rejects.toMatchObject({ code: 'conflict' })
  expect((await set.machines.create(REQUEST)).info().startedFrom).toBe('boot')
})

test('one of those who wait for a build may leave; it ends with the last', async () => {
  await using set = await setUpMachines({}, { templates: {} })
  const { templates } = set.machines
  const reached = Promise.withResolvers<void>()
  const goOn = Promise.withResolvers<void>()
  set.behaviour.exec = async () => {
    reached.resolve()
    await goOn.promise
    return 0
  }
  const [first, second] = [new AbortController(), new AbortController()]
  const leaving = templates.build(PLAIN, { signal: first.signal })
  const staying = templates.build(PLAIN, { signal: second.signal })
  await reached.promise
  first.abort(new Error('not any more'))
  await expect(leaving).rejects.toThrow('not any more')
  goOn.resolve()
  expect(await staying).toMatchObject({ state: 'ready' })

  set.behaviour.exec = async () => {
    second.abort(new Error('nobody waits'))
    return 0
  }
  const alone = templates.build({ ...PLAIN, memoryMib: 513 }, { signal: second.signal })
  await expect(alone).rejects.toThrow('nobody waits')
  await expect.poll(() => set.machines.list()).toEqual([])
  await expect.poll(() => stored(set)).toHaveLength(1)
})

test('the disk budget costs the longest unused template its place, never the one just built', async () => {
  await using set = await setUpMachines({}, { templates: { maxBytes: 3 * 4096 * 4 } })
  const { templates } = set.machines
  for (const memoryMib of [512, 513, 514]) await templates.build({ ...PLAIN, memoryMib })
  expect(await templates.list()).toHaveLength(3)
  await set.machines.create(REQUEST) // 512 is used, so 513 is the oldest
  await templates.build({ ...PLAIN, memoryMib: 515 })
  const sizes = (await templates.list()).map(({ memoryMib }) => memoryMib).toSorted()
  expect(sizes).toEqual([512, 514, 515])

  await using poor = await setUpMachines({}, { templates: { maxBytes: 1 } })
  await poor.machines.templates.build(PLAIN)
  expect(await poor.machines.templates.list()).toHaveLength(1)
})

test('what dead builders have left is removed by the next, what living ones build is not', async () => {
  await using set = await setUpMachines({}, { templates: {} })
  const folder = join(set.folder, 'templates')
  const [namespace, pid, , random] = (await ownTag()).split('-')
  const dead = `.new-${[namespace, pid, '1', random].join('-')}`
  const living = `.new-${await ownTag()}`
  for (const name of [dead, living, '.old-000000000000']) await mkdir(join(folder, name), { recursive: true })
  await set.machines.templates.build(PLAIN)
  expect((await stored(set)).filter((name) => name.startsWith('.'))).toEqual([living])
})

test('a template from which no machine comes up is replaced by a boot, and removed at the second time', async () => {
  await using set = await setUpMachines({}, { templates: { warm } })
  const { machines, behaviour } = set
  await machines.templates.build(PLAIN)
  behaviour.during = { restore: () => Promise.reject(new Error('load of migration failed')) }
  expect((await machines.create(REQUEST)).info()).toMatchObject({ startedFrom: 'boot', template: null })
  expect(await machines.templates.list()).toHaveLength(1)
  behaviour.during = {}
  expect((await machines.create(REQUEST)).info().startedFrom).toBe('template')
  behaviour.during = { restore: () => Promise.reject(new Error('load of migration failed')) }
  for (const left of [1, 0]) {
    expect((await machines.create(REQUEST)).info().startedFrom).toBe('boot')
    expect(await machines.templates.list()).toHaveLength(left)
  }

  // There is no other way to a named one.
  const failed = machines.create({ ...REQUEST, template: 'web' })
  await expect(failed).rejects.toThrow('load of migration failed')
  expect(await machines.templates.list()).toEqual([])
})

test('a machine starts from another one where its template is removed in that moment', async () => {
  await using set = await setUpMachines({}, { templates: {} })
  const { machines, engine } = set
  await machines.templates.build(PLAIN)
  const restore = engine.restore.bind(engine)
  engine.restore = async (...given) => {
    engine.restore = restore
    await machines.templates.build({ ...PLAIN, rebuild: true })
    return restore(...given)
  }
  expect((await machines.create(REQUEST)).info()).toMatchObject({ state: 'ready' })
  expect(await machines.templates.list()).toHaveLength(1)
  expect((await machines.create(REQUEST)).info().startedFrom).toBe('template')
})

test('closing ends a build, and leaves nothing of it', async () => {
  await using set = await setUpMachines({}, { templates: {} })
  const closed = Promise.withResolvers<void>()
  set.behaviour.exec = async () => {
    set.machines[Symbol.asyncDispose]().then(closed.resolve, closed.reject)
    return 0
  }
  await expect(set.machines.templates.build(PLAIN)).rejects.toMatchObject({ code: 'shutting_down' })
  await closed.promise
  expect(await stored(set)).toEqual([])
})

test('several orchestrators share a folder: what one has built, the others use', async () => {
  await using set = await setUpMachines({}, { templates: {} })
  await using other = createMachines({
    ...set.options,
    runDir: join(set.folder, 'run2'),
    diskDir: join(set.folder, 'disks2'),
  })
  const all = await Promise.all([set.machines, other].map(({ templates }) => templates.build(PLAIN)))
  expect(all[0]?.builtAt).toBe(all[1]?.builtAt)
  expect(boots(set)).toBe(1)
})

test('a manifest that is not ours to read is no template', async () => {
  await using set = await setUpMachines({}, { templates: {} })
  await set.machines.templates.build(PLAIN)
  const [name = ''] = await stored(set)
  await appendFile(join(set.folder, 'templates', name, 'manifest.json'), '}')
  expect(await set.machines.templates.list()).toEqual([])
  expect((await set.machines.create(REQUEST)).info().startedFrom).toBe('boot')
})
