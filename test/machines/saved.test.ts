import { existsSync } from 'node:fs'
import { link, mkdtemp, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createGuestLink } from '../../src/link/link.ts'
import type { ExecOutput } from '../../src/link/types.ts'
import type { ProcessIdentity, SavedMachine, Vmm } from '../../src/machines/types.ts'
import { openRoom } from './room.ts'

type Room = Awaited<ReturnType<typeof openRoom>>
type Place = Awaited<ReturnType<Room['another']>>

/** One machine is booted for all of these tests; the others start from what it was saved as. */
let room: Room
let saved: string

/** A machine with the host's end of its link. Disposing kills it and checks that no process and no group is left. */
async function openMachine(place: Place, start: () => Promise<Vmm>) {
  await using resources = new AsyncDisposableStack()
  const guest = resources.use(createGuestLink({ name: place.spec.id, timeScale: 8 }))
  resources.use(await place.listen((socket) => guest.accept(socket)))
  const vmm = await start()
  resources.defer(async () => {
    await vmm.kill()
    expect(await place.remains()).toEqual([])
  })
  await guest.hello({ hostname: 'saved' }, AbortSignal.timeout(200_000))
  const machine = resources.move()
  return {
    ...place,
    vmm,
    link: guest,
    async run(command: string): Promise<string> {
      const spec = { argv: ['bash', '-c', command], env: {}, cwd: '/workspace', user: 'agent' as const }
      return (await guest.exec(spec, { timeoutMs: 120_000 })).stdout.toString().trim()
    },
    /** Until nothing is on its way to or from the guest, and its processors stand still. */
    async rest() {
      await guest.park({ drainMs: 1000 })
      await vmm.pause()
    },
    [Symbol.asyncDispose]: () => machine.disposeAsync(),
  }
}

async function restore(place: Place, from: SavedMachine) {
  return openMachine(place, () => room.engine('tcg').restore(place.spec, from, async () => {}))
}

