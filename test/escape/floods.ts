import { type Ports } from './attack.ts'
import { NAMED } from './canary.ts'

/** Something done very often, by `guest/egress_port.py` in place of the guest agent. */
export interface Flood {
  name: string
  order: { name: string } & Record<string, unknown>
  /** What the guest sees of it. */
  outcome: RegExp
}

/** Either the host has borne it, or has ended the guest's session for it. */
const borne = /^"(?:done|session ended|session refused: .*|the host reads no more)"$/

export function floods({ port }: Ports): Flood[] {
  const named = `${NAMED}:${port}`
  const fields = (method: string, path: string) => [
    [':method', method],
    [':scheme', 'http'],
    [':authority', named],
    [':path', path],
  ]
  return [
    {
      name: '10,000 tunnels to the canary',
      order: { name: 'connects', authority: `127.0.0.1:${port}`, count: 10_000 },
      outcome: /^{"403":10000}$/,
    },
    {
      name: '10,000 tunnels at once',
      order: { name: 'crowd', authority: named, count: 10_000 },
      outcome: /"session ended":1/,
    },
    {
      name: '20,000 requests that are taken back at once',
      order: { name: 'resets', authority: `localtest.trap.example:${port}`, count: 20_000 },
      outcome: borne,
    },
    { name: 'a head of 100 MB', order: { name: 'continuations', count: 10_000 }, outcome: /session/ },
    { name: '200,000 pings', order: { name: 'pings', count: 200_000 }, outcome: borne },
    { name: '200,000 settings', order: { name: 'settings', count: 200_000 }, outcome: borne },
    {
      name: 'bodies that nobody reads',
      order: { name: 'bodies', fields: fields('POST', '/deaf'), count: 250, size: 240 * 1024 },
      outcome: borne,
    },
    {
      name: 'endless answers that are not read',
      order: { name: 'deaf', fields: fields('GET', '/endless'), count: 250, seconds: 5 },
      outcome: borne,
    },
    {
      name: 'slowloris',
      order: { name: 'halves', fields: fields('POST', '/deaf'), count: 250, seconds: 5 },
      outcome: borne,
    },
    { name: 'garbage', order: { name: 'garbage', size: 50_000_000 }, outcome: borne },
  ]
}
