import { constants } from 'node:os'
import { runCommand } from './cli/program.ts'
import { processIo } from './cli/io.ts'

// The first signal asks, the second insists. Nothing is half-written then: files appear whole, and the database commits or does not.
const abort = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.on(name, () => {
    if (abort.signal.aborted) process.exit(128 + constants.signals[name])
    abort.abort(new Error(`stopped by ${name}`))
  })
}
// A reader that leaves early, as in `vivarium logs … | head`, ends the program and is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))

process.exit(await runCommand(process.argv.slice(2), processIo(abort.signal)))
