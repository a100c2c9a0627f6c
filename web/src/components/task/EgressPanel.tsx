import type { Facts } from '../../facts.ts'
import { bytes } from '../../format.ts'
import { Icon } from '../Icon.tsx'
import { Panel } from '../Panel.tsx'

/** Where the guest wanted to connect to, and what the gateway decided. */
export function EgressPanel({ facts }: { facts: Facts }) {
  const denied = [...facts.egress.values()].filter((address) => !address.allowed)
  const allowed = [...facts.egress.values()].filter((address) => address.allowed)
  if (facts.egress.size === 0) return null
  return (
    <Panel
      title="Network"
      aside={denied.length > 0 && <span className="text-xs text-warn">{denied.length} denied</span>}
    >
      <ul className="max-h-64 overflow-y-auto py-1.5 text-xs">
        {[...denied, ...allowed].map((address) => (
          <li
            key={`${address.host}:${address.port} ${address.allowed}`}
            data-testid="egress-row"
            title={address.rule}
            className="flex items-center gap-2 px-3 py-0.5"
          >
            <Icon
              name={address.allowed ? 'check' : 'close'}
              className={`size-3 ${address.allowed ? 'text-good' : 'text-warn'}`}
            />
            <span className="sr-only">{address.allowed ? 'allowed' : 'denied'}</span>
            <bdi className="min-w-0 flex-1 truncate font-mono text-soft">
              {address.host}
              {address.port !== 443 && `:${address.port}`}
            </bdi>
            <span className="text-faint tabular-nums">
              {address.bytesIn > 0 ? bytes(address.bytesIn) : ''}
              {address.connections > 1 && ` ×${address.connections}`}
            </span>
          </li>
        ))}
      </ul>
      {facts.egressBeyond > 0 && (
        <p className="px-3 pb-2 text-xs text-faint">and {facts.egressBeyond} connections to other addresses</p>
      )}
    </Panel>
  )
}
