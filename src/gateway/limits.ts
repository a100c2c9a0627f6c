/**
 * Bounds on what one machine can cost the host. All are per session, so that a hostile guest uses up its own.
 */

/** What the settings allow one machine; 0 is no limit. */
export interface MachineLimits {
  /** Connections and requests at once. */
  connections: number
  /** Both directions together. */
  mbitPerSecond: number
  requestsPerMinute: number
}

export const DEFAULT_LIMITS: MachineLimits = { connections: 256, mbitPerSecond: 0, requestsPerMinute: 0 }

/** What may be used at once of bandwidth and requests, in seconds' worth of it. */
export const BURST_SECONDS = { bytes: 0.25, requests: 60 }

/** Unread bytes that one stream of a guest may hold in the host's memory: 64 MiB at MAX_CONCURRENT_STREAMS. */
export const RECEIVE_WINDOW_BYTES = 256 * 1024

/** Header fields of a request together, and how many. */
export const MAX_HEADER_BYTES = 64 * 1024
export const MAX_HEADER_PAIRS = 256

/** MiB that Node's HTTP/2 may hold for one session; beyond it new streams are refused. */
export const SESSION_MEMORY_MB = 32

/** A model request's body. The API itself refuses more than 32 MB. */
export const MAX_MODEL_BODY_BYTES = 64 * 1024 * 1024

/** Model requests of one machine at once; more are answered with 429, which agents retry. */
export const MAX_MODEL_REQUESTS = 32

/** An answer of the model whose guest has left is read on for so long and so many bytes, so that it can be counted exactly. */
export const COUNT_ON_MS = 2 * 60_000
export const COUNT_ON_BYTES = 16 * 1024 * 1024

/** Rate-limit answers noted in a task's log per session. */
export const MAX_LIMIT_NOTICES = 200

/** Name look-ups of one machine at once: the system's resolver has few threads, and they are everybody's. */
export const MAX_LOOKUPS = 2

/** Until a connection to an allowed host stands, look-up included. */
export const CONNECT_TIMEOUT_MS = 10_000

/** Until a connection without traffic is closed. Long: a model may think for minutes before it answers. */
export const IDLE_TIMEOUT_MS = 15 * 60_000

/** Until a guest that has opened its connection must have answered the preamble; it may still have to boot. */
export const PREAMBLE_TIMEOUT_MS = 10 * 60_000

/** Decisions reported per session, of those that allow and of those that deny; what comes after is enforced all the same. */
export const MAX_DECISIONS = 1000
