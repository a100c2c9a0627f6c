/** For the gateway's bench, in a thread of its own: one gateway with one machine, whose guest connects to a unix socket. Posts when it is ready. */
import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { parentPort, workerData } from 'node:worker_threads'
import { z } from 'zod'
import { createGateway } from '../src/gateway/gateway.ts'
import { openDatabase } from '../src/store/database.ts'
import { SOUND_STORAGE } from '../src/store/testing/sound-storage.ts'
import { createLogger } from '../src/telemetry/logger.ts'

const { dir, bulkPort, modelPort } = z
  .object({ dir: z.string(), bulkPort: z.int(), modelPort: z.int() })
  .parse(workerData)

const gateway = createGateway({
  config: {
    anthropic: { upstream: `http://127.0.0.1:${modelPort}` },
    network: { allow: [`127.0.0.1:${bulkPort}`] },
  },
  database: await openDatabase(join(dir, 'bench.db')),
  storage: SOUND_STORAGE,
  credentials: { kind: () => 'api-key', use: () => ({ kind: 'api-key', secret: 'sk-bench' }) },
  registries: [],
  isTrusted: () => true,
  log: createLogger('error'),
})
const session = gateway.open({
  machineId: 'vm_bench',
  userId: 'u_bench',
  taskId: 't_bench',
  policy: undefined,
  // As a task has one: what it costs to check it belongs to the measurement.
  maxCostUsd: 1000,
})
const server = createServer((socket) => session.accept(socket)).listen(join(dir, 'egress'))
await once(server, 'listening')
parentPort?.postMessage('ready')
