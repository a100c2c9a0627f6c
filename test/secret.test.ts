import { createReadStream, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { startScriptedModel } from '../scripted-model/server.ts'
import { compose } from '../src/compose.ts'
import { loadConfig } from '../src/config/load.ts'
import { TaskRequest } from '../src/contracts/task.ts'
import { createLogger } from '../src/telemetry/logger.ts'
import { TEST_KEY } from './support/orchestrator.ts'
import { conversation } from './support/scripts.ts'

/** Said by the model, so certainly in the guest's memory: shows that the search finds what is there. */
const MARKER = 'marker-8d1f5a7c3b904e26'

const script = {
  conversations: [
    conversation('use the model, then hold', [
      { type: 'text', text: `The model has answered: ${MARKER}.` },
      {
        type: 'tool_use',
        name: 'Bash',
        input: { command: `echo ${MARKER} > said.txt; python3 -c "import time; time.sleep(3600)"`, timeout: 600_000 },
      },
    ]),
  ],
}

/** How often each needle occurs in a file, read as a stream. */
async function count(path: string, needles: string[]): Promise<number[]> {
  const counts = needles.map(() => 0)
  let tail = Buffer.alloc(0)
  for await (const chunk of createReadStream(path, { highWaterMark: 8 * 1024 * 1024 })) {
    const window = Buffer.concat([tail, chunk as Buffer])
    for (const [index, needle] of needles.entries())
      if (window.includes(needle)) counts[index] = (counts[index] ?? 0) + 1
    tail = window.subarray(-64)
  }
  return counts
}

test('the credential is nowhere in a guest that has used it: not in its memory, its disk, its environment or its files', async () => {
  const home = mkdtempSync(join(tmpdir(), 'vivarium-secret-'))
  try {
    await using model = await startScriptedModel({ script, requireKey: TEST_KEY })
    const env = {
      VIVARIUM_HOME: home,
      VIVARIUM_ANTHROPIC_UPSTREAM: model.url,
      ANTHROPIC_API_KEY: TEST_KEY,
      PATH: process.env['PATH'],
      VIVARIUM_READY_MACHINES: '0',
      VIVARIUM_READY_CLAUDE: '0',
    }
    const { config } = loadConfig({}, undefined, env)
    await using orchestrator = await compose(config, createLogger('error'))
    const { user } = await orchestrator.identity.ensureOwner()
    const { id } = await orchestrator.tasks.submit(
      user.id,
      TaskRequest.parse({ prompt: 'use the model, then hold' }),
    )
    for await (const event of orchestrator.events.follow(id, 1)) if (event.type === 'tool_call') break
    const { vmId } = await orchestrator.tasks.get(user.id, id)
    const machine = orchestrator.machines.get(vmId ?? '')
    expect(machine).toBeDefined()
    if (machine === undefined || vmId === null) return

    const exec = (command: string) =>
      orchestrator.access.exec(user.id, vmId, { command, cwd: '/', env: {}, stdin: '', timeoutSeconds: 300 })
    const held = await exec('until [ -s /workspace/said.txt ]; do sleep 0.2; done; sync')
    expect(held.exitCode).toBe(0)
    const environments = await exec("sudo sh -c 'cat /proc/[0-9]*/environ'")
    expect(environments.stdout).toContain('ANTHROPIC_BASE_URL')
    expect(environments.stdout).not.toContain(TEST_KEY)

    const dump = join(home, 'memory.elf')
    await machine.dumpMemory(dump)
    const [keysInMemory, markersInMemory] = await count(dump, [TEST_KEY, MARKER])
    expect(markersInMemory).toBeGreaterThan(0)
    expect(keysInMemory).toBe(0)

    // qcow2 keeps what the guest wrote as it is, so the file can be searched itself.
    const disk = join(config.home, 'machines', vmId, 'scratch.qcow2')
    const [keysOnDisk, markersOnDisk] = await count(disk, [TEST_KEY, MARKER])
    expect(markersOnDisk).toBeGreaterThan(0)
    expect(keysOnDisk).toBe(0)
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
})
