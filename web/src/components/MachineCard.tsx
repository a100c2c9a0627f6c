import { useMutation, useQueryClient } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { memo, useState } from 'react'
import type { MachineInfo } from '../../../src/contracts/machine.ts'
import { api } from '../api.ts'
import { mebibytes } from '../format.ts'
import { machinesQuery } from '../queries.ts'
import { Button, ConfirmButton } from './Button.tsx'
import { ExecBox } from './ExecBox.tsx'
import { Icon } from './Icon.tsx'
import { ErrorNote } from './Notes.tsx'
import { Phases } from './Phases.tsx'
import { MachineChip } from './StatusChip.tsx'
import { Elapsed } from './Times.tsx'

function Destroy({ machine }: { machine: MachineInfo }) {
  const client = useQueryClient()
  const destroy = useMutation({
    mutationFn: () => api.destroyMachine(machine.id),
    onSettled: () => client.invalidateQueries({ queryKey: machinesQuery.queryKey }),
  })
  return (
    <>
      <ErrorNote error={destroy.error} />
      <ConfirmButton
        question={machine.taskId === null ? 'Really destroy?' : 'Its task will fail. Destroy?'}
        disabled={destroy.isPending || machine.state === 'stopping' || machine.state === 'gone'}
        onConfirm={() => destroy.mutate()}
      >
        <Icon name="trash" />
        {destroy.isPending ? 'Destroying…' : 'Destroy'}
      </ConfirmButton>
    </>
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

/** One machine: its state, what it is for, how it started, and a command line into it. */
export const MachineCard = memo(function MachineCard({ machine }: { machine: MachineInfo }) {
  const [open, setOpen] = useState(false)
  return (
    <li data-testid="vm-row" data-vm-id={machine.id} className="rounded-lg border border-line bg-panel">
      <div className="flex flex-wrap items-center gap-x-4 gap-y-2 px-4 py-3">
        <MachineChip state={machine.state} />
        <code className="font-mono text-[13px] font-medium">{machine.id}</code>
        <span className="text-xs text-faint">
          {mebibytes(machine.memoryMib)} · {machine.vcpus} vCPU · {machine.engine} ·{' '}
          <Elapsed from={Date.parse(machine.createdAt)} to={undefined} />
        </span>
        {machine.taskId === null ? (
          <span className="text-xs text-faint">no task</span>
        ) : (
          <Link
            to="/tasks/$taskId"
            params={{ taskId: machine.taskId }}
            className="font-mono text-xs text-accent hover:underline"
          >
            {machine.taskId}
          </Link>
        )}
        <span className="ml-auto flex items-center gap-2">
          <Button aria-expanded={open} disabled={machine.state !== 'ready'} onClick={() => setOpen(!open)}>
            <Icon name="terminal" />
            Exec
          </Button>
          <Destroy machine={machine} />
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
      {open && machine.state === 'ready' && <ExecBox machineId={machine.id} />}
    </li>
  )
})
