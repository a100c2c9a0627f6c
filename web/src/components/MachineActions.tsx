import { useMutation, useQueryClient } from '@tanstack/react-query'
import type { MachineInfo } from '../../../src/contracts/machine.ts'
import { api } from '../api.ts'
import { machinesQuery } from '../queries.ts'
import { Button, ConfirmButton } from './Button.tsx'
import { Icon } from './Icon.tsx'
import { ErrorNote } from './Notes.tsx'

/** A call about one machine, after which the list is asked for again. */
function useMachineCall(call: (id: string) => Promise<unknown>, machine: MachineInfo) {
  const client = useQueryClient()
  const refresh = () => client.invalidateQueries({ queryKey: machinesQuery.queryKey })
  return useMutation({
    mutationFn: () => call(machine.id),
    // It shows on its way at once; the call itself answers when it has arrived.
    onMutate: () => void setTimeout(() => void refresh(), 300),
    onSettled: refresh,
  })
}

function SuspendOrResume({ machine }: { machine: MachineInfo }) {
  const suspend = useMachineCall(api.suspendMachine, machine)
  const resume = useMachineCall(api.resumeMachine, machine)
  const isSuspended = machine.state === 'suspended' || machine.state === 'resuming'
  const isBusy = suspend.isPending || resume.isPending || (machine.state !== 'ready' && machine.state !== 'suspended')
  return (
    <>
      <ErrorNote error={suspend.error ?? resume.error} />
      <Button disabled={isBusy} onClick={() => (isSuspended ? resume.mutate() : suspend.mutate())}>
        <Icon name={isSuspended ? 'play' : 'pause'} />
        {isSuspended ? 'Resume' : 'Suspend'}
      </Button>
    </>
  )
}

function Destroy({ machine }: { machine: MachineInfo }) {
  const destroy = useMachineCall(api.destroyMachine, machine)
  return (
    <>
      <ErrorNote error={destroy.error} />
      <ConfirmButton
        question={
          machine.taskId === null || machine.keepUntil !== null ? 'Really destroy?' : 'Its task will fail. Destroy?'
        }
        disabled={destroy.isPending || machine.state === 'stopping' || machine.state === 'gone'}
        onConfirm={() => destroy.mutate()}
      >
        <Icon name="trash" />
        {destroy.isPending ? 'Destroying…' : 'Destroy'}
      </ConfirmButton>
    </>
  )
}

/** Suspends, resumes and destroys a machine. */
export function MachineActions({ machine }: { machine: MachineInfo }) {
  return (
    <>
      <SuspendOrResume machine={machine} />
      <Destroy machine={machine} />
    </>
  )
}
