import type { Task } from '../../../../src/contracts/task.ts'
import { CutText } from '../CutText.tsx'
import { Row } from '../stream/Row.tsx'

/** What the task was asked to do, at the head of its stream. */
export function Prompt({ task }: { task: Task }) {
  const isShell = task.agent === 'shell'
  return (
    <Row at={task.createdAt} inner={false} bar="bg-fg/70" testId="task-prompt">
      <CutText text={task.prompt} className={isShell ? 'font-mono text-[13px]' : 'leading-relaxed font-medium'} />
    </Row>
  )
}
