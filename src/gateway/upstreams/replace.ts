import { Transform } from 'node:stream'

/** Replaces every occurrence of a text in the bytes that pass, wherever they are cut into chunks, which `onChunk` is shown. */
export function replaceText(from: string, to: string, onChunk: (chunk: Buffer) => void): Transform {
  const needle = Buffer.from(from)
  const substitute = Buffer.from(to)
  let kept: Buffer = Buffer.alloc(0)
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      onChunk(chunk)
      const bytes = Buffer.concat([kept, chunk])
      let at = 0
      for (let found = bytes.indexOf(needle); found !== -1; found = bytes.indexOf(needle, at)) {
        this.push(bytes.subarray(at, found))
        this.push(substitute)
        at = found + needle.length
      }
      // The end may be the beginning of an occurrence.
      const safe = Math.max(at, bytes.length - needle.length + 1)
      this.push(bytes.subarray(at, safe))
      kept = bytes.subarray(safe)
      done()
    },
    flush(done) {
      done(null, kept)
    },
  })
}
