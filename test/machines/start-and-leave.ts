/** Starts a machine and ends without ending it, as a killed orchestrator does. Takes a VmmSpec as JSON, prints its identity. */
import type { VmmSpec } from '../../src/machines/types.ts'
import { createQemuEngine } from '../../src/machines/qemu/engine.ts'

const spec: VmmSpec = JSON.parse(process.argv[2] ?? '')
const engine = createQemuEngine({ accel: 'tcg', cacheDir: '', runDir: '', image: async () => undefined })
const vmm = await engine.create(spec, async () => {})
console.log(JSON.stringify(vmm.identity))
process.kill(process.pid, 'SIGKILL')
