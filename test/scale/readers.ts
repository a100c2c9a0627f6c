/**
 * Many readers in a process of their own, told by messages of their parent what to read. Each goes on where a connection broke off,
 * and judges by itself whether it gets every event once and in order.
 */
import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket } from 'ws'
import type { TaskEvent } from '../../src/contracts/event.ts'
import { isFinal } from '../../src/contracts/task.ts'
import { now } from './simulated-machines.ts'

export interface ReaderPlan {
  url: string
  key: string
  taskId: string
  by: 'websocket' | 'sse'
  /** Takes nothing after its first event until it is told to go on. */
  isSlow: boolean
}

export type ToReaders = { read: ReaderPlan[] } | { goOn: true } | { report: true }

export interface ReadersReport {
  /** Readers that have a connection, and that have read to the end. */
  connected: number
  ended: number
  /** Events that all readers together have got. */
  events: number
  /** Last seq by task, of each reader that has ended. */
  lastSeqs: Record<string, number[]>
  /** What no reader should see, a sentence each. */
  violations: string[]
  /** Milliseconds from the guest's write to the reader, of every line read by readers that are not slow. */
  latencies: number[]
}

const RETRY_MS = 100

const report: ReadersReport = { connected: 0, ended: 0, events: 0, lastSeqs: {}, violations: [], latencies: [] }
const goOn = Promise.withResolvers<void>()

process.on('message', (message: ToReaders) => {
  if ('read' in message) for (const plan of message.read) void readAll(plan)
  else if ('goOn' in message) goOn.resolve()
  else {
    process.send?.(report)
    report.latencies = []
  }
})
process.once('disconnect', () => process.exit())

async function readAll(plan: ReaderPlan): Promise<void> {
  const reader = { plan, last: 0, hasEnded: false }
  while (!reader.hasEnded) {
    const connect = plan.by === 'sse' ? readStream : readSocket
    await connect(plan, reader.last + 1, (json) => take(reader, JSON.parse(json) as TaskEvent)).catch(() => {}) // again
    if (!reader.hasEnded) await sleep(RETRY_MS)
  }
  report.ended += 1
  ;(report.lastSeqs[plan.taskId] ??= []).push(reader.last)
}

interface Reader {
  plan: ReaderPlan
  last: number
  hasEnded: boolean
}

function take(reader: Reader, event: TaskEvent): void {
  const { plan, last } = reader
  report.events += 1
  if (event.seq !== last + 1 || event.taskId !== plan.taskId || reader.hasEnded)
    report.violations.push(`${plan.by} reader of ${plan.taskId}: ${event.seq} of ${event.taskId} after ${last}`)
  reader.last = event.seq
  if (event.type === 'status' && isFinal(event.status)) reader.hasEnded = true
  if (event.type !== 'raw' || plan.isSlow) return
  for (const line of event.text.trimEnd().split('\n')) report.latencies.push(now() - Number(line.split(' ')[1]))
}

type TakeJson = (json: string) => void

async function readSocket({ url, key, taskId, isSlow }: ReaderPlan, from: number, takeJson: TakeJson): Promise<void> {
  const address = `${url.replace('http', 'ws')}/api/v1/tasks/${taskId}/stream?from=${from}`
  const socket = new WebSocket(address, { headers: { authorization: `Bearer ${key}` } })
  // From the start: the first messages may come in one piece with the answer to the upgrade.
  let isFirst = true
  socket.on('message', (data) => {
    takeJson(String(data))
    if (isSlow && isFirst) {
      socket.pause()
      void goOn.promise.then(() => socket.resume())
    }
    isFirst = false
  })
  let hasOpened = false
  socket.on('open', () => {
    hasOpened = true
    report.connected += 1
  })
  socket.on('error', () => {}) // 'close' follows
  await new Promise((resolve) => socket.on('close', resolve))
  if (hasOpened) report.connected -= 1
}

async function readStream({ url, key, taskId, isSlow }: ReaderPlan, from: number, takeJson: TakeJson): Promise<void> {
  const headers = { authorization: `Bearer ${key}`, accept: 'text/event-stream', 'last-event-id': String(from - 1) }
  const request = get(`${url}/api/v1/tasks/${taskId}/events`, { headers, agent: false })
  request.on('error', () => {}) // the response, or the wait for it, ends by it too
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  if (response.statusCode !== 200) throw new Error(`refused: ${response.statusCode}`)
  report.connected += 1
  let rest = ''
  let isFirst = true
  try {
    for await (const chunk of response.setEncoding('utf8')) {
      const messages = (rest + String(chunk)).split('\n\n')
      rest = messages.pop() ?? ''
      for (const message of messages) {
        const json = /^id: \d+\ndata: (.*)$/.exec(message)?.[1]
        if (json === undefined) continue
        takeJson(json)
        if (isSlow && isFirst) await goOn.promise
        isFirst = false
      }
    }
  } finally {
    report.connected -= 1
  }
}