/** What would show that a file was written, or put in another's place. */
async function fingerprint(path: string) {
  const { ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
  return { ino, size, mtimeNs, ctimeNs }
}

beforeAll(async () => {
  room = await openRoom()
  const { engine, another } = room
  const place = await another()
  const spec = { ...place.spec, memory: 'file' as const }
  await using machine = await openMachine(place, () => engine('tcg').create(spec, async () => {}))
  await machine.run('echo before > note; sync')
  await machine.link.park({ drainMs: 1000 })
  await machine.vmm.settled(AbortSignal.timeout(200_000))
  await machine.vmm.pause()
  await machine.vmm.save()
  saved = spec.diskDir
})

afterAll(() => room[Symbol.asyncDispose]())

test('two machines start at once from a saved one; what each writes is its own, and what they share stays as it was', async () => {
  expect((await readdir(saved)).toSorted()).toEqual(['memory', 'scratch.qcow2', 'state', 'vmm.log'])
  const shared = () => Promise.all(['memory', 'state'].map((name) => fingerprint(join(saved, name))))
  const before = await shared()
  const from = { folder: saved, disk: 'over' } as const
  await using machines = new AsyncDisposableStack()
  const start = async () => machines.use(await restore(await room.another(), from))
  const [one, two] = await Promise.all([start(), start()])
  expect(await one.run('cat note; echo one > note; echo "memory of one" > /dev/shm/mine; cat note')).toBe('before\none')
  expect(await two.run('cat note; echo two > note; ls /dev/shm')).toBe('before')
  expect(await one.run('cat note')).toBe('one')
  await one.vmm.dumpMemory(join(room.cacheDir, 'memory.core'))
  expect((await execa('grep', ['-c', '--text', 'memory of one', join(room.cacheDir, 'memory.core')])).exitCode).toBe(0)
  expect(await shared()).toEqual(before)
})

test('a machine that could not be saved goes on; one that was saved goes on where it was, and so does a copy of it', async () => {
  await using machine = await restore(await room.another(), { folder: saved, disk: 'over' })
  const { link: guest, spec, vmm } = machine
  const counting = {
    argv: ['bash', '-c', 'for i in $(seq 1 100000); do echo $i; sleep 0.05; done'],
    stdin: 'none' as const,
  }
  await guest.start('x_counting', { ...counting, env: {}, cwd: '/workspace', user: 'agent' })
  expect(await machine.run('cat note; echo mine > note; cat note')).toBe('before\nmine')

  await machine.rest()
  const given = new AbortController()
  const failed = vmm.save(given.signal)
  given.abort(new Error('not now'))
  await expect(failed).rejects.toThrow('not now')
  expect((await readdir(spec.diskDir)).filter((name) => name.startsWith('state'))).toEqual([])
  await vmm.resume()
  guest.wake()
  await guest.hello({ hostname: 'saved' }, AbortSignal.timeout(200_000))

  await machine.rest()
  await vmm.save()
  await vmm.kill()
  expect(await machine.remains()).toEqual([])
  const { promise: said, resolve } = Promise.withResolvers<string>()
  void read(guest.output('x_counting', 0)).then(resolve)
  {
    await using copy = await restore(await room.another(), { folder: spec.diskDir, disk: 'copy' })
    expect(await copy.run('cat note; echo copied > note; pgrep -fc "^bash -c for i"')).toBe('mine\n1')
  }
  const again = await room.engine('tcg').restore(spec, { folder: spec.diskDir, disk: 'own' }, async () => {})
  guest.wake()
  await guest.hello({ hostname: 'saved' }, AbortSignal.timeout(200_000))
  try {
    expect(await machine.run('cat note; pkill -f "^bash -c for i"; cat note')).toBe('mine\nmine')
    const numbers = (await said).trim().split('\n').map(Number)
    expect(numbers.length).toBeGreaterThan(1)
    expect(numbers).toEqual(numbers.map((_, index) => index + 1))
    expect(existsSync(join(spec.diskDir, 'state'))).toBe(false)
  } finally {
    await again.kill()
  }
})

test.each([
  ['cut short', (state: Buffer) => state.subarray(0, state.length / 2)],
  ['no state at all', () => Buffer.from('something else entirely')],
])('a state that is %s is refused, and nothing is left', async (_, spoil) => {
  const folder = await mkdtemp(join(room.cacheDir, 'spoiled-'))
  for (const name of ['memory', 'scratch.qcow2']) await link(join(saved, name), join(folder, name))
  await writeFile(join(folder, 'state'), spoil(await readFile(join(saved, 'state'))))
  const place = await room.another()
  await using _streams = await place.listen()
  const restored = room.engine('tcg').restore(place.spec, { folder, disk: 'over' }, async () => {})
  await expect(restored).rejects.toMatchObject({
    code: 'engine_failed',
    message: expect.stringMatching(/^QEMU did not take up the saved machine: .*load of migration failed/),
  })
  expect(await place.remains()).toEqual([])
})

test('a folder without a state is refused: the machine in it was never wholly saved', async () => {
  const folder = await mkdtemp(join(room.cacheDir, 'unsaved-'))
  await link(join(saved, 'scratch.qcow2'), join(folder, 'scratch.qcow2'))
  const place = await room.another()
  const restored = room.engine('tcg').restore(place.spec, { folder, disk: 'over' }, async () => {})
  await expect(restored).rejects.toMatchObject({
    code: 'engine_failed',
    message: expect.stringMatching(/^A file of the machine can't be opened: .*state/),
  })
  expect(await place.remains()).toEqual([])
})

test('QEMU killed while it takes up or saves a machine is told, and leaves no state', async () => {
  const from = { folder: saved, disk: 'over' } as const
  const place = await room.another()
  await using _streams = await place.listen()
  const kill = async ({ pid }: ProcessIdentity) => void process.kill(pid, 'SIGKILL')
  await expect(room.engine('tcg').restore(place.spec, from, kill)).rejects.toMatchObject({
    code: 'engine_failed',
    message: expect.stringContaining('killed by SIGKILL'),
  })
  expect(await place.remains()).toEqual([])

  await using machine = await restore(await room.another(), from)
  await machine.rest()
  const saving = machine.vmm.save()
  process.kill(machine.vmm.identity.pid, 'SIGKILL')
  await expect(saving).rejects.toMatchObject({ code: 'engine_failed' })
  expect((await readdir(machine.spec.diskDir)).filter((name) => name.startsWith('state'))).toEqual([])
})

async function read(output: AsyncIterable<ExecOutput>): Promise<string> {
  let text = ''
  for await (const piece of output) if (piece.kind !== 'exit') text += piece.data.toString()
  return text
}
