import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { Button } from '../components/Button.tsx'
import { Icon } from '../components/Icon.tsx'
import { MachineCard } from '../components/MachineCard.tsx'
import { Empty, ErrorNote } from '../components/Notes.tsx'
import { Page } from '../components/Shell.tsx'
import { api } from '../api.ts'
import { useTitle } from '../hooks.ts'
import { machinesQuery } from '../queries.ts'

/** Boots a machine without a task. It shows in the list at once; the call itself answers when it is ready. */
function BootButton() {
  const client = useQueryClient()
  const boot = useMutation({
    mutationFn: () => api.createMachine({ memoryMib: 2048, vcpus: 2 }),
    onMutate: () => void setTimeout(() => void client.invalidateQueries({ queryKey: machinesQuery.queryKey }), 300),
    onSettled: () => client.invalidateQueries({ queryKey: machinesQuery.queryKey }),
  })
  return (
    <div className="flex flex-wrap items-center gap-3">
      <ErrorNote error={boot.error} />
      <Button onClick={() => boot.mutate()} disabled={boot.isPending}>
        <Icon name="plus" />
        {boot.isPending ? 'Booting…' : 'Boot a machine'}
      </Button>
    </div>
  )
}

/** All machines, as they boot, work and go. */
export function MachinesPage() {
  const { data, error } = useQuery(machinesQuery)
  const machines = data?.items.toSorted((a, b) => b.createdAt.localeCompare(a.createdAt)) ?? []
  useTitle('Machines')
  return (
    <Page title="Machines" actions={<BootButton />}>
      <ErrorNote error={error} className="mb-4" />
      {data && machines.length === 0 && (
        <Empty icon="machine" title="No machine is running">
          Each task runs in a microVM of its own, which goes with it unless it is kept.
        </Empty>
      )}
      <ul className="grid gap-3">
        {machines.map((machine) => (
          <MachineCard key={machine.id} machine={machine} />
        ))}
      </ul>
    </Page>
  )
}
