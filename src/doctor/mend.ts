import { missingTools } from '../images/host-tools.ts'
import type { Progress } from '../images/types.ts'
import type { DoctorHost } from './examine.ts'
import { installPackages } from './packages.ts'

/** Brings a host to where tasks can run: installs missing packages, builds the guest image. Does nothing twice. */
export async function mend(
  host: Pick<DoctorHost, 'tools' | 'images'>,
  progress: Progress,
  signal?: AbortSignal,
): Promise<void> {
  const missing = missingTools(host.tools)
  if (missing.length > 0) await installPackages(missing, progress)
  await host.images.ensure(progress, signal)
}
