import { afterEach, assert, beforeEach } from 'vitest'
import type { Agent } from '../../agents/types.ts'
import type { AgentName, Task, TaskRequestInput } from '../../contracts/task.ts'
import { openDatabase } from '../../store/database.ts'
import { FakeGuest } from './fake-guest.ts'
import type { FakeProcess } from './fake-guest.ts'
import { fakeHouse, request } from './fake-house.ts'
import { OWNER } from './fake-machines.ts'

/** The line that ends a good run of Claude Code. */
export const CLAUDE_RESULT = `${JSON.stringify({ type: 'result', subtype: 'success', is_error: false, num_turns: 2, result: 'done' })}\n`

/** A house of fakes for each test of a file; checks afterwards that nothing was left. */
export function useHouse(agents: Readonly<Record<AgentName, Agent>>) {
  let house: ReturnType<typeof fakeHouse>

  beforeEach(async () => {
    house = fakeHouse(await openDatabase(':memory:'), agents)
  })

  afterEach(async () => {
    await house.tasks[Symbol.asyncDispose]()
    // As the orchestrator does after its tasks: kept machines go with it.
    for (const { id, keepUntil } of house.machines.list()) if (keepUntil !== null) await house.machines.evict(id)
    assert.deepEqual([...house.machines.alive.keys()], [], 'a machine was left')
    assert.equal(house.gateway.openSessions, 0, 'a gateway session was left open')
    await house.database.destroy()
  })

  return {
    get house() {
      return house
    },
    /** Every next machine gets a guest of its own, prepared like this; they are returned in order. */
    guests(set: (guest: FakeGuest) => void = () => {}): FakeGuest[] {
      const made: FakeGuest[] = []
      house.machines.guest = () => {
        const guest = new FakeGuest()
        set(guest)
        made.push(guest)
        return guest
      }
      return made
    },
    async run(fields: Partial<TaskRequestInput> = {}): Promise<Task> {
      const { id } = await house.tasks.submit(OWNER, request(fields))
      return house.tasks.wait(OWNER, id)
    },
    /** Its statuses as the log has them. */
    statuses(id: string): string[] {
      return (house.events.log.get(id) ?? []).flatMap((event) =>
        event.type === 'status' && event.phase === undefined ? [event.status] : [],
      )
    },
    logged(id: string): string[] {
      return (house.events.log.get(id) ?? []).flatMap((event) => (event.type === 'log' ? [event.message] : []))
    },
  }
}

/** Plays Claude Code: leaves a record of its conversation and ends well. */
export function playClaude(guest: FakeGuest): (process: FakeProcess) => void {
  return (process) => {
    const { argv } = process.spec
    const session = argv[argv.indexOf('--session-id') + 1] ?? ''
    const id = argv.includes('--session-id') ? session : (argv[argv.indexOf('--resume') + 1] ?? '')
    guest.files.set(`/home/agent/.claude/projects/-workspace/${id}.jsonl`, Buffer.from('{}'))
    process.print(CLAUDE_RESULT)
    process.end()
  }
}
