import { composeHost } from '../src/compose.ts'
import { showProgress } from '../src/cli/progress.ts'
import { loadConfig } from '../src/config/load.ts'
import { mend } from '../src/doctor/mend.ts'
import { hostTools } from '../src/images/host-tools.ts'
import { buildAssets } from './build-assets.ts'

/** Everything a clone needs to run: assets, Debian packages of the host, the guest image. What is there is not made again. */
export async function setUp(options: { forTests: boolean }): Promise<void> {
  using progress = showProgress(process.stderr)
  progress({ step: 'Building the guest agent and the dashboard' })
  await buildAssets()
  const { doctor } = composeHost(loadConfig().config)
  await mend({ ...doctor, tools: options.forTests ? hostTools() : doctor.tools }, progress)
}
