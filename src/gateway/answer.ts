import { constants, type ServerHttp2Stream } from 'node:http2'

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
  stream.respond({ ':status': status, 'content-type': contentType, 'content-length': Buffer.byteLength(body) })
  stream.end(body, () => endStream(stream))
}

/** Frees a stream whose answer is complete, although the guest may still be writing (RFC 9113, section 8.1). */
export function endStream(stream: ServerHttp2Stream): void {
  if (!stream.readableEnded) stream.close(constants.NGHTTP2_NO_ERROR)
}
