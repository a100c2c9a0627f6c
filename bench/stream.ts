import { Readable } from 'node:stream'
import { pack } from 'tar-stream'
import type { TaskEvent } from '../src/contracts/event.ts'
import type { TaskRequestInput } from '../src/contracts/task.ts'
import { Arrival } from './arrival.ts'
import { startBareShell, type BareShell } from './bare-shell.ts'
import { readToEnd, untilIdle, type Lab } from './lab.ts'
import { row, type BenchRow } from './report.ts'

const MIB = 1024 ** 2
const EVENTS = 20_000
const PLAIN_BYTES = 32 * MIB
const FLOOR_IS = 'cat of the same bytes into a port of the machine'

/** One line of Claude Code's output, which becomes one event. */
const LINE = JSON.stringify({
  type: 'assistant',
  message: { content: [{ type: 'text', text: 'x'.repeat(300) }] },
  parent_tool_use_id: null,
})
const LINE_BYTES = LINE.length + 1
const RESULT = JSON.stringify({ type: 'result', subtype: 'success', is_error: false, result: '', num_turns: 1 })

/** Writes what is to be printed to a file first, so that printing it is all that is measured. */
const LINES = `yes '${LINE}' | head -n ${EVENTS} > /tmp/lines`
const PLAIN = `yes ${'0123456789abcdef'.repeat(4).slice(1)} | head -c ${PLAIN_BYTES} > /tmp/plain`

/**
 * From a process's stdout in the guest, as fast as it can print, to a WebSocket: as events (lines of Claude Code's format, each
 * parsed, stored and sent as one), and as the plain output of a shell script. Counted from the first arrival to the last.
 */
export async function run(lab: Lab): Promise<BenchRow[]> {
  const events = { measured: [] as number[], floor: [] as number[] }
  const plain = { measured: [] as number[], floor: [] as number[] }
  for (let i = 0; i < lab.runs; i++) {
    lab.signal.throwIfAborted()
    await using shell = await startBareShell(lab.host)
    events.floor.push((await rawRate(shell, LINES, '/tmp/lines')) / LINE_BYTES)
    plain.floor.push((await rawRate(shell, PLAIN, '/tmp/plain')) / MIB)
    await shell[Symbol.asyncDispose]()
    events.measured.push(await eventRate(lab))
    plain.measured.push((await plainRate(lab)) / MIB)
  }
  return [
    row({ name: 'guest stdout → WebSocket, an event a line', unit: 'events/s', ...events, floorIs: FLOOR_IS }),
    row({ name: 'guest stdout → WebSocket, plain output', unit: 'MiB/s', ...plain, floorIs: FLOOR_IS }),
  ]
}

/** Bytes a second. */
async function rawRate(shell: BareShell, make: string, file: string): Promise<number> {
  await shell.run(make)
  return (await shell.run(`cat ${file}`)).perSecond()
}

/** Events a second. */
async function eventRate(lab: Lab): Promise<number> {
  const program = ['#!/bin/sh', LINES, `cat /tmp/lines`, `echo '${RESULT}'`, ''].join('\n')
  const tar = pack()
  tar.entry({ name: 'bin/claude', mode: 0o755 }, program)
  tar.finalize()
  const { id: uploadId } = await lab.orchestrator.client.tasks.upload(Readable.from(tar, { objectMode: false }))
  // In the place of Claude Code, which prints no faster than its model answers.
  const env = { PATH: '/workspace/bin:/usr/bin:/bin' }
  const request = { prompt: 'print', agent: 'claude-code', uploadId, env } as const
  const arrival = await arrivalOf(lab, request, (event) => (event.type === 'text' ? 1 : 0))
  if (arrival.total !== EVENTS) throw new Error(`${arrival.total} of ${EVENTS} events arrived.`)
  return arrival.perSecond()
}

/** Bytes a second. */
async function plainRate(lab: Lab): Promise<number> {
  const request = { prompt: `${PLAIN}\ncat /tmp/plain`, agent: 'shell' } as const
  const arrival = await arrivalOf(lab, request, (event) => (event.type === 'raw' ? event.text.length : 0))
  if (arrival.total !== PLAIN_BYTES) throw new Error(`${arrival.total} of ${PLAIN_BYTES} bytes arrived.`)
  return arrival.perSecond()
}

/** Runs a task and counts what arrives of it by `sizeOf`. */
async function arrivalOf(
  { orchestrator }: Lab,
  request: TaskRequestInput,
  sizeOf: (event: TaskEvent) => number,
): Promise<Arrival> {
  await untilIdle(orchestrator)
  const arrival = new Arrival()
  const { id } = await orchestrator.client.tasks.submit(request)
  await readToEnd(orchestrator, id, (event) => {
    const size = sizeOf(event)
    if (size > 0) arrival.add(size)
  })
  return arrival
}
