import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { copyFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import { Task } from '../src/contracts/task.ts'
import { startOrchestrator } from './support/orchestrator.ts'
import { conversation } from './support/scripts.ts'

const BUILD = fileURLToPath(new URL('../scripts/build-executable.ts', import.meta.url))
const BUILT = fileURLToPath(new URL('../dist/vivarium', import.meta.url))

test('the executable runs a task with no clone in sight', async () => {
  await execa(process.execPath, [BUILD])
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-executable-'))
  try {
    const vivarium = join(folder, 'vivarium')
    await copyFile(BUILT, vivarium)
    await using orchestrator = await startOrchestrator({
      program: [vivarium],
      script: {
        conversations: [
          conversation('write it', [
            { type: 'tool_use', name: 'Bash', input: { command: 'echo it > it.txt' } },
            { type: 'text', text: 'Written.' },
          ]),
        ],
      },
    })
    const { code, stdout, stderr } = await orchestrator.cli(['run', 'write it', '--json', '--memory', '1024'], {
      cwd: folder,
    })
    expect({ code, stderr }).toMatchObject({ code: 0 })
    const task = Task.parse(JSON.parse(stdout.trim().split('\n').at(-1) ?? ''))
    expect(task).toMatchObject({ status: 'succeeded', result: 'Written.', files: [{ path: 'it.txt', size: 3 }] })
    const page = await (await fetch(orchestrator.url)).text()
    expect(page).toContain('<div id="root">')
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
