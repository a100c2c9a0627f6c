import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { gunzip, zstdDecompress } from 'node:zlib'
import { execa } from 'execa'
import { VivariumError } from '../contracts/errors.ts'
import { moduleName, modulesInOrder } from './modules.ts'
import { run } from './run.ts'

/**
 * Unpacks kernel and busybox from `work/debs` into `image`: `kernel`, `busybox`, and the wanted modules with all they depend
 * on, decompressed, as `modules/NN-name.ko` in the order to load them. Returns the kernel's version.
 */
export async function unpackKernel(
  work: string,
  image: string,
  wanted: string[],
  signal: AbortSignal | undefined,
): Promise<string> {
  const tree = join(work, 'kernel')
  for (const name of (await readdir(join(work, 'debs'))).toSorted()) {
    await run('dpkg-deb', ['--extract', join(work, 'debs', name), tree], { signal })
  }
  const busybox = firstExisting([join(tree, 'usr/bin/busybox'), join(tree, 'bin/busybox')], 'busybox-static')
  const release = join(firstExisting([join(tree, 'usr/lib/modules'), join(tree, 'lib/modules')], 'the kernel'), '.')
  const version = (await readdir(release))[0] ?? ''
  await copyFile(firstExisting([join(tree, 'boot', `vmlinuz-${version}`)], 'the kernel'), join(image, 'kernel'))
  await copyFile(busybox, join(image, 'busybox'))

  const files = await findModules(join(release, version))
  const builtIn = await builtInModules(join(release, version))
  const modules = await modulesInOrder(wanted, async (name) => {
    const file = files.get(name)
    if (file !== undefined) return decompress(file, busybox)
    if (builtIn.has(name)) return undefined
    throw new VivariumError('image_failed', `Debian's kernel ${version} has no module ${name}, which guests need.`)
  })
  await mkdir(join(image, 'modules'))
  for (const [index, { name, content }] of modules.entries()) {
    await writeFile(join(image, 'modules', `${String(index).padStart(2, '0')}-${name}.ko`), content)
  }
  await rm(tree, { recursive: true })
  return version
}

function firstExisting(paths: string[], what: string): string {
  const found = paths.find((path) => existsSync(path))
  if (found === undefined) throw new VivariumError('image_failed', `Debian's package of ${what} lacks ${paths[0]}.`)
  return found
}

/** Module name → file, compressed or not. */
async function findModules(folder: string): Promise<Map<string, string>> {
  const names = await readdir(folder, { recursive: true })
  const files = names.filter((name) => /\.ko(?:\.(?:xz|zst|gz))?$/.test(name))
  return new Map(files.map((name) => [moduleName(basename(name).replace(/\.ko.*$/, '')), join(folder, name)]))
}

async function builtInModules(folder: string): Promise<Set<string>> {
  const list = await readFile(join(folder, 'modules.builtin'), 'utf8')
  return new Set(list.split('\n').map((line) => moduleName(basename(line, '.ko'))))
}

async function decompress(file: string, busybox: string): Promise<Buffer> {
  if (file.endsWith('.xz')) {
    const { stdout } = await execa(busybox, ['xzcat', file], { encoding: 'buffer' })
    return Buffer.from(stdout)
  }
  const content = await readFile(file)
  if (file.endsWith('.zst')) return promisify(zstdDecompress)(content)
  if (file.endsWith('.gz')) return promisify(gunzip)(content)
  return content
}
