/**
 * The agent in the guest: serves the host's requests on `control`, and carries the guest's traffic to the gateway on
 * `egress`. A plain Node program without dependencies; with `--connect` it runs outside a VM too.
 */
import { controlServer } from './control.ts'
import { spareAgent } from './execs/memory.ts'
import { EgressLink } from './egress/session.ts'
import { listenForPrograms } from './egress/listen.ts'
import { ownBootId } from './identity.ts'
import { Kernel } from './kernel.ts'
import { parseOptions } from './options.ts'
import { Parking } from './park.ts'
import { dialer } from './transport/dial.ts'
import { KeptStream } from './transport/keep.ts'

const options = parseOptions(process.argv.slice(2))
const ownsMachine = options.transport.kind === 'device'
if (ownsMachine) spareAgent()
const kernel = ownsMachine ? new Kernel() : undefined
if (kernel !== undefined) void ownBootId(kernel)
const egress = new EgressLink()
// Before anything is started that is told of them.
const ports = await listenForPrograms(egress, {
  proxy: options.proxyPort,
  anthropic: options.anthropicPort,
  upstreams: options.upstreamPort,
})
const streams = {
  control: new KeptStream('control', dialer(options.transport, 'control'), (socket) => serveControl(socket)),
  egress: new KeptStream('egress', dialer(options.transport, 'egress'), (socket) => egress.serve(socket)),
}
const serveControl = controlServer({ ...options, ...ports }, { parking: new Parking(egress, streams), kernel })
process.stdout.write(`${JSON.stringify(ports)}\n`)
await Promise.all([streams.control.run(), streams.egress.run()])
