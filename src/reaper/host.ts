import { readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { abandonedIn, WORKSPACE_PREFIX } from '../files/owner.ts'
import { findBuildLeftovers } from '../images/build-once.ts'
import { TemplateStore } from '../machines/templates/store.ts'
import type { FindLeaks, FoundLeak } from './types.ts'

/**
 * Where things are on their way to their place: guest images, templates and files of the cache, which others share, and of the data folder.
 * Each says who makes it, so that it can be judged by anybody.
 */
export function hostLeaks({ home, cacheDir }: { home: string; cacheDir: string }): FindLeaks[] {
  const images = join(cacheDir, 'images')
  const passing = async () => {
    const built = (await readdir(images).catch(() => [])).map((name) => join(images, name)) // none built yet
    const folders = [home, join(cacheDir, 'scratch'), join(cacheDir, 'probes'), ...built]
    const found = await Promise.all([
      ...folders.map((folder) => abandonedIn(folder)),
      abandonedIn(tmpdir(), WORKSPACE_PREFIX),
    ])
    return found.flat().map((path) => leakAt(path, 'whoever made it is gone'))
  }
  return [passing, () => findBuildLeftovers(images), () => new TemplateStore(join(cacheDir, 'templates')).leftovers()]
}

/** Where blobs and large events are written before they get their place; while no server runs on the data folder, nobody does. */
export function stagingLeaks(home: string): FindLeaks {
  return async () => {
    const folders = [join(home, 'blobs/incoming'), join(home, 'payloads/staging')]
    const names = await Promise.all(folders.map((folder) => readdir(folder).catch(() => []))) // no server ran here yet
    return folders.flatMap((folder, index) =>
      (names[index] ?? []).map((name) => leakAt(join(folder, name), 'the server that wrote it is gone')),
    )
  }
}

function leakAt(path: string, why: string): FoundLeak {
  return { kind: 'file', what: path, why, remove: () => rm(path, { recursive: true, force: true }) }
}
