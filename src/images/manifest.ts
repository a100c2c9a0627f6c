import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { VivariumError } from '../contracts/errors.ts'
import type { ImageManifest } from './types.ts'

const ManifestFile = z.object({
  key: z.string(),
  kernelVersion: z.string(),
  nodeVersion: z.string(),
  claudeVersion: z.string(),
  extraPackages: z.object({ debian: z.array(z.string()), npm: z.array(z.string()) }),
  builtAt: z.string(),
}) satisfies z.ZodType<ImageManifest>

/** Reads an image's manifest. Rejects with `image_failed` when it isn't one. */
export async function readManifest(path: string): Promise<ImageManifest> {
  try {
    return ManifestFile.parse(JSON.parse(await readFile(path, 'utf8')))
  } catch (error) {
    throw new VivariumError('image_failed', `${path} is damaged: delete its folder and build the image again.`, {
      cause: error,
    })
  }
}
