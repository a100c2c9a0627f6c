/** Every wait of the link, in ms; scaled by the engine's `timeScale`, since guest code runs while we wait. */
export interface LinkDeadlines {
  /** Until the first session: the machine boots meanwhile. */
  firstSessionMs: number
  /** Without a session, after there was one: then the link is given up. */
  sessionMs: number
  /** Between the steps of a session's start. */
  readyMs: number
  /** Between two pings; a guest that leaves three unanswered is silent. */
  pingMs: number
  /** For the answer to a small request. */
  callMs: number
  /** For requests whose work grows with what they are given: unpacking, a baseline, input that a process reads slowly. */
  bulkMs: number
  /** Without a byte in the middle of a body that we wait for. */
  idleMs: number
}

const DEFAULTS: LinkDeadlines = {
  firstSessionMs: 120_000,
  sessionMs: 20_000,
  readyMs: 10_000,
  pingMs: 5_000,
  callMs: 30_000,
  bulkMs: 600_000,
  idleMs: 60_000,
}

export interface GuestLinkOptions {
  /** The machine, as errors and the log name it. */
  name: string
  /** Deadline factor of the engine: 1 with hardware virtualisation. */
  timeScale: number
  /** Before scaling; what is left out has its default. */
  deadlines?: Partial<LinkDeadlines>
  /** Begin silent, as after `park`: the machine is suspended. */
  silent?: boolean
  log?: (message: string) => void
}

/** Options, fully defaulted; deadlines are scaled. */
export interface LinkSettings {
  name: string
  deadlines: LinkDeadlines
  log: (message: string) => void
}

export function resolveLinkOptions({ name, timeScale, deadlines, log }: GuestLinkOptions): LinkSettings {
  const given = { ...DEFAULTS, ...deadlines }
  const scaled = Object.fromEntries(Object.entries(given).map(([key, ms]) => [key, ms * timeScale]))
  return { name, deadlines: { ...given, ...scaled }, log: log ?? (() => undefined) }
}
