/** The orchestrator as the program has it, but for its machines, which are simulated. Runs until it is killed or told to stop. */
import { once } from 'node:events'
import { loadConfig } from '../../src/config/load.ts'
import { startServer } from '../../src/server/serve.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { SimulatedMachines } from './simulated-machines.ts'

const { config } = loadConfig()
await using _server = await startServer(config, createLogger(config.log), {
  anyPort: false,
  forgetSecrets: false,
  createMachines: () => new SimulatedMachines(),
})
await once(process, 'SIGTERM')
