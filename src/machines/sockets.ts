import { once } from 'node:events'
import { lchown } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'

/** A VMM holds one connection for each stream; the rest is room for its reconnects while the host is busy. */
const BACKLOG = 16

/**
 * Listens on a unix socket for the VMM of one machine, which runs as `uid`. `accept` takes each connection; the newest one
 * counts, so the one before is ended.
 */
export async function listenForVmm(
  path: string,
  uid: number | undefined,
  accept: (socket: Socket) => void,
): Promise<AsyncDisposable> {
  let current: Socket | undefined
  const server = createServer((socket) => {
    // Whoever takes the socket hears `close`; an error without a listener would end this process.
    socket.on('error', () => {})
    current?.destroy()
    current = socket
    accept(socket)
  })
  server.listen({ path, backlog: BACKLOG })
  await once(server, 'listening')
  if (uid !== undefined) await lchown(path, uid, uid)
  return {
    async [Symbol.asyncDispose]() {
      current?.destroy()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    },
  }
}
