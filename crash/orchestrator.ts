/** The orchestrator whose machines are processes, with everything else as the program has it. Runs until it is told to stop. */
import { once } from 'node:events'
import type { Host } from '../src/compose.ts'
import { dropSecrets, loadConfig } from '../src/config/load.ts'
import type { GuestImage, Images } from '../src/images/types.ts'
import { startServer } from '../src/server/serve.ts'
import { createLogger } from '../src/telemetry/logger.ts'
import { processEngine } from './process-engine.ts'

/** Nobody looks into it. */
const IMAGE: GuestImage = {
  manifest: {
    key: '0000000000000000',
    kernelVersion: 'none',
    nodeVersion: process.version,
    claudeVersion: 'none',
    extraPackages: { debian: [], npm: [] },
    builtAt: new Date(0).toISOString(),
  },
  kernel: '/dev/null',
  initrd: '/dev/null',
  root: '/dev/null',
}

const images: Images = { ensure: async () => IMAGE, find: async () => IMAGE, emptyScratch: async () => '/dev/null' }

const { config } = loadConfig()
dropSecrets(process.env)
const host: Host = { doctor: { config, images, engines: [processEngine()], tools: [] } }
await using _server = await startServer(config, createLogger(config.log), {
  anyPort: false,
  forgetSecrets: false,
  host,
})
await once(process, 'SIGTERM')
