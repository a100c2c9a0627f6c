import { buildAssets } from '../../scripts/build-assets.ts'

/** Vitest global set-up: tests run against the assets of the present source. */
export default async function setup(): Promise<void> {
  await buildAssets()
}
