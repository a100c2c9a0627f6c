import { Link } from '@tanstack/react-router'
import { memo, useState } from 'react'
import type { MachineInfo } from '../../../src/contracts/machine.ts'
import { mebibytes } from '../format.ts'
import { Button } from './Button.tsx'
import { ExecBox } from './ExecBox.tsx'
import { Icon } from './Icon.tsx'
import { MachineActions } from './MachineActions.tsx'
import { ErrorNote } from './Notes.tsx'
import { Phases } from './Phases.tsx'
import { MachineChip } from './StatusChip.tsx'
import { Age, Until } from './Times.tsx'

/** What a machine was made from, for people. */
function origin({ startedFrom, template }: MachineInfo): string {
  if (startedFrom === 'boot') return 'booted'
  if (startedFrom === 'fork') return 'copied from another machine'
  const named = template === null || template === 'default' ? 'template' : `template ${template}`
  return startedFrom === 'ready' ? `taken ready from ${named}` : `restored from ${named}`
}

/** For which task a machine is or was, and how long it stays. */
function Purpose({ machine: { taskId, keepUntil } }: { machine: MachineInfo }) {
  return (
    <span className="text-xs text-faint">
      {taskId === null ? (
        'no task'
      ) : (
        <Link to="/tasks/$taskId" params={{ taskId }} className="font-mono text-accent hover:underline">
          {taskId}
        </Link>
      )}
      {keepUntil !== null && (
        <span data-testid="vm-kept">
          {' '}
          · kept for <Until at={keepUntil} />
        </span>
      )}
    </span>
  )
}

/** The steps of the start, the last one of a booting machine still running. */
function Start({ machine }: { machine: MachineInfo }) {
  const born = Date.parse(machine.createdAt)
  const past = machine.phases.slice(0, machine.state === 'booting' ? -1 : undefined)
  const total = past.reduce((sum, phase) => sum + phase.ms, 0)
  const steps = past.map(({ name, ms }) => ({ name, ms }))
  const current = machine.state === 'booting' ? machine.phases.at(-1) : undefined
  if (machine.phases.length === 0) return null
  return <Phases done={steps} current={current && { name: current.name, since: born + total }} />
}

/** A suspended one is resumed by its first command. */
const USABLE: ReadonlySet<MachineInfo['state']> = new Set(['ready', 'suspending', 'suspended', 'resuming'])

/** One machine: its state, what it is for, how it started, and a command line into it. */
export const MachineCard = memo(function MachineCard({ machine }: { machine: MachineInfo }) {
  const [open, setOpen] = useState(false)
  const usable = USABLE.has(machine.state)
  return (
    <li data-testid="vm-row" data-vm-id={machine.id} className="rounded-lg border border-line bg-panel">
      <div className="flex flex-wrap items-center gap-x-4 gap-y-2 px-4 py-3">
        <MachineChip state={machine.state} />
        <code className="font-mono text-[13px] font-medium">{machine.id}</code>
        <span className="text-xs text-faint">
          {mebibytes(machine.memoryMib)} · {machine.vcpus} vCPU · {machine.engine} · {origin(machine)}{' '}
          <Age at={machine.createdAt} />
        </span>
        <Purpose machine={machine} />
        <span className="ml-auto flex items-center gap-2">
          <Button aria-expanded={open} disabled={!usable} onClick={() => setOpen(!open)}>
            <Icon name="terminal" />
            Exec
          </Button>
          <MachineActions machine={machine} />
        </span>
      </div>
      {machine.error && (
        <div className="px-4 pb-3">
          <ErrorNote error={`${machine.error.code}: ${machine.error.message}`} />
        </div>
      )}
      <div className="px-4 pb-3">
        <Start machine={machine} />
      </div>
      {open && usable && <ExecBox machineId={machine.id} />}
    </li>
  )
})
