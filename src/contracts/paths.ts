import { z } from 'zod'

const MAX_PATH_BYTES = 4096

function fits(path: string): boolean {
  return Buffer.byteLength(path) <= MAX_PATH_BYTES && !path.includes('\0')
}

/**
 * Whether a relative path stays inside the folder it is relative to: no absolute path, no empty, `.` or `..` segment,
 * no NUL, no backslash (a separator for some clients), at most 4,096 bytes.
 */
export function isConfinedPath(path: string): boolean {
  if (path === '' || path.startsWith('/') || path.includes('\\') || !fits(path)) return false
  return path.split('/').every((segment) => segment !== '' && segment !== '.' && segment !== '..')
}

/** A path relative to the workspace, `/` between segments. */
export const WorkspacePath = z.string().refine(isConfinedPath, 'must be a relative path without ".." segments')

/** An absolute path in the guest, e.g. `/workspace/out.txt`. */
export const GuestPath = z.string().refine((path) => path.startsWith('/') && fits(path), 'must be an absolute path')
