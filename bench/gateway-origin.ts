/** For the gateway's bench, in a thread of its own: what lies behind the gateway. Posts its ports. */
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { createServer, type AddressInfo, type Server } from 'node:net'
import { pipeline } from 'node:stream/promises'
import { parentPort } from 'node:worker_threads'

const CHUNK = Buffer.alloc(256 * 1024)

const event = (data: { type: string }) => `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`
const usage = { input_tokens: 10, output_tokens: 1 }
const ANSWER = [
  event({ type: 'message_start', message: { model: 'claude-opus-5-5', usage } } as never),
  event({ type: 'message_delta', usage: { output_tokens: 5 } } as never),
  event({ type: 'message_stop' }),
].join('')

/** Sends as many bytes as the number in its first line. */
const bulk = createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => undefined)
  socket.once('data', (line) => {
    let left = Number(line.toString())
    const write = () => {
      while (left > 0) {
        left -= CHUNK.length
        if (!socket.write(CHUNK)) return
      }
      socket.end()
    }
    socket.on('drain', write)
    write()
  })
})

/** Takes a request's whole body, then answers like a model that has nothing to think about. */
const model = createHttpServer(async (request, response) => {
  await pipeline(request, async (chunks) => {
    for await (const _chunk of chunks);
  })
  response.writeHead(200, { 'content-type': 'text/event-stream' }).end(ANSWER)
})
// Longer than a run: a kept connection that ends in between is another measurement.
model.keepAliveTimeout = 600_000

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

parentPort?.postMessage({ bulkPort: await listen(bulk), modelPort: await listen(model) })
