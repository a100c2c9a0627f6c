import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { getAsset, getAssetKeys, isSea } from 'node:sea'

/**
 * Files that are part of the program but not JavaScript modules: the guest agent and its init, worker scripts, the
 * dashboard. In a clone `scripts/build-assets.ts` puts them into `dist/assets`; in the executable they are inside it
 * under the same names.
 */
const ASSETS_DIR = fileURLToPath(new URL('../dist/assets/', import.meta.url))

/** One asset's bytes, e.g. `readAsset('guest/agent.mjs')`. Throws when the build left it out: that is a bug, not a state. */
export function readAsset(name: string): Buffer {
  return isSea() ? Buffer.from(getAsset(name)) : readFileSync(ASSETS_DIR + name)
}

/** Names of all assets below a prefix that ends in `/`. */
export function assetNames(prefix: string): string[] {
  const names = isSea()
    ? getAssetKeys()
    : readdirSync(ASSETS_DIR, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => `${entry.parentPath.replace(/\/?$/, '/')}${entry.name}`.slice(ASSETS_DIR.length))
  return names.filter((name) => name.startsWith(prefix)).toSorted()
}
