import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { installCommand, missingTools } from './packages.ts'

test('what is missing is named with the one command that installs it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-doctor-'))
  try {
    writeFileSync(join(folder, 'here-vv'), '#!/bin/sh\n')
    writeFileSync(join(folder, 'no-program-vv'), '')
    chmodSync(join(folder, 'here-vv'), 0o755)
    const tools = ['here-vv', 'no-program-vv', 'absent-vv'].map((tool) => ({
      tool,
      package: `pkg-${tool}`,
      why: 'a test',
    }))
    const missing = missingTools(tools, folder)
    expect(missing.map(({ tool }) => tool)).toEqual(['no-program-vv', 'absent-vv'])
    expect(installCommand(missing).join(' ')).toBe(
      'apt-get install --yes --no-install-recommends pkg-absent-vv pkg-no-program-vv',
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})
