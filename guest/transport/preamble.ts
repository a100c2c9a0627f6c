import type { Socket } from 'node:net'
import { FLUSH_BYTES, MAX_PREAMBLE_BYTES } from '../../src/link/constants.ts'
import { preambleLine, PreambleScanner } from '../../src/link/scanner.ts'

/**
 * The guest's end of the preamble (see `src/link/protocol.ts`): waits, as long as the connection lives, until the host has
 * begun a session. Resolves with the socket paused and whatever followed the preamble back in it.
 */
export function awaitSession(socket: Socket): Promise<void> {
  const scanner = new PreambleScanner()
  let nonce: string | undefined
  return new Promise((resolve, reject) => {
    const onClose = () => reject(new Error('connection closed before a session began'))
    const onData = (chunk: Buffer) => {
      scanner.push(chunk)
      for (let line = scanner.next(); line !== undefined; line = scanner.next()) {
        if (line.verb === 'hello') {
          nonce = line.nonce
          socket.write(preambleLine('echo', nonce))
        } else if (line.verb === 'go' && line.nonce === nonce) {
          socket.off('data', onData)
          socket.pause()
          if (scanner.rest().length > 0) socket.unshift(scanner.rest())
          // HTTP/2 must not find a write under way: Node ends the process for it.
          socket.write(preambleLine('ready', nonce), (error) => {
            socket.off('close', onClose)
            if (error === null || error === undefined) resolve()
            else reject(error)
          })
          return
        }
      }
      if (scanner.discarded > MAX_PREAMBLE_BYTES) socket.destroy(new Error('no preamble in what the host sends'))
    }
    // The error listener stays: 'close' follows, and a broken connection must not end the agent.
    socket.on('error', () => undefined)
    if (socket.destroyed) return onClose()
    socket.on('close', onClose).on('data', onData)
    socket.write(Buffer.alloc(FLUSH_BYTES, 0x0a))
  })
}
