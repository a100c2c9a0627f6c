import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { TaskEvent } from '../../src/contracts/event.ts'
import { followTask, parseEvent, retryDelay, type Socket, type StreamState } from './stream.ts'

class FakeSocket extends EventTarget implements Socket {
  closed = false
  readonly url: string
  constructor(url: string) {
    super()
    this.url = url
  }
  close(): void {
    this.closed = true
  }
  say(data: string): void {
    this.dispatchEvent(new MessageEvent('message', { data }))
  }
  send(...seqs: number[]): void {
    for (const seq of seqs) this.say(JSON.stringify({ seq, type: 'raw', text: `${seq}` }))
  }
  open(): void {
    this.dispatchEvent(new Event('open'))
  }
  break(): void {
    this.dispatchEvent(new Event('close'))
  }
}

/** A followed task whose connections and frames the test controls. */
function follow() {
  const sockets: FakeSocket[] = []
  const batches: number[][] = []
  const states: StreamState[] = []
  const frames: (() => void)[] = []
  const stream = followTask({
    url: (from) => `from=${from}`,
    connect: (url) => {
      const socket = new FakeSocket(url)
      sockets.push(socket)
      return socket
    },
    onEvents: (events: TaskEvent[]) => batches.push(events.map((event) => event.seq)),
    onState: (state) => states.push(state),
    nextFrame: (callback) => frames.push(callback),
  })
  const socket = () => {
    const last = sockets.at(-1)
    if (!last) throw new Error('no connection')
    return last
  }
  return { stream, sockets, socket, batches, states, draw: () => frames.splice(0).forEach((frame) => frame()) }
}

describe('followTask', () => {
  beforeEach(() => vi.useFakeTimers())
  afterEach(() => vi.useRealTimers())

  it('hands over what came since the last frame in one batch', () => {
    const { socket, batches, draw } = follow()
    socket().send(1, 2, 3)
    expect(batches).toEqual([])
    draw()
    socket().send(4)
    draw()
    expect(batches).toEqual([[1, 2, 3], [4]])
  })

  it('hands over history in larger batches, with time to draw between them', () => {
    const { socket, batches, draw } = follow()
    const seqs = Array.from({ length: 200 }, (_, index) => index + 1)
    socket().send(...seqs)
    draw()
    socket().send(201)
    draw()
    expect(batches).toEqual([seqs])
    vi.runOnlyPendingTimers()
    draw()
    socket().send(202)
    draw()
    expect(batches.slice(1)).toEqual([[201], [202]])
  })

  it('goes on behind the last event after a loss and drops what the server repeats', () => {
    const { sockets, socket, batches, states, draw } = follow()
    socket().open()
    socket().send(1, 2)
    socket().break()
    expect(states.at(-1)).toMatchObject({ name: 'lost', attempts: 1 })
    vi.runOnlyPendingTimers()
    expect(sockets.map((each) => each.url)).toEqual(['from=1', 'from=3'])
    socket().send(1, 2, 3)
    draw()
    expect(batches.flat()).toEqual([1, 2, 3])
  })

  it('hears nothing more from a connection that it gave up', () => {
    const { sockets, socket, batches, draw } = follow()
    const first = socket()
    first.send(1)
    first.break()
    vi.runOnlyPendingTimers()
    first.send(2)
    socket().send(2)
    draw()
    expect(sockets).toHaveLength(2)
    expect(batches.flat()).toEqual([1, 2])
  })

  it('waits longer after each failure, up to a bound, and starts over once an event came', () => {
    expect(retryDelay(0)).toBeLessThan(retryDelay(1))
    expect(retryDelay(50)).toBe(retryDelay(51))
    const { socket, states } = follow()
    for (let failures = 0; failures < 3; failures++) {
      socket().break()
      vi.runOnlyPendingTimers()
    }
    socket().send(1)
    socket().break()
    expect(states.at(-1)).toMatchObject({ name: 'lost', attempts: 1 })
  })

  it('tries again at once when asked to', () => {
    const { stream, sockets, socket } = follow()
    stream.retry()
    expect(sockets).toHaveLength(1)
    socket().break()
    stream.retry()
    expect(sockets).toHaveLength(2)
    vi.runOnlyPendingTimers()
    expect(sockets).toHaveLength(2)
  })

  it('ends after the final status instead of connecting again', () => {
    const { sockets, socket, states, batches, draw } = follow()
    socket().say(JSON.stringify({ seq: 1, type: 'status', status: 'succeeded' }))
    socket().break()
    vi.runOnlyPendingTimers()
    draw()
    expect(states.at(-1)).toEqual({ name: 'ended' })
    expect(sockets).toHaveLength(1)
    expect(batches.flat()).toEqual([1])
  })

  it('is silent after it was closed', () => {
    const { stream, sockets, socket, batches, draw } = follow()
    const only = socket()
    only.send(1)
    stream.close()
    only.send(2)
    draw()
    vi.runOnlyPendingTimers()
    expect(only.closed).toBe(true)
    expect(batches).toEqual([])
    expect(sockets).toHaveLength(1)
  })
})

describe('parseEvent', () => {
  it('takes nothing but JSON objects with a sequence number and a type', () => {
    for (const data of ['', '{', 'null', '[]', '{"seq":"1","type":"raw"}', '{"seq":1}', new ArrayBuffer(8), undefined])
      expect(parseEvent(data)).toBeUndefined()
    expect(parseEvent('{"seq":1,"type":"raw","text":"x"}')).toMatchObject({ seq: 1 })
  })
})
