/** `npm run check`: what can be judged without running the program. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** TypeScript 7. Its package has no API for other tools, so dependency-cruiser reads the source with TypeScript 6. */
const TSC = ['node', 'node_modules/typescript-native/bin/tsc'] as const

/** Name → command line, run in the clone's root. */
export const CHECKS: Record<string, readonly string[]> = {
  format: ['oxfmt', '--check', '.'],
  lint: ['oxlint'],
  types: [...TSC, '-p', '.'],
  'types of the dashboard': [...TSC, '-p', 'web'],
  boundaries: ['depcruise', 'src', 'guest', 'web/src', 'scripted-model', '--output-type', 'err'],
  'unused code': ['knip'],
}

if (import.meta.main) {
  const root = fileURLToPath(new URL('..', import.meta.url))
  for (const [name, [command = '', ...args]] of Object.entries(CHECKS)) {
    const { status } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] })
    console.log(`${status === 0 ? '✓' : '✗'} ${name}`)
    if (status !== 0) process.exitCode = 1
  }
}
