/**
 * The agent in the guest: serves the host's requests on `control`, and carries the guest's traffic to the gateway on
 * `egress`. A plain Node program without dependencies; with `--connect` it runs outside a VM too.
 */
import { controlServer } from './control.ts'
import { spareAgent } from './execs/memory.ts'
import { EgressLink } from './egress/session.ts'
import { listenForPrograms } from './egress/listen.ts'
import { parseOptions } from './options.ts'
import { dialer } from './transport/dial.ts'
import { keepSession } from './transport/keep.ts'

const options = parseOptions(process.argv.slice(2))
if (options.transport.kind === 'device') spareAgent()
const egress = new EgressLink()
// Before anything is started that is told of them.
const ports = await listenForPrograms(egress, { proxy: options.proxyPort, anthropic: options.anthropicPort })
const serveControl = controlServer({ ...options, ...ports })
process.stdout.write(`${JSON.stringify(ports)}\n`)
await Promise.all([
  keepSession('control', dialer(options.transport, 'control'), serveControl),
  keepSession('egress', dialer(options.transport, 'egress'), (socket) => egress.serve(socket)),
])
