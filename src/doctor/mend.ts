import { missingTools } from '../images/host-tools.ts'
import type { Progress } from '../images/types.ts'
import type { DoctorHost } from './examine.ts'
import { removeLeaks } from './leaks.ts'
import { installPackages } from './packages.ts'

/** Brings a host to where tasks can run: removes what killed servers have left, installs missing packages, builds the guest image. Does nothing twice. */
export async function mend(
  host: Pick<DoctorHost, 'config' | 'tools' | 'images'>,
  progress: Progress,
  signal?: AbortSignal,
): Promise<void> {
  await removeLeaks(host.config)
  const missing = missingTools(host.tools)
  if (missing.length > 0) await installPackages(missing, progress)
  await host.images.ensure(progress, signal)
}
