/**
 * Builds what is part of the program but not run from source into `dist/assets` (see src/assets.ts): the guest agent and
 * the workers as one file each, the guest's scripts and systemd's units as they are, the dashboard. Does nothing when no source has changed.
 *
 *   node scripts/build-assets.ts
 */
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const OUT = join(ROOT, 'dist/assets')

/** Bundled modules: asset name → entry. Workers end in `.worker.ts` and stand beside the code that starts them. */
function bundles(): Record<string, string> {
  const workers = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.worker.ts'),
  )
  const entries = workers.map((name) => [
    `workers/${name.split('/').at(-1)?.replace('.worker.ts', '')}.mjs`,
    `src/${name}`,
  ])
  return { 'guest/agent.mjs': 'guest/main.ts', ...Object.fromEntries(entries) }
}

/** A digest of every file that can change an asset. */
function sourceDigest(): string {
  const hash = createHash('sha256')
  for (const folder of ['guest', 'web', 'src', 'packaging']) {
    const names = readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !entry.name.endsWith('.test.ts'))
      .map((entry) => join(entry.parentPath, entry.name))
    for (const name of names.toSorted())
      hash.update(name.slice(ROOT.length)).update('\0').update(readFileSync(name)).update('\0')
  }
  hash.update(readFileSync(join(ROOT, 'package-lock.json'))).update(readFileSync(fileURLToPath(import.meta.url)))
  return hash.digest('hex')
}

async function build(into: string): Promise<void> {
  const { rolldown } = await import('rolldown')
  for (const [name, entry] of Object.entries(bundles())) {
    if (!existsSync(join(ROOT, entry))) continue
    const bundle = await rolldown({ input: join(ROOT, entry), platform: 'node', logLevel: 'warn' })
    await bundle.write({ file: join(into, name), format: 'esm', codeSplitting: false })
    await bundle.close()
  }
  cpSync(join(ROOT, 'guest/rootfs'), join(into, 'guest/rootfs'), { recursive: true })
  cpSync(join(ROOT, 'packaging/systemd'), join(into, 'systemd'), { recursive: true })
  await buildDashboard(join(into, 'web'))
}

/**
 * Vite takes NODE_ENV from the process before its own mode: under a test runner it would bundle React's development build,
 * and the digest would keep it for the executable.
 */
async function buildDashboard(outDir: string): Promise<void> {
  const { build: viteBuild } = await import('vite')
  const before = process.env['NODE_ENV']
  process.env['NODE_ENV'] = 'production'
  try {
    await viteBuild({
      root: join(ROOT, 'web'),
      configFile: join(ROOT, 'web/vite.config.ts'),
      logLevel: 'warn',
      build: { outDir, emptyOutDir: true },
    })
  } finally {
    if (before === undefined) delete process.env['NODE_ENV']
    else process.env['NODE_ENV'] = before
  }
}

/** Builds if anything changed; returns whether it did. */
export async function buildAssets(): Promise<boolean> {
  const digest = sourceDigest()
  const stamp = join(OUT, '.digest')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return false
  const fresh = `${OUT}.new-${process.pid}`
  rmSync(fresh, { recursive: true, force: true })
  mkdirSync(fresh, { recursive: true })
  await build(fresh)
  writeFileSync(join(fresh, '.digest'), digest)
  rmSync(OUT, { recursive: true, force: true })
  renameSync(fresh, OUT)
  return true
}

if (import.meta.main) {
  const built = await buildAssets()
  console.log(built ? 'assets built' : 'assets are up to date')
}
