import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { log, messageOf } from '../log.ts'
import type { Dial } from './dial.ts'
import { awaitSession } from './preamble.ts'

const FIRST_DELAY_MS = 20
const LAST_DELAY_MS = 1000

/**
 * Keeps one stream to the host up for as long as the agent runs: dials, waits for a session, serves it until it ends,
 * closes the connection, dials again.
 */
export async function keepSession(name: string, dial: Dial, serve: (socket: Socket) => Promise<void>): Promise<never> {
  let delayMs = FIRST_DELAY_MS
  let lastMessage = ''
  for (;;) {
    let socket: Socket | undefined
    try {
      socket = await dial()
      await awaitSession(socket)
      delayMs = FIRST_DELAY_MS
      lastMessage = ''
      await serve(socket)
    } catch (error) {
      // Said once, not at each of many attempts.
      if (messageOf(error) !== lastMessage) log(`${name}: ${messageOf(error)}`)
      lastMessage = messageOf(error)
    }
    socket?.destroy()
    await sleep(delayMs)
    delayMs = Math.min(LAST_DELAY_MS, delayMs * 2)
  }
}
