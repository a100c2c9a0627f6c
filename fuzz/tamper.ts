import { type Duplex, duplexPair } from 'node:stream'
import { mutate } from './mutate.ts'
import type { Random } from './random.ts'

/** Changes pieces of a stream; `gaps` are the bytes that pass by before each. */
export function tamperer(gaps: readonly number[], random: Random): (chunk: Buffer) => Buffer {
  const left = [...gaps]
  return (chunk) => {
    const gap = left[0]
    if (gap === undefined) return chunk
    if (chunk.length <= gap) {
      left[0] = gap - chunk.length
      return chunk
    }
    left.shift()
    const end = Math.min(chunk.length, gap + 1 + random.size(64))
    return Buffer.concat([
      chunk.subarray(0, gap),
      mutate(chunk.subarray(gap, end), random, [chunk]),
      chunk.subarray(end),
    ])
  }
}

/** A stream that stands for `socket`: what is written into it passes through `tamper` first. Both end together. */
export function tampered(socket: Duplex, tamper: (chunk: Buffer) => Buffer): Duplex {
  const [near, far] = duplexPair()
  for (const end of [socket, near, far]) end.on('error', () => undefined)
  // Without waiting for a reader that may have gone: the end would never be seen. Cases are small.
  socket.on('data', (chunk: Buffer) => void far.write(chunk)).resume()
  far.on('data', (chunk: Buffer) => {
    const changed = tamper(chunk)
    if (!socket.destroyed && !socket.write(changed)) far.pause()
  })
  socket.on('drain', () => far.resume())
  far.once('end', () => socket.end())
  socket.once('close', () => {
    near.destroy()
    far.destroy()
  })
  return near
}
