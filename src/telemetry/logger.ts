import { pino, stdSerializers, stdTimeFunctions } from 'pino'
import { formatForPeople } from './human.ts'
import { REDACTED, redactPaths, scrub } from './redact.ts'
import type { Logger } from './types.ts'

/** Where lines go: `process.stderr`, or anything with its two members. */
export interface LogStream {
  write(text: string): unknown
  readonly isTTY?: boolean
}

/**
 * A logger that writes synchronously to `stream`: JSON lines, or a compact form with colours when it is a terminal.
 * Formatting happens here and not in pino's worker transports, because those can't be loaded inside the single executable.
 */
export function createLogger(level: 'debug' | 'info' | 'warn' | 'error', stream: LogStream = process.stderr): Logger {
  const colour = process.env['NO_COLOR'] === undefined
  const write =
    stream.isTTY === true
      ? (line: string) => stream.write(formatForPeople(scrub(line), colour))
      : (line: string) => stream.write(scrub(line))
  return pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: stdSerializers.err },
      redact: { paths: redactPaths(), censor: REDACTED },
    },
    { write },
  )
}
