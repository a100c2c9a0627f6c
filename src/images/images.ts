import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { readAsset } from '../assets.ts'
import { VivariumError } from '../contracts/errors.ts'
import { fileOnce } from '../files/atomic.ts'
import { buildImage } from './build.ts'
import { makeScratchDisk } from './disks.ts'
import { guestFiles } from './guest-files.ts'
import { readHostFacts, type HostFacts } from './host.ts'
import { requireTools } from './host-tools.ts'
import { buildInitrd, type GuestProgram } from './initrd.ts'
import { readManifest } from './manifest.ts'
import { hostArchitecture, recipeFor, recipeKey, type Recipe } from './recipe.ts'
import { buildOnce } from './build-once.ts'
import { SCRATCH_FORMAT, type GuestImage, type Images, type Progress } from './types.ts'

export interface ImagesOptions {
  /** Images live at `<cacheDir>/images/<key>/`, scratch disks at `<cacheDir>/scratch/`. */
  cacheDir: string
  /** `image.packages` of the settings. */
  extraPackages: { debian: string[]; npm: string[] }
}

interface Plan {
  recipe: Recipe
  host: HostFacts
  place: string
}

/** Reading this host's facts takes longer than starting a machine from a template should. */
const PLAN_MS = 5_000

/**
 * The guest images of one cache folder, keyed by the content of their recipe. An image appears whole or not at all. Images of
 * earlier recipes are kept, since machines may still run on them; a folder of `<cacheDir>/images` that no machine uses may be
 * deleted by hand.
 */
export function createImages(options: ImagesOptions): Images {
  const folder = join(options.cacheDir, 'images')

  let known: { plan: Promise<Plan>; until: number } | undefined

  /** The present recipe; what this host says for it is asked for again after a while. */
  function plan(): Promise<Plan> {
    if (known === undefined || known.until < performance.now())
      known = { plan: makePlan(), until: performance.now() + PLAN_MS }
    return known.plan
  }

  async function makePlan(): Promise<Plan> {
    const architecture = hostArchitecture()
    const host = await readHostFacts(architecture.debian)
    const setup = readAsset('guest/rootfs/setup.sh').toString()
    const recipe = recipeFor(architecture, { extraPackages: options.extraPackages, files: guestFiles(host), setup })
    return { recipe, host, place: join(folder, recipeKey(recipe)) }
  }

  return {
    async find() {
      const { place } = await plan()
      return existsSync(place) ? openImage(place) : undefined
    },

    async ensure(progress = () => {}, signal) {
      const { recipe, host, place } = await plan()
      if (!existsSync(place)) {
        requireRoot()
        requireTools('image')
        const build = (work: string, report: Progress) => buildImage(work, recipe, host, report, signal)
        await buildOnce({ folder, place, progress, signal, build })
      }
      return openImage(place)
    },

    emptyScratch(sizeMib) {
      return fileOnce(join(options.cacheDir, 'scratch', `empty-${sizeMib}-${SCRATCH_FORMAT}.ext4`), (path) =>
        makeScratchDisk(path, sizeMib),
      )
    },
  }
}

async function openImage(place: string): Promise<GuestImage> {
  const program: GuestProgram = {
    init: readAsset('guest/rootfs/init'),
    supervise: readAsset('guest/rootfs/supervise'),
    agent: readAsset('guest/agent.mjs'),
  }
  return {
    manifest: await readManifest(join(place, 'manifest.json')),
    kernel: join(place, 'kernel'),
    initrd: await initrdOf(place, program),
    root: join(place, 'root.ext4'),
  }
}

/** The initramfs of an image for this guest program, beside the image: `initrd-<digest of the program>`. */
async function initrdOf(place: string, program: GuestProgram): Promise<string> {
  const hash = createHash('sha256')
  for (const part of [program.init, program.supervise, program.agent]) hash.update(`${part.length}\0`).update(part)
  const digest = hash.digest('hex').slice(0, 16)
  return fileOnce(join(place, `initrd-${digest}`), async (path) => writeFile(path, await buildInitrd(place, program)))
}

function requireRoot(): void {
  if (process.getuid?.() === 0) return
  throw new VivariumError(
    'setup_required',
    'Building the guest image needs root, to make files of every owner: run "sudo vivarium image build" with VIVARIUM_CACHE set to a folder that you can read.',
  )
}
