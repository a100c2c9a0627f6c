import { z } from 'zod'
import { VivariumError } from '../contracts/errors.ts'
import { limitedBody } from './body.ts'
import { type Call, Calls } from './calls.ts'
import { readChanges } from './changes.ts'
import { guestLost, misbehaved } from './errors.ts'
import { helloRequest } from './hello.ts'
import { type GuestLinkOptions, resolveLinkOptions } from './options.ts'
import { Acks, openOutput, readOutput } from './output.ts'
import {
  ExecStarted,
  HelloResponse,
  type ParkRequest,
  ParkResponse,
  PROTOCOL_VERSION,
  TreeResponse,
} from './protocol.ts'
import type { Answer } from './request.ts'
import { runToEnd, sendInput, signalExec } from './run.ts'
import { Sessions } from './sessions.ts'
import type { GuestLink } from './types.ts'

const MAX_TREE_BYTES = 16 * 1024 * 1024

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}

function query(parameters: Record<string, string>): string {
  return new URLSearchParams(parameters).toString()
}

/** What a file's size is, as the guest claims. */
function announcedSize({ headers }: Answer): number {
  const size = Number(headers['content-length'])
  if (!Number.isSafeInteger(size) || size < 0) throw misbehaved('The guest did not say how large a file is.')
  return size
}

/** The host's end of one machine's guest link. `accept` each connection of the guest to `control.sock`. */
export function createGuestLink(options: GuestLinkOptions): GuestLink {
  const settings = resolveLinkOptions(options)
  const { callMs, bulkMs, idleMs } = settings.deadlines
  const sessions = new Sessions(settings)
  if (options.silent === true) sessions.fallSilent()
  const calls = new Calls(sessions, settings)

  /** Sends something whose answer says nothing more than that it was done. */
  const done = async (call: Call) => {
    await calls.json(call, z.unknown())
  }

  const park = async ({ drainMs }: ParkRequest, signal?: AbortSignal) => {
    if (sessions.silent) return
    const body = json({ drainMs } satisfies ParkRequest)
    // How long the model takes is not the guest's affair: only the rest scales with its speed.
    const deadlineMs = callMs + drainMs
    await calls.json({ method: 'POST', path: '/park', body, deadlineMs, repeatable: true, signal }, ParkResponse)
    sessions.fallSilent()
  }
  let parking: Promise<void> | undefined

  return {
    async hello({ hostname }, signal) {
      const body = () => json(helloRequest(settings.name, hostname))
      const call: Call = { method: 'POST', path: '/hello', body, repeatable: true, signal }
      const answer = await calls.json(call, HelloResponse)
      if (answer.protocol !== PROTOCOL_VERSION)
        throw misbehaved(`The guest agent speaks version ${answer.protocol} of the link, not ${PROTOCOL_VERSION}.`)
      return answer
    },

    async start(id, spec, signal) {
      await calls.json({ method: 'PUT', path: `/execs/${id}`, body: json(spec), repeatable: true, signal }, ExecStarted)
    },

    output: (id, from, signal) => readOutput(openOutput(calls, id, signal), from, new Acks(calls, id, from), signal),

    keptOutput: (id, from, signal) => ({
      pieces: readOutput(openOutput(calls, id, signal), from, undefined, signal),
      acks: new Acks(calls, id, from),
    }),

    input: (id, at, data, end, signal) => sendInput(calls, id, at, data, end, signal),

    resize: (id, size, signal) =>
      done({ method: 'POST', path: `/execs/${id}/resize`, body: json(size), repeatable: true, signal }),

    async kill(id, signal) {
      await signalExec(calls, id, signal)
    },

    exec: (spec, options) => runToEnd(calls, spec, options),

    async readFile(path, { maxBytes, signal }) {
      const answer = await calls.open({ method: 'GET', path: `/files?${query({ path })}`, repeatable: true, signal })
      try {
        const size = announcedSize(answer)
        if (size > maxBytes) throw new VivariumError('too_large', `${path} has ${size} bytes, more than ${maxBytes}.`)
        return { size, body: limitedBody(answer, { maxBytes, exactBytes: size, idleMs, signal }) }
      } catch (error) {
        answer.stream.destroy()
        throw error
      }
    },

    async writeFile(path, content, options = {}) {
      const mode = (options.mode ?? 0o644).toString(8)
      await done({
        method: 'PUT',
        path: `/files?${query({ path, mode })}`,
        body: content,
        deadlineMs: bulkMs,
        repeatable: Buffer.isBuffer(content),
        signal: options.signal,
      })
    },

    tree(path, signal) {
      const call: Call = { method: 'GET', path: `/tree?${query({ path })}`, repeatable: true, signal }
      return calls.json(call, TreeResponse, MAX_TREE_BYTES)
    },

    putArchive: (path, tar, signal) =>
      done({
        method: 'PUT',
        path: `/archive?${query({ path })}`,
        body: tar,
        deadlineMs: bulkMs,
        repeatable: false,
        signal,
      }),

    async getArchive(request, signal) {
      const call: Call = { method: 'POST', path: '/archive', body: json(request), repeatable: true, signal }
      const answer = await calls.open(call)
      return limitedBody(answer, { maxBytes: Number.MAX_SAFE_INTEGER, idleMs, signal })
    },

    baseline: (request, signal) =>
      done({ method: 'POST', path: '/baseline', body: json(request), deadlineMs: bulkMs, repeatable: true, signal }),

    async changes({ maxEntries, signal }) {
      const answer = await calls.open({ method: 'GET', path: '/changes', deadlineMs: bulkMs, repeatable: true, signal })
      return readChanges(limitedBody(answer, { maxBytes: Number.MAX_SAFE_INTEGER, idleMs, signal }), maxEntries)
    },

    async patch({ maxBytes, signal }) {
      try {
        const answer = await calls.open({ method: 'GET', path: '/patch', deadlineMs: bulkMs, repeatable: true, signal })
        return limitedBody(answer, { maxBytes, idleMs: Math.max(idleMs, callMs), signal })
      } catch (error) {
        if (error instanceof VivariumError && error.code === 'not_found') return undefined
        throw error
      }
    },

    park(options, signal) {
      parking ??= park(options, signal).finally(() => (parking = undefined))
      return parking
    },

    wake: () => sessions.wake(),

    halt: (isHalted) => sessions.halt(isHalted),

    lost: sessions.lost,

    accept: (socket) => sessions.accept(socket),

    async [Symbol.asyncDispose]() {
      sessions.giveUp(guestLost('The link was closed.'))
      await sessions.ended()
    },
  }
}
