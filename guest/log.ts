/** One line on stderr, which is the serial console in a VM: for the error message of a machine that failed. */
export function log(message: string): void {
  process.stderr.write(`vivarium-agent: ${message}\n`)
}

/** The text of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** Does what the agent can do without: a failure is said, not fatal. */
export function attempt(what: string, action: () => void): void {
  try {
    action()
  } catch (error) {
    log(`${what}: ${messageOf(error)}`)
  }
}
