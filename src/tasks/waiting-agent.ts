import { randomUUID } from 'node:crypto'
import type { Agent } from '../agents/types.ts'
import { VivariumError } from '../contracts/errors.ts'
import { newId } from '../contracts/ids.ts'
import { WORKSPACE } from '../link/protocol.ts'
import type { GuestLink } from '../link/types.ts'
import type { WaitingAgent } from '../machines/types.ts'

/**
 * An agent that says more than this before it has a prompt is of no use. Less than what the link reads before it lets the guest
 * forget: the task must be able to read all of it again.
 */
const MAX_OUTPUT_BYTES = 512 * 1024

export interface WaitingAgentOptions {
  link: GuestLink
  /** The state of the workspace as it is was marked already. */
  hasBaseline: boolean
  agent: Agent
  model: string | null
  credentialKind: 'api-key' | 'oauth'
  /** Names that are never part of what changed (`TaskSettings.exclude`). */
  exclude: string[]
  /** Until it waits; scaled to the engine. */
  timeoutMs: number
  signal: AbortSignal
}

/**
 * Marks the baseline, starts an agent without its prompt and resolves when it waits for it. Its output is kept in the guest for the
 * task that will use it. Rejects with `agent_failed` when it ends or says nothing in time; the machine is of no use then.
 */
export async function startWaitingAgent(options: WaitingAgentOptions): Promise<WaitingAgent> {
  const { link, hasBaseline, agent, model, credentialKind, exclude, timeoutMs } = options
  const { greeting } = agent
  if (greeting === undefined) throw new VivariumError('internal', `The agent ${agent.name} can't wait for a prompt.`)
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(timeoutMs)])
  if (!hasBaseline) {
    const isFilled = (await link.tree(WORKSPACE, signal)).entries.length > 0
    await link.baseline({ root: WORKSPACE, git: isFilled, exclude }, signal)
  }

  const execId = newId('x')
  const sessionId = randomUUID()
  const start = { model, maxTurns: null, env: {}, credentialKind, sessionId, resumes: null }
  await link.start(execId, agent.spec(start), signal)
  await link.input(execId, 0, greeting.input, false, signal)
  const released = new AbortController()
  const answered = Promise.withResolvers<void>()
  const ended = watch(link, execId, released.signal, (stdout) => {
    if (greeting.isAnswered(stdout)) answered.resolve()
  })
  const onAbort = () => answered.reject(signal.reason)
  signal.addEventListener('abort', onAbort)
  try {
    const why = await Promise.race([answered.promise, ended])
    if (why !== undefined)
      throw new VivariumError('agent_failed', `${agent.name} did not come to wait for a prompt: ${why}`)
  } catch (error) {
    released.abort()
    throw error
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
  return { execId, sessionId, model, credentialKind, ended: settled(ended), release: () => released.abort() }
}

async function settled(promise: Promise<unknown>): Promise<void> {
  await promise
}

/** Resolves with the reason when the agent is of no use any more; never, once it is released. */
async function watch(
  link: GuestLink,
  execId: string,
  released: AbortSignal,
  onOutput: (stdout: string) => void,
): Promise<string> {
  const decoder = new TextDecoder()
  let stdout = ''
  let bytes = 0
  let why = 'its output ended'
  try {
    for await (const piece of link.output(execId, 0, released)) {
      if (piece.kind === 'exit') {
        why = `it ended with exit code ${piece.exit.code ?? piece.exit.signal}: ${stdout.slice(-500)}`
        continue
      }
      bytes += piece.data.length
      why = 'it said too much'
      if (bytes > MAX_OUTPUT_BYTES) break
      why = 'its output ended'
      stdout += decoder.decode(piece.data, { stream: true })
      onOutput(stdout)
    }
  } catch (error) {
    why = error instanceof Error ? error.message : String(error)
  }
  return released.aborted ? new Promise(() => {}) : why
}
