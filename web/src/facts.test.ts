import { describe, expect, it } from 'vitest'
import type { NewEvent, TaskEvent } from '../../src/contracts/event.ts'
import { learn, NO_FACTS } from './facts.ts'

/** One event a second. */
function logged(events: NewEvent[], from = 1): TaskEvent[] {
  return events.map((event, index) => ({
    ...event,
    seq: from + index,
    taskId: 't_000000000000',
    at: new Date((from + index) * 1000).toISOString(),
  }))
}

const request: NewEvent = {
  type: 'usage',
  model: 'claude-a',
  costUsd: 0.25,
  complete: true,
  inputTokens: 10,
  outputTokens: 2,
  cacheReadTokens: 100,
  cacheWriteTokens: 5,
}

describe('learn', () => {
  it('tells how long each step of the start took, the last one until the task runs', () => {
    const facts = learn(
      NO_FACTS,
      logged([
        { type: 'status', status: 'queued' },
        { type: 'status', status: 'starting', phase: 'kernel' },
        { type: 'status', status: 'starting', phase: 'link', message: 'Starting.' },
        { type: 'status', status: 'starting', phase: 'link', message: 'Waiting for the guest.' },
      ]),
    )
    expect(facts.status).toBe('starting')
    expect(facts.steps).toEqual([
      { name: 'kernel', message: undefined, begin: 2000, end: 3000 },
      { name: 'link', message: 'Waiting for the guest.', begin: 3000, end: undefined },
    ])
    expect(learn(facts, logged([{ type: 'status', status: 'running' }], 5)).steps[1]?.end).toBe(5000)
  })

  it('adds up model requests, those without a known price apart', () => {
    const facts = learn(NO_FACTS, logged([request, { ...request, model: 'claude-b', costUsd: null }, request]))
    expect(facts.usage).toEqual({
      inputTokens: 30,
      outputTokens: 6,
      cacheReadTokens: 300,
      cacheWriteTokens: 15,
      requests: 3,
      unpriced: 1,
      costUsd: 0.5,
      models: ['claude-a', 'claude-b'],
    })
  })

  it('counts an event once, however often it comes', () => {
    const events = logged([request])
    expect(learn(learn(NO_FACTS, events), events).usage.requests).toBe(1)
  })

  it('lists addresses once, up to a bound, and counts what is beyond', () => {
    const ask = (host: string): NewEvent => ({
      type: 'egress',
      host,
      port: 443,
      allowed: false,
      rule: 'deny',
      bytesOut: 1,
    })
    const facts = learn(NO_FACTS, logged([ask('a.example'), ask('a.example'), ask('b.example')]))
    expect([...facts.egress.values()]).toMatchObject([
      { host: 'a.example', connections: 2, bytesOut: 2 },
      { host: 'b.example', connections: 1 },
    ])
    const flood = learn(NO_FACTS, logged(Array.from({ length: 1000 }, (_, index) => ask(`${index}.example`))))
    expect(flood.egress.size + flood.egressBeyond).toBe(1000)
    expect(flood.egress.size).toBeLessThan(1000)
  })
})
