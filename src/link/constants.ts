/**
 * The numbers and names both ends of the guest link agree on. Apart from `protocol.ts` so that the guest agent, which
 * trusts the host and checks nothing, does not carry a schema library: it stays small and starts fast.
 */

export const PROTOCOL_VERSION = 1
export const PREAMBLE = 'VIVARIUM/1'
export const HELLO_INTERVAL_MS = 250
/** A session that ended badly may leave this much behind: full HTTP/2 windows of every stream. */
export const MAX_PREAMBLE_BYTES = 64 * 1024 * 1024
/**
 * Line feeds that either side sends before anything else on a new stream. They end whatever HTTP/2 frame (16 KiB at most)
 * the session before was cut off in, and break the framing right after it, so that an end which missed the disconnect
 * notices at once. Discarded like the rest of an old session.
 */
export const FLUSH_BYTES = 17 * 1024
/** HTTP/2 settings of both ends: bulk transfers need large windows (measured: 3 × the throughput of the default). */
export const WINDOW_BYTES = 1024 * 1024
export const MAX_CONCURRENT_STREAMS = 256

/** Names of the virtio-serial ports, as the guest finds them below /sys/class/virtio-ports. */
export const PORT_NAMES = { control: 'vivarium.control', egress: 'vivarium.egress' } as const

/** Where the agent listens in the guest. */
export const GUEST_PROXY_PORT = 3128
/** The model's API as the guest sees it: `ANTHROPIC_BASE_URL=http://127.0.0.1:3129`. */
export const GUEST_ANTHROPIC_PORT = 3129
/** `:authority` on `egress` of requests to the model's API. */
export const ANTHROPIC_AUTHORITY = 'anthropic.upstream'
/** Where upstreams stand in the guest: `http://127.0.0.1:3130/NAME/…`. */
export const GUEST_UPSTREAM_PORT = 3130
/** `:authority` on `egress` of what was asked there. A program that uses the proxy may ask for `NAME.upstream` itself. */
export const UPSTREAMS_AUTHORITY = 'local.upstream'
export const UPSTREAM_SUFFIX = '.upstream'

/** The ordinary user in the guest, with passwordless sudo; Claude Code refuses its bypass mode as root. */
export const GUEST_USER = { name: 'agent', uid: 1000, gid: 1000, home: '/home/agent' } as const
export const WORKSPACE = '/workspace'

/** Kinds of spool frames, see `protocol.ts`. */
export const FRAME_KIND = { stdout: 1, stderr: 2, exit: 3 } as const
export const FRAME_HEADER_BYTES = 5
export const MAX_FRAME_BYTES = 64 * 1024
export const SPOOL_BYTES = 64 * 1024 * 1024
/** The same of a terminal: little, since what is typed takes effect behind all of it. More than the host takes between two acknowledgements. */
export const TERMINAL_SPOOL_BYTES = 2 * 1024 * 1024
