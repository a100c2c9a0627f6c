/**
 * The least that can hold readers: a WebSocket server that prints lines to each by a timer, or nothing, and answers every other request
 * with an event stream that stays open. No log, no hub, no API. Tells its parent the port.
 */
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { WebSocketServer } from 'ws'
import { now } from '../test/scale/simulated-machines.ts'

const held = new Set<ServerResponse>()
const server = createServer((_request, response) => {
  held.add(response)
  response.once('close', () => held.delete(response))
  response.writeHead(200, { 'content-type': 'text/event-stream' }).write('retry: 1000\n\n')
})
new WebSocketServer({ server }).on('connection', (socket, { url }) => {
  const { searchParams } = new URL(url ?? '/', 'http://bare')
  const [lines, everyMs, bytes] = ['lines', 'everyMs', 'bytes'].map((name) => Number(searchParams.get(name)))
  let left = lines ?? 0
  if (left === 0) return
  const print = () => {
    socket.send(JSON.stringify({ text: `${left} ${now()}`.padEnd(bytes ?? 0) }))
    left -= 1
    if (left > 0) return
    clearInterval(timer)
    socket.close()
  }
  // Not all at the same moment.
  let timer = setTimeout(() => (timer = setInterval(print, everyMs)), Math.random() * (everyMs ?? 0))
})
server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port))
process.once('disconnect', () => process.exit())
