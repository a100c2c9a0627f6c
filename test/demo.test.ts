import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { processesNaming, run } from './support/orchestrator.ts'

const DEMO = fileURLToPath(new URL('../scripts/demo.ts', import.meta.url))

test('the demo shows a task in colour with its files, cost and times, says who plays the model, and ends by itself', async () => {
  const home = mkdtempSync(join(tmpdir(), 'vivarium-demo-'))
  try {
    const env = {
      PATH: process.env['PATH'] ?? '',
      HOME: home,
      VIVARIUM_HOME: home,
      VIVARIUM_LISTEN: '127.0.0.1:0',
      FORCE_COLOR: '1',
    }
    const { code, stdout } = await run([process.execPath, DEMO], { env })
    expect(code).toBe(0)
    expect(stdout).toContain('a scripted model plays the part of Claude')
    expect(stdout).toMatch(/Dashboard: http:\/\/127\.0\.0\.1:\d+\/#key=vv_/)
    // Thinking in purple, a tool call in orange, the result in green.
    for (const colour of [141, 208, 78]) expect(stdout).toContain(`\u001b[38;5;${colour}m`)
    for (const file of ['primes.png', 'primes.py', 'report.md'])
      expect(stdout).toMatch(new RegExp(`(?:B|KiB)  ${file}`))
    expect(stdout).toMatch(/cost.*\$0\.\d{4}/)
    expect(stdout).toMatch(/time.*vmm \d+\.\d s, .*agent \d+\.\d s.*agent run/)
    expect(processesNaming(home)).toEqual([])
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
})
