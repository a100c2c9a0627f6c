import { join } from 'node:path'
import { createGuestLink } from '../../src/link/link.ts'
import { createMachines } from '../../src/machines/machines.ts'
import { createQemuEngine } from '../../src/machines/qemu/engine.ts'
import { openDatabase } from '../../src/store/database.ts'
import { quietLog, REQUEST } from './fakes.ts'
import { images } from './room.ts'

/** The machines room as the program composes it, with software emulation, in the folders of one test. */
export async function openMachines(folder: string, runDir: string) {
  const database = await openDatabase(join(folder, 'vivarium.db'))
  const engine = createQemuEngine({ accel: 'tcg', cacheDir: folder, runDir, image: images.find })
  const machines = createMachines({
    database,
    images,
    chooseEngine: async () => engine,
    engines: [engine],
    runDir,
    diskDir: join(folder, 'machines'),
    scratchMib: 1024,
    largest: { memoryMib: 4096, vcpus: 4 },
    exclude: [],
    suspendIdleMs: 0,
    atShutdown: 'stop',
    templates: null,
    warmEgress: () => ({ accept: () => {}, [Symbol.asyncDispose]: async () => {} }),
    linkFactory: ({ machineId, timeScale }) => createGuestLink({ name: machineId, timeScale }),
    log: quietLog,
  })
  return { database, machines }
}

if (import.meta.main) {
  // An orchestrator that is killed while its machine is ready.
  const [folder = '', runDir = ''] = process.argv.slice(2)
  const { machines } = await openMachines(folder, runDir)
  const machine = await machines.create(REQUEST)
  console.log(machine.id)
  process.kill(process.pid, 'SIGKILL')
}
