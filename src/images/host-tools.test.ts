import { expect, test } from 'vitest'
import { hostTools, installCommand, missingTools } from './host-tools.ts'

test('one command installs what is missing, each package once', () => {
  const missing = missingTools(
    hostTools('x64').map((tool) => ({ ...tool, tool: `no-such-${tool.tool}` })),
    '',
  )
  expect(missing).toHaveLength(hostTools('x64').length)
  const command = installCommand(missing)
  expect(command).toMatch(/^apt-get install -y .*\bmmdebstrap\b.*\bqemu-system-x86\b/)
  expect(command.match(/\be2fsprogs\b/g)).toHaveLength(1)
})

test('tools of the system administrator are found whatever PATH says', () => {
  const shell = { tool: 'sh', package: 'dash', why: 'run', use: 'image' } as const
  const chroot = { tool: 'chroot', package: 'coreutils', why: 'run', use: 'image' } as const
  expect(missingTools([shell, chroot], '/bin')).toEqual([])
  expect(missingTools([{ ...shell, tool: 'no-such-tool' }])).toHaveLength(1)
})
