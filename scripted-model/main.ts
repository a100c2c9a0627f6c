/**
 * Runs the scripted model on its own until it is stopped:
 *
 *   node scripted-model/main.ts [--port N] [--script FILE.json]
 *
 * Without a script it plays the demo's. Prints its address as the only line on standard output.
 */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { DEMO_SCRIPT } from './demo.ts'
import { Script } from './script.ts'
import { startScriptedModel } from './server.ts'

const { values } = parseArgs({ options: { port: { type: 'string', default: '0' }, script: { type: 'string' } } })
const script = values.script === undefined ? DEMO_SCRIPT : Script.parse(JSON.parse(readFileSync(values.script, 'utf8')))
const model = await startScriptedModel({ script, port: Number(values.port) })
process.stdout.write(`${model.url}\n`)
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void model[Symbol.asyncDispose]().then(() => process.exit(0)))
