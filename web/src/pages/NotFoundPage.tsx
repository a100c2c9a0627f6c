import { Link } from '@tanstack/react-router'
import { buttonClass } from '../components/Button.tsx'
import { Empty } from '../components/Notes.tsx'
import { useTitle } from '../hooks.ts'

/** Says that what the address names is not there. */
export function NotFound({ what }: { what: string }) {
  useTitle('Not found')
  return (
    <div data-testid="not-found" className="grid h-full place-items-center">
      <Empty icon="globe" title={what}>
        <p className="mb-4">It may have been deleted, or the address has a mistake in it.</p>
        <Link to="/" className={buttonClass('quiet')}>
          All tasks
        </Link>
      </Empty>
    </div>
  )
}

/** For addresses that lead nowhere. */
export function NotFoundPage() {
  return <NotFound what="There is no such page." />
}
