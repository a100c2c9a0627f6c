import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { installDebian, setUpRoot, writeGuestFiles } from './debian.ts'
import { makeRootDisk } from './disks.ts'
import type { HostFacts } from './host.ts'
import { unpackKernel } from './kernel.ts'
import { fetchNpmPackages, installExtraNpmPackages, installNpmPackages } from './npm-packages.ts'
import { recipeKey, type Recipe } from './recipe.ts'
import type { ImageManifest, Progress } from './types.ts'

/**
 * Builds everything of an image but its initramfs in the empty folder `work`, and returns the folder of the finished image:
 * `manifest.json`, `kernel`, `root.ext4`, and what an initramfs is made of. Fractions are shares of a measured build.
 */
export async function buildImage(
  work: string,
  recipe: Recipe,
  host: HostFacts,
  progress: Progress,
  signal: AbortSignal | undefined,
): Promise<string> {
  const root = join(work, 'root')
  const image = join(work, 'image')
  await mkdir(image)

  progress({ step: 'fetching packages', fraction: 0 })
  const debian = (fraction: number) => progress({ step: 'installing Debian packages', fraction: fraction * 0.7 })
  // Both must have ended before the folder may be removed, also when one fails.
  const fetched = await Promise.allSettled([
    installDebian(work, recipe, host, debian, signal),
    fetchNpmPackages(work, recipe, host.npm, signal),
  ])
  for (const part of fetched) if (part.status === 'rejected') throw part.reason

  progress({ step: 'installing Node and Claude Code', fraction: 0.7 })
  await rm(join(root, 'etc/apt/sources.list.d'), { recursive: true, force: true })
  await rm(join(root, 'etc/apt/sources.list'), { force: true })
  await writeGuestFiles(root, recipe.files)
  await installNpmPackages(work, root)
  await installExtraNpmPackages(work, recipe.extraPackages.npm, host.npm, signal)
  await setUpRoot(root, recipe.setup, signal)

  progress({ step: 'unpacking the kernel', fraction: 0.75 })
  const kernelVersion = await unpackKernel(work, image, recipe.kernelModules, signal)

  progress({ step: 'making the disk', fraction: 0.8 })
  await makeRootDisk(root, join(image, 'root.ext4'), signal)

  const manifest: ImageManifest = {
    key: recipeKey(recipe),
    kernelVersion,
    nodeVersion: recipe.architecture.node.version,
    claudeVersion: recipe.architecture.claude.version,
    extraPackages: recipe.extraPackages,
    builtAt: new Date().toISOString(),
  }
  await writeFile(join(image, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`)
  progress({ step: 'image built', fraction: 1 })
  return image
}
