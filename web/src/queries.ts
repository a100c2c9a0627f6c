import { infiniteQueryOptions, MutationCache, QueryCache, QueryClient, queryOptions } from '@tanstack/react-query'
import type { MachineState } from '../../src/contracts/machine.ts'
import type { TaskStatus } from '../../src/contracts/task.ts'
import type { UsageGrouping } from '../../src/contracts/usage.ts'
import { api, ApiError } from './api.ts'
import { isFinal } from './status.ts'

const ME = ['me'] as const

/** Whoever is logged in; null when nobody is. */
export const meQuery = queryOptions({
  queryKey: ME,
  queryFn: async ({ signal }) => {
    try {
      return await api.me(signal)
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return null
      throw error
    }
  },
  staleTime: Infinity,
})

/** A session that ended shows itself by any refused call: then the login page comes up in place of the app. */
function onError(error: unknown): void {
  if (error instanceof ApiError && error.status === 401) queryClient.setQueryData(ME, null)
}

export const queryClient = new QueryClient({
  queryCache: new QueryCache({ onError }),
  mutationCache: new MutationCache({ onError }),
  defaultOptions: {
    queries: {
      // What was refused stays refused; a server that restarts is back soon.
      retry: (failures, error) =>
        !(error instanceof ApiError && error.status >= 400 && error.status < 500) && failures < 3,
      refetchOnWindowFocus: true,
    },
  },
})

/** Tasks, newest first, a page after the other. Watched closely while something runs; the more pages, the less often. */
export function tasksQuery(status: TaskStatus | undefined) {
  return infiniteQueryOptions({
    queryKey: ['tasks', status ?? 'all'],
    queryFn: ({ pageParam, signal }) => api.tasks({ status, cursor: pageParam }, signal),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.nextCursor,
    refetchInterval: ({ state }) => {
      const pages = state.data?.pages ?? []
      const active = pages.some((page) => page.items.some((task) => !isFinal(task.status)))
      return Math.max(1, pages.length) * (active ? 2000 : 5000)
    },
  })
}

/** One task; asked for again until it is final. */
export function taskQuery(id: string) {
  return queryOptions({
    queryKey: ['task', id],
    queryFn: ({ signal }) => api.task(id, signal),
    refetchInterval: ({ state }) => (state.data && isFinal(state.data.status) ? false : 4000),
  })
}

/** The tasks that go on from a task. Watched closely while one of them runs. */
export function continuationsQuery(id: string) {
  return queryOptions({
    queryKey: ['continuations', id],
    queryFn: ({ signal }) => api.continuations(id, signal),
    refetchInterval: ({ state }) => (state.data?.items.some((task) => !isFinal(task.status)) ? 2000 : 15_000),
  })
}

/** A task's changes as a patch. They never change once they are there. */
export function patchQuery(id: string) {
  return queryOptions({ queryKey: ['patch', id], queryFn: ({ signal }) => api.patch(id, signal), staleTime: Infinity })
}

const RESTLESS: ReadonlySet<MachineState> = new Set(['booting', 'suspending', 'resuming'])

/** All machines; one that will soon be in another state is watched closely. */
export const machinesQuery = queryOptions({
  queryKey: ['machines'],
  queryFn: ({ signal }) => api.machines(signal),
  refetchInterval: ({ state }) => (state.data?.items.some((machine) => RESTLESS.has(machine.state)) ? 700 : 2000),
})

/** Saved machines that tasks can start from. */
export const templatesQuery = queryOptions({
  queryKey: ['templates'],
  queryFn: ({ signal }) => api.templates(signal),
  staleTime: 60_000,
})

/** Tokens and cost by one grouping, or by two. */
export function usageQuery(by: UsageGrouping, split?: UsageGrouping) {
  return queryOptions({
    queryKey: ['usage', by, split ?? 'whole'],
    queryFn: ({ signal }) => api.usage(by, split, signal),
    refetchInterval: 10_000,
  })
}

/** What every query about secrets begins with. */
export const secretsKey = ['secrets'] as const

/** The secrets that may be known of, without their values. */
export const secretsQuery = queryOptions({
  queryKey: [...secretsKey, 'list'],
  queryFn: ({ signal }) => api.secrets(signal),
  refetchInterval: 10_000,
})

/** The latest uses and changes of secrets. */
export const secretAuditQuery = queryOptions({
  queryKey: [...secretsKey, 'audit'],
  queryFn: ({ signal }) => api.secretAudit(signal),
  refetchInterval: 10_000,
})
