/** Progress of something long: `fraction` from 0 to 1, or undefined where it can't be known. */
export type Progress = (update: { step: string; fraction?: number; detail?: string }) => void

/** What a built guest image is made of, written beside it as `manifest.json`. */
export interface ImageManifest {
  /** Content key of the recipe: hex, 16 digits. */
  key: string
  kernelVersion: string
  nodeVersion: string
  claudeVersion: string
  /** Names of the extra packages of `image.packages`. */
  extraPackages: { debian: string[]; npm: string[] }
  builtAt: string
}

/** A guest image ready to boot. All files are read-only to machines. */
export interface GuestImage {
  manifest: ImageManifest
  /** bzImage. */
  kernel: string
  /** initramfs with init, kernel modules and the guest agent; rebuilt in milliseconds when the agent changes. */
  initrd: string
  /** Raw ext4, mounted read-only and shared by all machines. */
  root: string
}

/** Counts up when empty scratch disks are formatted in another way: what was written over one does not fit over another. */
export const SCRATCH_FORMAT = 3

export interface Images {
  /** The image of the present recipe, built if it is missing. Rejects with `image_failed`. */
  ensure(progress?: Progress, signal?: AbortSignal): Promise<GuestImage>
  /** The image of the present recipe if it is already built. */
  find(): Promise<GuestImage | undefined>
  /** Path of a formatted, empty, sparse scratch disk of `sizeMib`, made once and then only read (machines put a qcow2 over it). */
  emptyScratch(sizeMib: number): Promise<string>
}
