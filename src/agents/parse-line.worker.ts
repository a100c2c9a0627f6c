import { parentPort } from 'node:worker_threads'
import { parseLine } from './parse-line.ts'

/** Parses one line a message: `Uint8Array` in, `LineReading` out. Packed as the asset `workers/parse-line.mjs`. */
parentPort?.on('message', (bytes: Uint8Array) => parentPort?.postMessage(parseLine(bytes)))
