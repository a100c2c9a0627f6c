/**
 * The first step of every npm script, in plain JavaScript for Node 20: installs the locked npm packages (Node 26 among
 * them) unless they are there already, then hands over to a TypeScript script run by that Node 26.
 *
 *   node scripts/bootstrap.mjs SCRIPT [ARGUMENTS…]      e.g. demo, test
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const modules = join(root, 'node_modules')
const node = join(modules, '.bin/node')
const stamp = join(modules, '.vivarium-lock')

function run(command, args, options = {}) {
  const { status, signal, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options })
  if (error) {
    console.error(`${command} could not be started: ${error.message}`)
    process.exit(1)
  }
  if (signal) process.kill(process.pid, signal)
  return status ?? 1
}

const lock = createHash('sha256')
  .update(readFileSync(join(root, 'package-lock.json')))
  .digest('hex')
if (!existsSync(node) || !existsSync(stamp) || readFileSync(stamp, 'utf8') !== lock) {
  console.error('Installing npm packages …')
  // Not `npm ci`: it refuses a lockfile without the packages of other platforms, which not every registry serves.
  const status = run('npm', ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error'], {
    stdio: ['ignore', 2, 2],
  })
  if (status !== 0) {
    console.error(
      'npm install failed: see its message above. The packages come from the registry that npm is configured for.',
    )
    process.exit(status)
  }
  writeFileSync(stamp, lock)
}

const [script, ...args] = process.argv.slice(2)
if (script !== undefined) {
  const env = { ...process.env, PATH: `${join(modules, '.bin')}${delimiter}${process.env.PATH ?? ''}` }
  process.exit(run(node, [join(root, 'scripts', `${script}.ts`), ...args], { env }))
}
