import { z } from 'zod'
import { Problem } from './errors.ts'

const MAX_CHARACTERS = 1000
const MAX_COMMAND_CHARS = 4096

const side = z.int().min(1).max(MAX_CHARACTERS)

/** Of a terminal, in characters. */
export const TerminalSize = z.object({ rows: side, cols: side })
export type TerminalSize = z.infer<typeof TerminalSize>

/** A process to talk to: a login shell unless `argv` is given. Without a terminal its streams are pipes. */
export interface ShellRequest {
  argv: string[] | undefined
  /** `term` is its kind, as `TERM` names it. */
  terminal: (TerminalSize & { term: string }) | undefined
}

const querySide = z.coerce.number().pipe(side).optional()

/** Query of `GET /vms/{id}/shell`: with `rows` and `cols` the process gets a terminal; each `arg` is a word of its command. */
export const ShellQuery = z
  .object({
    rows: querySide,
    cols: querySide,
    term: z
      .string()
      .regex(/^[A-Za-z0-9.+_-]{1,64}$/, 'must be the name of a terminal, as TERM has it')
      .default('xterm-256color'),
    arg: z
      .array(z.string())
      .default([])
      .refine(
        (words) => words.join(' ').length <= MAX_COMMAND_CHARS,
        `must have ${MAX_COMMAND_CHARS} characters at most`,
      ),
  })
  .refine(({ rows, cols }) => (rows === undefined) === (cols === undefined), {
    error: 'give both rows and cols, or neither',
    path: ['rows'],
  })
export type ShellQuery = z.input<typeof ShellQuery>

/**
 * Text messages of the client; binary ones are what is typed. `end` is the end of the input: of a pipe; a terminal, whose
 * programs are told of an end by Ctrl-D, hangs up.
 */
export const ShellControl = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('resize'), ...TerminalSize.shape }),
  z.strictObject({ type: z.literal('end') }),
])
export type ShellControl = z.infer<typeof ShellControl>

/** Text messages of the server; binary ones are stdout, or what the terminal shows. `exit` or `problem` comes last. */
export const ShellEvent = z.discriminatedUnion('type', [
  /** Never of a process in a terminal. */
  z.object({ type: z.literal('stderr'), dataBase64: z.base64() }),
  /** `exitCode` is 128 + signal number when a signal ended the process. */
  z.object({ type: z.literal('exit'), exitCode: z.int() }),
  z.object({ type: z.literal('problem'), problem: Problem }),
])
export type ShellEvent = z.infer<typeof ShellEvent>
