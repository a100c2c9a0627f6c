import { useQuery } from '@tanstack/react-query'
import { useId } from 'react'
import type { Priority } from '../../../src/contracts/task.ts'
import type { TaskDraft } from '../draft.ts'
import { templatesQuery } from '../queries.ts'
import { Field } from './Field.tsx'
import { KeepSelect } from './KeepSelect.tsx'
import { Panel } from './Panel.tsx'

interface Props {
  draft: TaskDraft
  change: (part: Partial<TaskDraft>) => void
  /** What the server said about a field of the request. */
  problemAt: (field: string) => string | undefined
}

type NumberField = 'memoryMib' | 'vcpus' | 'timeoutSeconds' | 'maxTurns' | 'maxCostUsd'

interface NumberProps extends Props {
  field: NumberField
  label: string
  placeholder: string
  step?: string
}

function NumberInput({ draft, change, problemAt, field, label, placeholder, step = '1' }: NumberProps) {
  return (
    <Field label={label} problem={problemAt(field)}>
      {(control) => (
        <input
          {...control}
          type="number"
          min="0"
          step={step}
          value={draft[field]}
          placeholder={placeholder}
          onChange={(event) => change({ [field]: event.target.value })}
          className="input-box tabular-nums"
        />
      )}
    </Field>
  )
}

const PRIORITIES: readonly Priority[] = ['low', 'normal', 'high']

function PrioritySelect({ draft, change, problemAt }: Props) {
  return (
    <Field label="Priority" problem={problemAt('priority')}>
      {(control) => (
        <select
          {...control}
          value={draft.priority}
          onChange={(event) => change({ priority: PRIORITIES.find((name) => name === event.target.value) ?? 'normal' })}
          className="input-box h-[34px]"
        >
          {PRIORITIES.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      )}
    </Field>
  )
}

function RepoInputs({ draft, change, problemAt }: Props) {
  return (
    <>
      <Field label="Repository" problem={problemAt('repo.url') ?? problemAt('repo')} hint="Cloned into the workspace.">
        {(control) => (
          <input
            {...control}
            type="url"
            value={draft.repoUrl}
            placeholder="https://github.com/owner/name"
            onChange={(event) => change({ repoUrl: event.target.value })}
            className="input-box"
          />
        )}
      </Field>
      {draft.repoUrl !== '' && (
        <Field label="Branch, tag or commit" problem={problemAt('repo.ref')}>
          {(control) => (
            <input
              {...control}
              value={draft.repoRef}
              placeholder="default branch"
              onChange={(event) => change({ repoRef: event.target.value })}
              className="input-box font-mono text-[13px]"
            />
          )}
        </Field>
      )}
    </>
  )
}

function HostsInput({ draft, change, problemAt }: Props) {
  return (
    <Field label="Allowed hosts" problem={problemAt('network')} hint="Besides the model and the package registries.">
      {(control) => (
        <textarea
          {...control}
          rows={2}
          spellCheck={false}
          value={draft.allow}
          placeholder="api.example.com, *.example.org:8443"
          onChange={(event) => change({ allow: event.target.value })}
          className="input-box resize-y font-mono text-xs"
        />
      )}
    </Field>
  )
}

/** A name of the settings: offered are those that were built before, but any can be written. */
function TemplateInput({ draft, change, problemAt }: Props) {
  const list = useId()
  const { data } = useQuery(templatesQuery)
  const names = [...new Set(data?.items.map((template) => template.name))].filter((name) => name !== 'default')
  return (
    <Field label="Template" problem={problemAt('template')}>
      {(control) => (
        <>
          <input
            {...control}
            data-testid="template"
            list={list}
            value={draft.template}
            placeholder="plain"
            spellCheck={false}
            onChange={(event) => change({ template: event.target.value })}
            className="input-box"
          />
          <datalist id={list}>
            {names.map((name) => (
              <option key={name} value={name} />
            ))}
          </datalist>
        </>
      )}
    </Field>
  )
}

/** Size, limits, repository and network of a new task. What stays empty is left to the server's defaults. */
export function TaskSettings(props: Props) {
  const { draft, change, problemAt } = props
  const isClaude = draft.agent === 'claude-code'
  return (
    <Panel title="Settings">
      <div className="grid gap-3.5 p-3.5">
        {isClaude && (
          <Field label="Model" problem={problemAt('model')}>
            {(control) => (
              <input
                {...control}
                value={draft.model}
                placeholder="default"
                spellCheck={false}
                onChange={(event) => change({ model: event.target.value })}
                className="input-box"
              />
            )}
          </Field>
        )}
        <div className="grid grid-cols-2 gap-3">
          <NumberInput {...props} field="memoryMib" label="Memory, MiB" placeholder="2048" />
          <NumberInput {...props} field="vcpus" label="vCPUs" placeholder="2" />
          <NumberInput {...props} field="timeoutSeconds" label="Time-out, seconds" placeholder="600" />
          <PrioritySelect {...props} />
          {isClaude && <NumberInput {...props} field="maxTurns" label="Max turns" placeholder="no limit" />}
          {isClaude && (
            <NumberInput {...props} field="maxCostUsd" label="Max cost, USD" placeholder="no limit" step="any" />
          )}
          <TemplateInput {...props} />
          <Field label="Keep machine" problem={problemAt('keepVmSeconds')}>
            {(control) => (
              <KeepSelect
                control={control}
                value={draft.keepVmSeconds}
                onChange={(keepVmSeconds) => change({ keepVmSeconds })}
              />
            )}
          </Field>
        </div>
        <RepoInputs {...props} />
        <HostsInput {...props} />
      </div>
    </Panel>
  )
}
