import { readlinkSync } from 'node:fs'
import { findEndpoint } from '../server/endpoint.ts'
import { isLocked } from '../server/lock.ts'
import type { Check } from './types.ts'

/** The PID namespace of the host itself: the kernel gives it this inode (PROC_PID_INIT_INO in its proc_ns.h). */
const HOST_NAMESPACE = 'pid:[4026531836]'

/** Whether machines can outlive the server that started them. */
export function checkRestarts(home: string): Check {
  const server = isLocked(home) ? findEndpoint(home)?.pid : undefined
  return judgeRestarts(readlinkSync('/proc/self/ns/pid'), server)
}

/** The same, by the PID namespace of the doctor and the process of a server that runs. */
export function judgeRestarts(namespace: string, server: number | undefined): Check {
  const name = 'restarts'
  if (server === 1) {
    const detail =
      'the server is process 1 of its container, with which the kernel ends every machine: running tasks are saved or stopped when it ends, and lost where it is killed'
    return { name, status: 'warning', detail, fix: null }
  }
  const detail =
    namespace === HOST_NAMESPACE
      ? 'machines run on while the server is restarted or upgraded'
      : 'machines run on while the server is restarted in this container, not when the container itself is; as its process 1 the server could not keep them'
  return { name, status: 'ok', detail, fix: null }
}
