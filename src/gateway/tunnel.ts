import type { ServerHttp2Stream } from 'node:http2'
import { pipeline } from 'node:stream/promises'
import { answerText } from './answer.ts'
import { parseAuthority } from './authority.ts'
import { dial } from './dial.ts'
import type { Way } from './way.ts'

/** `CONNECT host:port`: a tunnel to an allowed host. Resolves when it has ended. */
export async function tunnel(
  stream: ServerHttp2Stream,
  authority: string,
  way: Way,
  signal: AbortSignal,
): Promise<void> {
  const destination = parseAuthority(authority)
  if (destination === undefined) {
    way.refused(authority, 'unreadable destination')
    return answerText(stream, 400, 'CONNECT needs host:port, an address in its usual notation.')
  }
  const dialled = await dial(destination, way, signal)
  if (dialled.kind !== 'connected') return answerText(stream, ...way.refusal(destination, dialled))

  const { socket, rule } = dialled
  try {
    if (stream.destroyed || stream.closed) return
    stream.respond({ ':status': 200 })
    // Either direction may end first. An error in one ends both, by destroying what they share.
    await Promise.allSettled([pipeline(stream, socket), pipeline(socket, stream)])
  } finally {
    socket.destroy()
    way.decided({ ...destination, allowed: true, rule, bytesOut: socket.bytesWritten, bytesIn: socket.bytesRead })
  }
}
