import type { Duplex } from 'node:stream'
import { WAIT_MS, type EgressLink } from './session.ts'

const MAX_REASON_BYTES = 4096
const REASONS: Record<number, string> = { 403: 'Forbidden', 502: 'Bad Gateway', 504: 'Gateway Timeout' }

function refuse(socket: Duplex, status: number, sentence: string): void {
  const body = Buffer.from(`${sentence.trim()}\n`)
  const head = [
    `HTTP/1.1 ${status} ${REASONS[status] ?? 'Refused'}`,
    'content-type: text/plain; charset=utf-8',
    `content-length: ${body.length}`,
    'connection: close',
  ]
  socket.end(Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), body]))
}

/** `CONNECT host:port` of a guest program: a stream to the gateway, which decides, and then bytes both ways. */
export async function tunnel(link: EgressLink, authority: string, socket: Duplex, head: Buffer): Promise<void> {
  socket.on('error', () => undefined)
  const session = await link.session(WAIT_MS)
  if (socket.destroyed) return
  if (session === undefined) return refuse(socket, 504, 'The way out of this machine is not up.')
  const stream = link.open(session, { ':method': 'CONNECT', ':authority': authority }, { endStream: false })
  let answered = false
  let open = false
  let reason = ''
  stream.once('response', ({ ':status': status }) => {
    answered = true
    open = status === 200
    if (!open) {
      stream.setEncoding('utf8').on('data', (text: string) => (reason = (reason + text).slice(0, MAX_REASON_BYTES)))
      stream.once('end', () => refuse(socket, Number(status), reason || 'The gateway refuses this connection.'))
      stream.end()
      return
    }
    socket.write('HTTP/1.1 200 Connection Established\r\n\r\n')
    if (head.length > 0) stream.write(head)
    // Each direction may end by itself: a client that has sent everything still reads.
    stream.pipe(socket)
    socket.pipe(stream)
  })
  let why = 'gave no answer'
  // Always followed by 'close'.
  stream.on('error', (error) => (why = `broke: ${error.message}`))
  stream.once('close', () => {
    if (!answered) refuse(socket, 502, `The way out of this machine ${why}.`)
    else if (!socket.writableEnded) socket.destroy()
  })
  socket.once('close', () => {
    // Where both directions have ended by themselves, what is still on its way arrives.
    if (!socket.readableEnded || !stream.readableEnded) stream.close(8 /* CANCEL */)
  })
}
