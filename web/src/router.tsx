import { createRootRoute, createRoute, createRouter } from '@tanstack/react-router'
import type { UsageGrouping } from '../../src/contracts/usage.ts'
import { Shell } from './components/Shell.tsx'
import { ComparePage } from './pages/ComparePage.tsx'
import { MachinesPage } from './pages/MachinesPage.tsx'
import { NewTaskPage } from './pages/NewTaskPage.tsx'
import { NotFoundPage } from './pages/NotFoundPage.tsx'
import { SecretsPage } from './pages/SecretsPage.tsx'
import { TaskPage } from './pages/TaskPage.tsx'
import { TasksPage } from './pages/TasksPage.tsx'
import { UsagePage } from './pages/UsagePage.tsx'

const rootRoute = createRootRoute({ component: Shell, notFoundComponent: NotFoundPage })

const tasksRoute = createRoute({ getParentRoute: () => rootRoute, path: '/', component: TasksPage })

const newTaskRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/new',
  /** `from`: the task whose prompt and settings to start with. */
  validateSearch: (search): { from?: string } => (typeof search['from'] === 'string' ? { from: search['from'] } : {}),
  component: function NewTask() {
    const { from } = newTaskRoute.useSearch()
    return <NewTaskPage key={from} from={from} />
  },
})

const taskRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/tasks/$taskId',
  component: function Task() {
    const { taskId } = taskRoute.useParams()
    return <TaskPage key={taskId} taskId={taskId} />
  },
})

const compareRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/tasks/$taskId/compare',
  component: function Compare() {
    const { taskId } = compareRoute.useParams()
    return <ComparePage key={taskId} taskId={taskId} />
  },
})

const machinesRoute = createRoute({ getParentRoute: () => rootRoute, path: '/vms', component: MachinesPage })

const secretsRoute = createRoute({ getParentRoute: () => rootRoute, path: '/secrets', component: SecretsPage })

const GROUPINGS: readonly unknown[] = ['day', 'model', 'task', 'user'] satisfies UsageGrouping[]

function isGrouping(value: unknown): value is UsageGrouping {
  return GROUPINGS.includes(value)
}

const usageRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/usage',
  validateSearch: (search): { by?: UsageGrouping } => (isGrouping(search['by']) ? { by: search['by'] } : {}),
  component: function Usage() {
    const { by } = usageRoute.useSearch()
    return <UsagePage by={by ?? 'day'} />
  },
})

export const router = createRouter({
  routeTree: rootRoute.addChildren([
    tasksRoute,
    newTaskRoute,
    taskRoute,
    compareRoute,
    machinesRoute,
    usageRoute,
    secretsRoute,
  ]),
  defaultNotFoundComponent: NotFoundPage,
})

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router
  }
}
