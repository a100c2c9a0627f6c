import type { ConversationFiles } from '../agents/types.ts'
import type { Blobs } from '../blobs/types.ts'
import { toVivariumError, VivariumError } from '../contracts/errors.ts'
import { WORKSPACE } from '../link/protocol.ts'
import type { GuestLink } from '../link/types.ts'
import { blobKeys } from './blob-keys.ts'

const MIB = 1024 * 1024
const MAX_CONVERSATION_BYTES = 256 * MIB

export interface StoreStateOptions {
  taskId: string
  link: GuestLink
  blobs: Blobs
  /** Largest workspace, as a tar; 0 stores nothing. */
  maxBytes: number
  /** Undefined where there is none to go on from. */
  conversation: ConversationFiles | undefined
  signal: AbortSignal
}

/**
 * Stores what a follow-up on another machine needs: the whole workspace and the conversation, as tar streams that the host
 * never unpacks. Never rejects; resolves with what is in the way of follow-ups, a sentence, or undefined when nothing is.
 */
export async function storeState(options: StoreStateOptions): Promise<string | undefined> {
  const { taskId, link, blobs, maxBytes, conversation, signal } = options
  if (maxBytes === 0) return 'The state of tasks is not stored (results.stateMib).'
  try {
    if ((await link.tree(WORKSPACE, signal)).entries.length > 0) {
      const tar = await link.getArchive({ root: WORKSPACE, paths: ['.'], recursive: true }, signal)
      await blobs.put(blobKeys.workspace(taskId), tar, { maxBytes })
    }
    if (conversation !== undefined) {
      const { folder, transcript, more } = conversation
      const tar = await link.getArchive({ root: folder, paths: [transcript, more], recursive: true }, signal)
      await blobs.put(blobKeys.conversation(taskId), tar, { maxBytes: MAX_CONVERSATION_BYTES })
    }
    return undefined
  } catch (error) {
    const { code, message } = toVivariumError(error)
    const why = code === 'too_large' ? `it is larger than ${maxBytes / MIB} MiB (results.stateMib)` : message
    return `The workspace was not stored for follow-ups: ${why}. They need the machine itself, kept by keepVmSeconds.`
  }
}

export interface RestoreStateOptions {
  /** The finished task whose state it is. */
  originId: string
  link: GuestLink
  blobs: Blobs
  conversation: ConversationFiles | undefined
  /** Whether the workspace may hold something already. */
  isFilled: boolean
  /** Makes the deadline of each step. */
  deadline: () => AbortSignal
  timeoutMs: number
}

/** Puts the state of a finished task into a fresh machine. */
export async function restoreState(options: RestoreStateOptions): Promise<void> {
  const { originId, link, blobs, conversation, isFilled, deadline, timeoutMs } = options
  if (isFilled) {
    const argv = ['find', WORKSPACE, '-mindepth', '1', '-delete']
    await link.exec({ argv, env: {}, cwd: '/', user: 'root' }, { timeoutMs, signal: deadline() })
  }
  const workspace = await blobs.get(blobKeys.workspace(originId))
  if (workspace !== undefined) await link.putArchive(WORKSPACE, workspace, deadline())
  if (conversation === undefined) return
  const record = await blobs.get(blobKeys.conversation(originId))
  if (record === undefined)
    throw new VivariumError('storage_failed', `The conversation of ${originId} is gone from the store.`)
  await link.putArchive(conversation.folder, record, deadline())
}
