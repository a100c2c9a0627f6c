import { readFile } from 'node:fs/promises'
import { basename, isAbsolute, normalize } from 'node:path'
import { VivariumError } from '../contracts/errors.ts'
import type { InputFile } from '../contracts/task.ts'

/** Commander parser of a number; the schema behind it judges the range. Throws `invalid_request`. */
export function number(name: string): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (text.trim() === '' || !Number.isFinite(value)) {
      throw new VivariumError('invalid_request', `--${name} must be a number, not "${text}".`, { field: name })
    }
    return value
  }
}

/** Commander parser of `--keep-vm [SECONDS]`, which also takes the word after it where that is no option. */
export function keepVmSeconds(text: string): number {
  const seconds = Number(text)
  if (Number.isInteger(seconds) && seconds > 0) return seconds
  throw new VivariumError(
    'invalid_request',
    `--keep-vm takes a number of seconds, not "${text}": write --keep-vm=3600, or put --keep-vm after the prompt.`,
    { field: 'keep-vm' },
  )
}

/** Commander parser of an option that may be given several times. */
export function collect(value: string, previous: string[]): string[] {
  return [...previous, value]
}

/** `--file PATH`: a path below the current folder keeps its folders, any other keeps its name. */
export async function readInputFile(path: string): Promise<InputFile> {
  try {
    const content = await readFile(path)
    const relative = normalize(path)
    const name = isAbsolute(relative) || relative.startsWith('..') ? basename(relative) : relative
    return { path: name, contentBase64: content.toString('base64') }
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new VivariumError('invalid_request', `--file ${path} can't be read: ${why}`, { field: 'file', cause: error })
  }
}

/** `URL[#REF]` of `--repo`. */
export function parseRepo(text: string): { url: string; ref?: string } {
  const hash = text.lastIndexOf('#')
  return hash < 0 ? { url: text } : { url: text.slice(0, hash), ref: text.slice(hash + 1) }
}
