import { Link } from '@tanstack/react-router'
import type { AuditEntry } from '../../../../src/contracts/secret.ts'
import { ownerLabel } from './SecretTable.tsx'

/** Who used and changed secrets, newest first. */
export function AuditTable({ lines, viewer }: { lines: AuditEntry[]; viewer: { id: string; isOwner: boolean } }) {
  const by = (line: AuditEntry) => (line.userId === null ? 'the server' : ownerLabel(line.userId, viewer))
  const cell = 'px-3 py-1.5 whitespace-nowrap'
  return (
    <div className="max-h-96 overflow-auto">
      <table className="w-full text-left text-[13px]">
        <thead className="text-2xs tracking-wider text-faint uppercase">
          <tr>
            {['At', 'What', 'Secret', 'Of', 'By', 'For'].map((title) => (
              <th key={title} className={`${cell} font-semibold`}>
                {title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody className="divide-y divide-line border-t border-line">
          {lines.map((line) => (
            <tr key={line.id} data-testid="audit-row">
              <td className={`${cell} text-faint tabular-nums`}>{line.at.slice(0, 19).replace('T', ' ')}</td>
              <td className={cell}>{line.count === 1 ? line.action : `${line.action} ×${line.count}`}</td>
              <td className={`${cell} font-mono`}>{line.name === '*' ? 'all' : line.name}</td>
              <td className={`${cell} text-soft`}>{line.name === '*' ? '' : ownerLabel(line.ownerId, viewer)}</td>
              <td className={`${cell} text-soft`}>{by(line)}</td>
              <td className={`${cell} text-soft`}>
                {line.purpose}{' '}
                {line.taskId !== null && (
                  <Link
                    to="/tasks/$taskId"
                    params={{ taskId: line.taskId }}
                    className="font-mono text-accent hover:underline"
                  >
                    {line.taskId}
                  </Link>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}
