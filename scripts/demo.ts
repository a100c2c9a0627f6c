/**
 * `npm run demo`: sets everything up, starts an orchestrator, runs one task in a machine, shows its stream, files, cost and
 * timings, and ends. `-- --keep` leaves the server running until Ctrl-C. Without a credential in the environment a scripted
 * model plays Claude's part, and says so.
 */
import { parseArgs } from 'node:util'
import { startScriptedModel } from '../scripted-model/server.ts'
import { DEMO_PROMPT, DEMO_SCRIPT } from '../scripted-model/demo.ts'
import { createClient } from '../src/client/client.ts'
import { processIo } from '../src/cli/io.ts'
import { watchTask } from '../src/cli/watch.ts'
import { loadConfig } from '../src/config/load.ts'
import { startServer } from '../src/server/serve.ts'
import { createLogger } from '../src/telemetry/logger.ts'
import { setUp } from './set-up.ts'

const { values } = parseArgs({ options: { keep: { type: 'boolean', default: false } } })
const abort = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.on(name, () => (abort.signal.aborted ? process.exit(130) : abort.abort(new Error(`stopped by ${name}`))))
}
const io = processIo(abort.signal)

await setUp({ forTests: false })

await using stack = new AsyncDisposableStack()
const { config } = loadConfig()
if (config.credentials.apiKey === undefined && config.credentials.oauthToken === undefined) {
  const model = stack.use(await startScriptedModel({ script: DEMO_SCRIPT }))
  config.anthropic.upstream = model.url
  config.credentials.apiKey = 'demo'
  io.print(
    io.paint.bold(
      'No ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN is set: a scripted model plays the part of Claude’s.',
    ),
  )
  io.print('Everything else is real: the machine, Claude Code in it, its tools, the stream, the files.')
} else {
  io.print(io.paint.bold(`Using your credential and the model at ${config.anthropic.upstream}.`))
}

const server = stack.use(await startServer(config, createLogger('warn'), { anyPort: true, forgetSecrets: false }))
const dashboard = `${server.url}/#key=${server.key}`
io.print(`Dashboard: ${dashboard}\n`)
const client = createClient({ url: server.url, apiKey: server.key })
io.print(`${io.paint.bold('Task')} ${DEMO_PROMPT}\n`)
const task = await watchTask(io, client, await client.tasks.submit({ prompt: DEMO_PROMPT }), io.print)
process.exitCode = task.status === 'succeeded' ? 0 : 1

if (values.keep && !abort.signal.aborted) {
  io.print(`\nThe server stays: ${dashboard}\nCtrl-C ends it.`)
  await new Promise((resolve) => abort.signal.addEventListener('abort', resolve, { once: true }))
} else {
  io.print(
    `\nThe demo ends here. See the task again with "./vivarium serve", then ${io.paint.bold('./vivarium connect')}.`,
  )
}
