import { Readable, Writable } from 'node:stream'
import { createApp } from '../../api/app.ts'
import { listen } from '../../api/listen.ts'
import { fakeOptions, fakeServices } from '../../api/testing/fake-services.ts'
import { palette } from '../colour.ts'
import { runCommand } from '../program.ts'

/** A server with faked services on a free port, and command lines that talk to it. Disposing closes it. */
export async function setUpCli() {
  const fakes = fakeServices()
  const server = await listen(createApp(fakes.services, fakeOptions).fetch, { host: '127.0.0.1', port: 0 })

  /** Runs one command line as the owner, with `input` as its standard input; resolves with its exit code and what it printed. */
  async function vivarium(
    argv: string[],
    { key = 'vv_owner', signal = new AbortController().signal, input = [] as (string | Buffer)[] } = {},
  ) {
    const stdout = new Sink()
    const stderr = new Sink()
    const exitCode = await runCommand(argv, {
      stdin: Readable.from(input),
      stdout,
      stderr,
      env: { VIVARIUM_URL: server.url, VIVARIUM_API_KEY: key },
      cwd: '/',
      signal,
      paint: palette(false),
      print: (line) => void stdout.write(`${line}\n`),
      note: (line) => void stderr.write(`${line}\n`),
    })
    return { exitCode, stdout: stdout.text, stderr: stderr.text }
  }

  return { ...fakes, server, vivarium, [Symbol.asyncDispose]: () => server.close() }
}

class Sink extends Writable {
  text = ''

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString()
    done()
  }
}
