import { constants, type ServerHttp2Stream } from 'node:http2'

/** How much of a request's body is thrown away after its answer, so that a client that is still writing gets to read it. */
const MAX_DISCARDED_BYTES = 1024 * 1024

/** Answers with a plain sentence. Does nothing when the guest has left or has its answer already. */
export function answerText(stream: ServerHttp2Stream, status: number, sentence: string): void {
  answer(stream, status, 'text/plain; charset=utf-8', `${sentence}\n`)
}

/** Answers as the Messages API reports errors. */
export function answerApiError(stream: ServerHttp2Stream, status: number, type: string, message: string): void {
  answer(stream, status, 'application/json', JSON.stringify({ type: 'error', error: { type, message } }))
}

function answer(stream: ServerHttp2Stream, status: number, contentType: string, body: string): void {
  if (stream.destroyed || stream.closed || stream.headersSent) return
  discardBody(stream)
  stream.respond({ ':status': status, 'content-type': contentType, 'content-length': Buffer.byteLength(body) })
  stream.end(body)
}

function discardBody(stream: ServerHttp2Stream): void {
  let left = MAX_DISCARDED_BYTES
  stream.on('data', (chunk: Buffer) => {
    left -= chunk.length
    if (left < 0) stream.close(constants.NGHTTP2_NO_ERROR)
  })
}
