import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { Qmp } from './qmp.ts'
import { QemuVmm } from './vmm.ts'

/** A VMM whose monitor answers every command with `answer`; the process is this one, and nothing ends it. */
async function takenOver(
  answer: unknown,
  answers: Record<string, () => unknown> = {},
): Promise<{ vmm: QemuVmm; monitor: Socket; asked: string[] }> {
  const folder = await mkdtemp(join(tmpdir(), 'vmm-'))
  const path = join(folder, 'qmp.sock')
  const asked: string[] = []
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', (data) => {
      for (const line of data.toString().trim().split('\n')) {
        const command: { execute: string; id: number } = JSON.parse(line)
        asked.push(command.execute)
        socket.write(`${JSON.stringify({ id: command.id, return: answers[command.execute]?.() ?? answer })}\n`)
      }
    })
  }).listen(path)
  const connected = once(server, 'connection')
  const qmp = await Qmp.connect(path, AbortSignal.timeout(20_000))
  const [monitor] = (await connected) as [Socket]
  const ended = Promise.withResolvers<string>()
  const identity = { pid: 2 ** 22 + 1, startTime: 1 }
  const vmm = new QemuVmm({
    id: 'vm_1',
    identity,
    uid: undefined,
    runDir: folder,
    diskDir: folder,
    memoryMib: 1,
    memoryFile: 'none',
    timeScale: 1,
    qmp,
    booting: true,
    ended: ended.promise,
  })
  onTestFinished(async () => {
    ended.resolve('it is over')
    qmp.close()
    server.close()
    await rm(folder, { recursive: true })
  })
  return { vmm, monitor, asked }
}

test.each([5, null, { status: 7 }, ['x']])(
  'a monitor that answers with nonsense (case %#) is not believed, and breaks nothing',
  async (answer) => {
    // A promise that rejects unheard would end the process, and fails this run.
    const { vmm, monitor, asked } = await takenOver(answer)
    monitor.write('{"event": "STOP"}\n{"event": "VSERPORT_CHANGE", "data": {"id": [], "open": "no"}}\n')
    expect(await vmm.consoleTail()).toBe('')
    await expect.poll(() => asked).toContain('query-status')
    await vmm.checkStatus()
  },
)

test('a guest that stopped because the host has no room is said to stand still, and goes on when there is room', async () => {
  let status = 'io-error'
  const { vmm, monitor, asked } = await takenOver(
    {},
    {
      'query-status': () => ({ status }),
      cont: () => {
        status = 'running'
        return {}
      },
    },
  )
  const told: (string | undefined)[] = []
  vmm.onStall((why) => told.push(why))
  monitor.write('{"event": "STOP"}\n')
  await expect
    .poll(() => told, { timeout: 10_000 })
    .toEqual([expect.stringContaining('The disk of this host is full'), undefined])
  expect(asked.filter((command) => command === 'cont')).toHaveLength(1)
})
