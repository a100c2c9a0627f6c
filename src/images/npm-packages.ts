import { chmod, copyFile, mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import pacote from 'pacote'
import { VivariumError } from '../contracts/errors.ts'
import { npmSettingsForFetching, pacoteOptions, type NpmSettings } from '../registries/npmrc.ts'
import type { PinnedPackage, Recipe } from './recipe.ts'
import { run } from './run.ts'

/**
 * Fetches Node, npm and Claude Code into `work/npm`, each checked against the integrity in the recipe, from the registry
 * this host's npm is configured for. Runs beside the making of the Debian part.
 */
export async function fetchNpmPackages(work: string, recipe: Recipe, settings: NpmSettings, signal?: AbortSignal) {
  const options = pacoteOptions(settings)
  const fetchOne = async ({ name, version, integrity }: PinnedPackage, folder: string): Promise<void> => {
    signal?.throwIfAborted()
    try {
      await pacote.extract(`${name}@${version}`, join(work, 'npm', folder), { ...options, integrity })
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      throw new VivariumError('image_failed', `Fetching ${name}@${version} from npm failed: ${why}`, { cause: error })
    }
  }
  await Promise.all([
    fetchOne(recipe.architecture.node, 'node'),
    fetchOne(recipe.npm, 'npm'),
    fetchOne(recipe.architecture.claude, 'claude'),
  ])
}

/** Puts what was fetched into the root, below /usr/local. */
export async function installNpmPackages(work: string, root: string): Promise<void> {
  const prefix = join(root, 'usr/local')
  const modules = join(prefix, 'lib/node_modules')
  await mkdir(join(prefix, 'bin'), { recursive: true })
  await mkdir(modules, { recursive: true })
  for (const [from, to] of [
    ['node/bin/node', 'node'],
    ['claude/claude', 'claude'],
  ] as const) {
    const target = join(prefix, 'bin', to)
    await copyFile(join(work, 'npm', from), target)
    await chmod(target, 0o755)
  }
  await run('cp', ['-R', join(work, 'npm/npm'), join(modules, 'npm')], { signal: undefined })
  for (const name of ['npm', 'npx']) {
    await symlink(`../lib/node_modules/npm/bin/${name}-cli.js`, join(prefix, 'bin', name))
    await chmod(join(modules, `npm/bin/${name}-cli.js`), 0o755)
  }
  await rm(join(work, 'npm'), { recursive: true })
}

/**
 * Installs the user's extra npm packages globally in the root, with the root's own Node and npm and this host's npm
 * settings. Their install scripts do not run: they would run as root on this host.
 */
export async function installExtraNpmPackages(
  work: string,
  names: string[],
  settings: NpmSettings,
  signal?: AbortSignal,
): Promise<void> {
  if (names.length === 0) return
  const prefix = join(work, 'root/usr/local')
  const userConfig = join(work, 'npmrc')
  // May hold tokens: for this folder only, never for the root.
  const lines = Object.entries(npmSettingsForFetching(settings)).map(([key, value]) => `${key}=${value}\n`)
  await writeFile(userConfig, lines.join(''), { mode: 0o600 })
  const npm = join(prefix, 'lib/node_modules/npm/bin/npm-cli.js')
  const configs = [`--userconfig=${userConfig}`, '--globalconfig=/dev/null', `--prefix=${prefix}`]
  const quiet = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-update-notifier']
  await run(join(prefix, 'bin/node'), [npm, 'install', '--global', ...configs, ...quiet, '--', ...names], { signal })
}
