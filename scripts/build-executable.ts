/**
 * `npm run build`: one file, `dist/vivarium`, with Node.js, the program, the guest agent, the image's recipe, migrations and the
 * dashboard inside (https://nodejs.org/api/single-executable-applications.html).
 */
import { chmodSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { spawnSync } from 'node:child_process'
import { rolldown } from 'rolldown'
import { buildAssets } from './build-assets.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const DIST = join(ROOT, 'dist')

/** Asset name → file, as `sea-config.json` wants them. */
function assets(): Record<string, string> {
  const folder = join(DIST, 'assets')
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(
    (name) => !name.startsWith('.') && statSync(join(folder, name)).isFile(),
  )
  return Object.fromEntries(names.toSorted().map((name) => [name, join(folder, name)]))
}

await buildAssets()
const bundle = await rolldown({ input: join(ROOT, 'src/main.ts'), platform: 'node', logLevel: 'warn' })
// One chunk: an executable has no files beside it to import.
await bundle.write({ file: join(DIST, 'main.mjs'), format: 'esm', codeSplitting: false })
await bundle.close()

const output = join(DIST, 'vivarium')
const config = join(DIST, 'sea-config.json')
writeFileSync(
  config,
  JSON.stringify({
    main: join(DIST, 'main.mjs'),
    mainFormat: 'module',
    output,
    disableExperimentalSEAWarning: true,
    assets: assets(),
  }),
)
const { status } = spawnSync(process.execPath, ['--build-sea', config], { stdio: ['ignore', 'ignore', 'inherit'] })
if (status !== 0) throw new Error('node --build-sea failed')
chmodSync(output, 0o755)
console.log(`${output} (${Math.round(statSync(output).size / 1e6)} MB)`)
