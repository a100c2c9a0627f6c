import { useMutation, useQuery } from '@tanstack/react-query'
import { Link, Outlet } from '@tanstack/react-router'
import { api } from '../api.ts'
import { meQuery, queryClient } from '../queries.ts'
import { buttonClass } from './Button.tsx'
import { Icon, type IconName, Logo } from './Icon.tsx'

const PLACES: readonly { to: '/' | '/vms' | '/usage' | '/secrets'; label: string; icon: IconName }[] = [
  { to: '/', label: 'Tasks', icon: 'tasks' },
  { to: '/vms', label: 'Machines', icon: 'machine' },
  { to: '/usage', label: 'Usage', icon: 'usage' },
  { to: '/secrets', label: 'Secrets', icon: 'key' },
]

const HERE = { className: 'bg-raised text-fg', 'aria-current': 'page' } as const
const ELSEWHERE = { className: 'text-soft hover:text-fg' } as const

function Places({ className }: { className: string }) {
  return PLACES.map(({ to, label, icon }) => (
    <Link
      key={to}
      to={to}
      activeOptions={{ exact: true, includeSearch: false }}
      activeProps={HERE}
      inactiveProps={ELSEWHERE}
      className={`flex items-center gap-2 rounded-md transition-colors ${className}`}
    >
      <Icon name={icon} />
      {label}
    </Link>
  ))
}

function Account() {
  const { data: me } = useQuery(meQuery)
  const logout = useMutation({
    mutationFn: api.logout,
    onSuccess: () => {
      queryClient.setQueryData(meQuery.queryKey, null)
      queryClient.removeQueries({ predicate: (query) => query.queryKey[0] !== meQuery.queryKey[0] })
    },
  })
  return (
    <div className="flex items-center gap-1 text-[13px] text-faint">
      <span className="hidden max-w-40 truncate sm:inline">{me?.name}</span>
      <button
        type="button"
        title="Log out"
        aria-label="Log out"
        className={`${buttonClass('bare')} px-2!`}
        onClick={() => logout.mutate()}
      >
        <Icon name="logout" />
      </button>
    </div>
  )
}

/** What surrounds every page: places at the top (at the bottom of a small screen), and the page fills the rest. */
export function Shell() {
  return (
    <div className="flex h-dvh flex-col">
      <a href="#main" className="sr-only z-20 rounded bg-accent px-3 py-2 text-base focus:not-sr-only focus:absolute">
        Skip to content
      </a>
      <header className="flex h-12 shrink-0 items-center gap-2 border-b border-line bg-panel px-3 sm:gap-5 sm:px-5">
        <Link to="/" className="flex items-center gap-2 rounded-md font-semibold tracking-tight">
          <Logo />
          vivarium
        </Link>
        <nav aria-label="Main" className="hidden gap-1 text-[13px] sm:flex">
          <Places className="h-8 px-3" />
        </nav>
        <span className="flex-1" />
        <Link to="/new" data-testid="new-task" className={buttonClass('primary')}>
          <Icon name="plus" />
          New task
        </Link>
        <Account />
      </header>
      <main id="main" tabIndex={-1} className="min-h-0 flex-1 overflow-hidden outline-none">
        <Outlet />
      </main>
      <nav
        aria-label="Main"
        className="flex shrink-0 gap-1 border-t border-line bg-panel px-2 py-1.5 text-xs sm:hidden"
      >
        <Places className="h-9 flex-1 justify-center" />
      </nav>
    </div>
  )
}

/** A page that scrolls as a whole, with its title and what can be done there. */
export function Page({
  title,
  actions,
  children,
}: {
  title: string
  actions?: React.ReactNode
  children: React.ReactNode
}) {
  return (
    <div className="h-full overflow-y-auto">
      <div className="mx-auto max-w-6xl px-3 py-5 sm:px-6 sm:py-7">
        <div className="mb-4 flex flex-wrap items-center justify-between gap-3">
          <h1 className="text-lg font-semibold tracking-tight">{title}</h1>
          {actions}
        </div>
        {children}
      </div>
    </div>
  )
}
