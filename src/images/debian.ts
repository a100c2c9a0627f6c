import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { renderDeb822 } from '../registries/apt-sources.ts'
import type { HostFacts } from './host.ts'
import type { GuestFile, Recipe } from './recipe.ts'
import { run } from './run.ts'

/** Milestones in mmdebstrap's messages, each with the fraction of its run that is behind it then. */
const MILESTONES: [RegExp, number][] = [
  [/running apt-get update/, 0.02],
  [/downloading packages/, 0.08],
  [/extracting archives/, 0.15],
  [/installing essential/, 0.2],
  [/installing remaining/, 0.4],
  [/running --customize-hook/, 0.9],
  [/cleaning package lists/, 0.95],
]

/** Documentation and translations, which nobody reads in a throwaway machine, are a third of a minimal Debian. */
const LEFT_OUT = [
  '/usr/share/doc/*',
  '/usr/share/man/*',
  '/usr/share/info/*',
  '/usr/share/locale/*',
  '/usr/share/lintian/*',
]

/**
 * Downloads, with the same sources and checks as everything else, what goes beside the root: the kernel that the meta
 * package stands for (with its modules, where Debian packs them apart) and a static busybox.
 * mmdebstrap gives the root as $1; the folder `debs` lies beside it.
 */
function downloadHook(kernelPackage: string): string {
  const kernels = `apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances ${kernelPackage} | grep -E '^linux-[a-z]+-[0-9].*-cloud-' | sort -u`
  return `cd "$1/../debs" && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" && apt-get -o APT::Sandbox::User=root download busybox-static $(${kernels})`
}

/** Makes the Debian part of a root in `work/root`, and leaves the packages of kernel and busybox in `work/debs`. */
export async function installDebian(
  work: string,
  recipe: Recipe,
  host: HostFacts,
  onFraction: (fraction: number) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  await mkdir(join(work, 'debs'))
  const sources = join(work, 'host.sources')
  // Mirrors may be named with a password here; this file never becomes part of the image.
  await writeFile(sources, renderDeb822(host.aptSources), { mode: 0o600 })
  await run(
    'mmdebstrap',
    [
      '--mode=root',
      '--variant=minbase',
      '--format=directory',
      `--architectures=${recipe.architecture.debian}`,
      `--include=${[...recipe.debianPackages, ...recipe.extraPackages.debian].join(',')}`,
      '--aptopt=APT::Install-Recommends "false"',
      '--aptopt=Acquire::Languages "none"',
      ...HOST_CREDENTIALS.map((option) => `--aptopt=${option}`),
      ...host.aptOptions.map((option) => `--aptopt=${option.replace(/;$/, '')}`),
      ...LEFT_OUT.map((pattern) => `--dpkgopt=path-exclude=${pattern}`),
      `--customize-hook=${downloadHook(recipe.architecture.kernelPackage)}`,
      host.codename,
      join(work, 'root'),
      sources,
    ],
    {
      signal,
      onLine: (line) => MILESTONES.forEach(([message, fraction]) => message.test(line) && onFraction(fraction)),
    },
  )
}

/** Where apt on this host keeps passwords for mirrors: mmdebstrap's apt looks below the new root otherwise. */
const HOST_CREDENTIALS = ['Dir::Etc::netrc "/etc/apt/auth.conf"', 'Dir::Etc::netrcparts "/etc/apt/auth.conf.d"']

/** Writes the recipe's files into the root; the sources that mmdebstrap was given go. */
export async function writeGuestFiles(root: string, files: GuestFile[]): Promise<void> {
  for (const { path, content, mode, encoding } of files) {
    const target = join(root, path)
    await mkdir(dirname(target), { recursive: true })
    await writeFile(target, content, { encoding })
    await chmod(target, mode)
  }
}

/** Runs the recipe's set-up script in the root. */
export async function setUpRoot(root: string, script: string, signal: AbortSignal | undefined): Promise<void> {
  await run('chroot', [root, '/bin/sh', '-s'], { signal, input: script })
}
