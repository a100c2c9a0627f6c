import type { Command } from 'commander'
import { dropSecrets, loadConfig } from '../../config/load.ts'
import { startServer } from '../../server/serve.ts'
import { findSupervisor } from '../../server/supervisor.ts'
import { createLogger } from '../../telemetry/logger.ts'
import { untilAborted, type Io } from '../io.ts'
import { number } from '../options.ts'

export function registerServe(program: Command, io: Io, exitWith: (code: number) => void): void {
  program
    .command('serve')
    .description('Run the orchestrator: API, dashboard and MCP on one port.')
    .option('--listen <host:port>', 'address and port')
    .option('--config <file>', 'settings file')
    .option('--engine <name>', 'auto, qemu-kvm or qemu-tcg')
    .option('--log <level>', 'debug, info, warn or error')
    .option('--idle-exit <seconds>', 'exit after this long without work or clients', number('idle-exit'))
    .option('--background', 'take a free port where the configured one is in use')
    .option('--forget-secrets', 'remove all stored secrets first: the way out when their master key is lost')
    .action(
      async (options: {
        listen?: string
        config?: string
        engine?: string
        log?: string
        idleExit?: number
        background?: true
        forgetSecrets?: true
      }) => {
        const { listen, engine, log, idleExit: idleExitSeconds } = options
        const { config } = loadConfig({ listen, engine, log, idleExitSeconds }, options.config, io.env)
        dropSecrets(io.env)
        const logger = createLogger(config.log)
        const server = await startServer(config, logger, {
          supervisor: findSupervisor(io.env, logger),
          anyPort: options.background === true,
          forgetSecrets: options.forgetSecrets === true,
        })
        logger.info({ url: server.url }, `dashboard and API at ${server.url}`)
        const why = await Promise.race([server.idle.then(() => 'idle'), untilAborted(io.signal).then(() => 'asked to')])
        logger.info(`stopping: ${why}`)
        try {
          await server[Symbol.asyncDispose]()
        } catch (err) {
          logger.error({ err }, 'the server did not stop in order')
          exitWith(1)
        }
      },
    )
}
