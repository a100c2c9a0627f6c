import type { AgentName } from '../../../src/contracts/task.ts'

const AGENTS: readonly { name: AgentName; label: string; note: string }[] = [
  { name: 'claude-code', label: 'Claude Code', note: 'works on a prompt' },
  { name: 'shell', label: 'Shell', note: 'runs a command' },
]

/** What runs in the machine. */
export function AgentChoice({ agent, onChange }: { agent: AgentName; onChange: (agent: AgentName) => void }) {
  return (
    <fieldset className="flex gap-2">
      <legend className="sr-only">Agent</legend>
      {AGENTS.map(({ name, label, note }) => (
        <label
          key={name}
          className="flex flex-1 cursor-pointer items-baseline gap-x-2 rounded-md border border-line bg-panel px-3 py-2 text-[13px] text-soft hover:border-edge has-checked:border-accent has-checked:bg-accent/8 has-checked:text-fg has-focus-visible:outline-2 has-focus-visible:outline-accent max-sm:flex-col sm:flex-none"
        >
          <input
            type="radio"
            name="agent"
            value={name}
            checked={agent === name}
            onChange={() => onChange(name)}
            className="sr-only"
          />
          <span className="font-medium">{label}</span>
          <span className="text-xs text-faint">{note}</span>
        </label>
      ))}
    </fieldset>
  )
}
