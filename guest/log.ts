/** One line on stderr, which is the serial console in a VM: for the error message of a machine that failed. */
export function log(message: string): void {
  process.stderr.write(`vivarium-agent: ${message}\n`)
}

/** The text of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
