/** Details of a log line. `err` holds a thrown error; keys that name credentials are redacted. */
export type LogFields = Readonly<Record<string, unknown>>

/** One level's method: `log.info('ready')` or `log.info({ port }, 'ready')`. */
export interface LogMethod {
  (message: string): void
  (fields: LogFields, message: string): void
}

/** What every room needs of a logger, so that none depends on the library behind it. */
export interface Logger {
  readonly debug: LogMethod
  readonly info: LogMethod
  readonly warn: LogMethod
  readonly error: LogMethod
  /** A logger whose every line carries `bindings`, e.g. `{ taskId }`. */
  child(bindings: LogFields): Logger
}
