import type { Page } from 'playwright-core'
import { afterEach, expect, test } from 'vitest'
import { createApp } from '../../src/api/app.ts'
import { listen } from '../../src/api/listen.ts'
import { fakeOptions, fakeServices } from '../../src/api/testing/fake-services.ts'
import { assetNames, readAsset } from '../../src/assets.ts'
import type { NewEvent } from '../../src/contracts/event.ts'
import { MachineRequest } from '../../src/contracts/machine.ts'
import { TaskRequest } from '../../src/contracts/task.ts'
import { withBrowser } from './browser.ts'

let stack = new AsyncDisposableStack()
afterEach(() => stack.disposeAsync())

/** The real API and the built dashboard over services in memory, with one task of ada's. */
async function setUp() {
  stack = new AsyncDisposableStack()
  const fakes = fakeServices()
  const names = new Set(assetNames('web/'))
  const assets = { read: (name: string) => (names.has(name) ? readAsset(name) : undefined) }
  const app = createApp({ ...fakes.services, assets }, fakeOptions)
  let server = await listen(app.fetch, { host: '127.0.0.1', port: 0 })
  stack.defer(() => server.close())
  const { url, port } = server
  const task = await fakes.tasks.submit(fakes.identity.ada.id, TaskRequest.parse({ prompt: 'Look around' }))
  return {
    ...fakes,
    url,
    task,
    taskUrl: `${url}/tasks/${task.id}#key=vv_ada`,
    say: (...events: NewEvent[]) => fakes.log.append(task.id, events),
    stop: () => server.close(),
    startAgain: async () => {
      server = await listen(app.fetch, { host: '127.0.0.1', port })
    },
  }
}

const text = (words: string): NewEvent => ({ type: 'text', text: words })

function streamState(page: Page, state: string): Promise<void> {
  return page.locator(`[data-testid=stream-state][data-state=${state}]`).waitFor()
}

test('a key is asked for, a wrong one refused, and the page that was wanted comes up', async () => {
  const { url } = await setUp()
  await withBrowser(async ({ page, problems }) => {
    await page.goto(`${url}/vms`)
    await page.getByTestId('login-key').fill('vv_wrong')
    await page.getByTestId('login-submit').click()
    await page.getByRole('alert').getByText('not valid').waitFor()
    await page.getByTestId('login-key').fill('vv_ada')
    await page.keyboard.press('Enter')
    await page.getByText('No machine is running').waitFor()
    await page.getByLabel('Log out').click()
    await page.getByTestId('login-key').waitFor()
    expect(problems).toEqual([])
  })
})

test('a key in the address logs in and leaves the address; an unknown path is the app’s to answer', async () => {
  const { url } = await setUp()
  await withBrowser(async ({ page, problems }) => {
    await page.goto(`${url}/no/such/page#key=vv_ada`)
    await page.getByTestId('not-found').waitFor()
    expect(page.url()).toBe(`${url}/no/such/page`)
    expect(problems).toEqual([])
  })
})

test('a task made with the form shows live, from growing words to its result, files and cost', async () => {
  const { url, tasks, log } = await setUp()
  await withBrowser(async ({ page, problems }) => {
    await page.goto(`${url}/new#key=vv_ada`)
    await page.getByTestId('new-task-prompt').fill('Draw a chart')
    await page
      .getByTestId('file-input')
      .setInputFiles({ name: 'in.csv', mimeType: 'text/csv', buffer: Buffer.from('1,2') })
    await page.getByTestId('submit-task').click()
    await page.waitForURL(/\/tasks\/t_/)
    const { id } = await tasks.submitted()
    expect(tasks.requests.at(-1)).toMatchObject({
      prompt: 'Draw a chart',
      files: [{ path: 'in.csv', contentBase64: Buffer.from('1,2').toString('base64') }],
    })

    await tasks.status(id, 'running')
    await page.getByTestId('live-dot').waitFor()
    await log.append(id, [{ type: 'delta', kind: 'thinking', text: 'Which col' }])
    await page.getByTestId('event-thinking').getByText('Which col').waitFor()
    await log.append(id, [
      { type: 'thinking', text: 'Which colour?' },
      { type: 'tool_call', toolUseId: 'a', name: 'Bash', input: { command: 'cat in.csv' } },
      { type: 'tool_result', toolUseId: 'a', text: 'x'.repeat(2001), isError: false },
      text('Drawn.'),
      { type: 'result', isError: false, text: 'Done.', turns: 3, reportedCostUsd: 0.5 },
    ])
    await page.getByTestId('event-result').getByText('$0.50').waitFor()
    expect(await page.getByTestId('event-thinking').allInnerTexts()).toEqual([expect.stringContaining('Which colour?')])
    expect(await page.getByTestId('event-tool-call').innerText()).toContain('cat in.csv')
    const result = page.getByTestId('event-tool-result').locator('pre')
    expect((await result.innerText()).length).toBe(2000)
    await page.getByTestId('show-all').click()
    expect((await result.innerText()).length).toBe(2001)

    tasks.addFile(id, 'charts/a b.png', PIXEL, 'image/png')
    await tasks.finish(id)
    await streamState(page, 'ended')
    await page.getByTestId('file-row').getByText('a b.png').waitFor()
    const preview = page.getByTestId('image-preview')
    await preview.evaluate((image) => image.decode())
    expect(await page.getByTestId('live-dot').count()).toBe(0)
    expect(problems).toEqual([])
  })
})

test('after a lost connection the stream goes on, no event missing and none shown twice', async () => {
  const { taskUrl, say, stop, startAgain, tasks, task } = await setUp()
  await withBrowser(async ({ page, problems }) => {
    await tasks.status(task.id, 'running')
    await say(text('one'), text('two'))
    await page.goto(taskUrl)
    await page.getByTestId('event-text').nth(1).waitFor()
    await stop()
    await streamState(page, 'lost')
    await say(text('three'))
    await startAgain()
    await streamState(page, 'live')
    await say(text('four'))
    await tasks.finish(task.id)
    await streamState(page, 'ended')
    const shown = await page.getByTestId('event-text').locator('p').allInnerTexts()
    expect(shown).toEqual(['one', 'two', 'three', 'four'])
    expect(problems).toEqual([])
  })
})

test('the stream follows its end until the user scrolls up, and again when asked to', async () => {
  const { taskUrl, say, tasks, task } = await setUp()
  await withBrowser(async ({ page, problems }) => {
    const lines = (count: number, word: string) => Array.from({ length: count }, (_, index) => text(`${word} ${index}`))
    await tasks.status(task.id, 'running')
    await say(...lines(200, 'early'))
    await page.goto(taskUrl)
    const stream = page.getByTestId('stream')
    const scrollTop = () => stream.evaluate((box) => box.scrollTop)
    const isVisible = (words: string) => page.getByText(words, { exact: true }).waitFor({ state: 'visible' })
    await isVisible('early 199')
    expect(await page.getByTestId('jump-latest').count()).toBe(0)

    await stream.hover()
    await page.mouse.wheel(0, -500)
    await page.getByTestId('jump-latest').waitFor()
    const before = await scrollTop()
    await say(...lines(50, 'late'))
    await page.getByTestId('jump-latest').getByText('50 new').waitFor()
    expect(await scrollTop()).toBe(before)

    await page.getByTestId('jump-latest').click()
    await page.getByTestId('jump-latest').waitFor({ state: 'detached' })
    expect(await scrollTop()).toBeGreaterThan(before)
    expect(problems).toEqual([])
  })
})

test('what a guest writes stays text: no markup, no script, no request', async () => {
  const { taskUrl, say, tasks, task } = await setUp()
  const hostile = '<img src="http://attacker.example/x.png" onerror="alert(1)"><script>alert(2)</script>'
  await withBrowser(async ({ page, problems }) => {
    await say(
      text(`${hostile} [link](javascript:alert(3)) ![image](http://attacker.example/y.png)`),
      { type: 'thinking', text: hostile },
      { type: 'tool_call', toolUseId: 'a', name: hostile, input: { [hostile]: hostile } },
      {
        type: 'tool_result',
        toolUseId: 'a',
        text: hostile,
        isError: true,
        images: [{ mimeType: 'image/svg+xml', data: Buffer.from(hostile).toString('base64') }],
      },
      { type: 'tool_call', toolUseId: 'b', name: 'Bash', input: { command: { toString: hostile } } },
      { type: 'raw', text: hostile },
      { type: 'stderr', text: hostile },
      { type: 'log', level: 'error', message: hostile, data: { hostile } },
      { type: 'egress', host: hostile, port: 443, allowed: false, rule: hostile },
      { type: 'result', isError: true, text: hostile },
    )
    tasks.addFile(task.id, `${hostile}.svg`, Buffer.from(hostile), 'image/svg+xml')
    await tasks.finish(task.id, 'failed', { error: { code: 'agent_failed', message: hostile } })
    await page.goto(taskUrl)
    await streamState(page, 'ended')
    await page.getByTestId('event-result').waitFor()
    expect(await page.getByText('attacker.example').count()).toBeGreaterThan(8)
    expect(await page.locator('[src*="attacker"], [href^="javascript"], [onerror], main script').count()).toBe(0)
    expect(problems).toEqual([])
  })
})

test('what a shell prints reads as it was printed, wherever it was cut', async () => {
  const { url, tasks, identity, log } = await setUp()
  const { id } = await tasks.submit(identity.ada.id, TaskRequest.parse({ prompt: 'make', agent: 'shell' }))
  await withBrowser(async ({ page, problems }) => {
    await log.append(id, [
      { type: 'raw', text: 'comp' },
      { type: 'raw', text: 'iling\nlink' },
      { type: 'raw', text: 'ing\n' },
    ])
    await page.goto(`${url}/tasks/${id}#key=vv_ada`)
    await page.getByTestId('event-raw').getByText('linking').waitFor()
    expect((await page.getByTestId('event-raw').locator('pre').allTextContents()).join()).toBe('compiling\nlinking\n')
    expect(problems).toEqual([])
  })
})

test('the parts of a task are all within reach on a small screen', async () => {
  const { taskUrl, say, tasks, task } = await setUp()
  await withBrowser(
    async ({ page, problems }) => {
      tasks.addFile(task.id, 'out.txt', Buffer.from('out'), 'text/plain')
      await say(text('w'.repeat(500)), { type: 'raw', text: 'r'.repeat(500) })
      await tasks.finish(task.id)
      await page.goto(taskUrl)
      await streamState(page, 'ended')
      const wide = () => page.evaluate<number>('document.documentElement.scrollWidth - window.innerWidth')
      expect(await wide()).toBeLessThanOrEqual(0)
      await page.getByRole('button', { name: 'files' }).click()
      await page.getByTestId('file-row').waitFor()
      await page.getByRole('button', { name: 'details' }).click()
      await page.getByRole('heading', { name: 'Task' }).waitFor()
      expect(await wide()).toBeLessThanOrEqual(0)
      expect(problems).toEqual([])
    },
    { width: 390, height: 844 },
  )
})

test('a finished task is gone on from, and forked into attempts that are shown side by side', async () => {
  const { url, tasks, identity } = await setUp()
  const request = { prompt: 'Parse it', template: 'web', maxTurns: 7, repo: { url: 'https://git.example/x' } }
  const { id } = await tasks.submit(identity.ada.id, TaskRequest.parse(request))
  await tasks.finish(id)
  await withBrowser(async ({ page, problems }) => {
    await page.goto(`${url}/tasks/${id}#key=vv_ada`)
    await page.getByTestId('follow-up-prompt').fill('Also gzip')
    await page.getByTestId('keep-vm').selectOption('1 hour')
    await page.getByTestId('follow-up-submit').click()
    await page.getByTestId('task-origin').getByText(id).click()
    await page.getByTestId('continuation').getByText('Also gzip').waitFor()
    const followUp = tasks.requests.at(-1)
    expect(followUp).toMatchObject({ continues: id, template: 'web', maxTurns: 7, keepVmSeconds: 3600 })
    expect(followUp?.repo).toBeUndefined()

    await page.getByTestId('follow-up-prompt').fill('Make it faster')
    await page.getByTestId('fork-count').fill('2')
    await page.getByTestId('fork-submit').click()
    await page.waitForURL(`${url}/tasks/${id}/compare`)
    const attempts = page.getByTestId('attempt')
    await attempts.nth(1).waitFor()
    const ids = await attempts.evaluateAll((items) => items.map((item) => item.getAttribute('data-task-id') ?? ''))
    expect(ids).toHaveLength(2)
    const patch = 'diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1,2 @@\n-old\n+new\n+more\n'
    const phases = [{ name: 'restore', ms: 80 }]
    for (const each of ids) tasks.patches.set(each, patch)
    await tasks.finish(ids[0] ?? '', 'succeeded', {
      hasPatch: true,
      costUsd: 0.25,
      turns: 4,
      result: 'Faster.',
      phases,
    })
    await tasks.finish(ids[1] ?? '', 'failed')
    await attempts.first().getByTestId('patch').getByText('+more').waitFor()
    const first = await attempts.first().innerText()
    for (const shown of ['succeeded', '$0.25', '+2 −1', 'Faster.', 'restore']) expect(first).toContain(shown)
    await attempts.nth(1).getByText('failed').waitFor()
    expect(problems).toEqual([])
  })
})

test('a kept machine shows where it came from and how long it stays, and is suspended and resumed', async () => {
  const { url, machines, identity, tasks, task } = await setUp()
  const { id } = await machines.create(identity.ada.id, MachineRequest.parse({ template: 'web' }))
  machines.change(id, { taskId: task.id, keepUntil: new Date(Date.now() + 7_200_000).toISOString() })
  await tasks.finish(task.id, 'succeeded', { vmId: id })
  await withBrowser(async ({ page, problems }) => {
    await page.goto(`${url}/tasks/${task.id}#key=vv_ada`)
    await page.getByTestId('kept-machine').getByText(id).click()
    const row = page.getByTestId('vm-row')
    await row.getByText('restored from template web').waitFor()
    await row.getByTestId('vm-kept').filter({ hasText: 'kept for 2h' }).waitFor()
    await row.getByRole('button', { name: 'Suspend' }).click()
    await row.locator('[data-state=suspended]').waitFor()
    await row.getByRole('button', { name: 'Resume' }).click()
    await row.locator('[data-state=ready]').waitFor()
    expect(problems).toEqual([])
  })
})

/** A PNG of one pixel. */
const PIXEL = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==',
  'base64',
)

test('usage shows as a chart by day, task and user, and comes as CSV; a cost that the agent sees otherwise is shown beside ours', async () => {
  const { url, services, say, taskUrl, tasks, task } = await setUp()
  const tokens = { inputTokens: 1000, outputTokens: 50, cacheReadTokens: 0, cacheWriteTokens: 0 }
  const sums = { ...tokens, requests: 3, incomplete: 0, unpriced: 1, costUsd: 1.5 }
  services.usage.query = async ({ by, split }) => {
    const rows = ['2026-11-22', '2026-11-20'].map((key) => ({ ...sums, key: by === 'day' ? key : `${by} of ${key}` }))
    return split === undefined
      ? rows
      : rows.flatMap((row) => ['opus', 'haiku'].map((model) => ({ ...row, split: model })))
  }
  await withBrowser(async ({ page, problems }) => {
    await page.goto(`${url}/usage#key=vv_owner`)
    await page.getByRole('figure', { name: 'Cost by day' }).waitFor()
    await page.getByText('haiku').first().waitFor()
    // Days without any are gaps.
    expect(await page.getByTestId('usage-bar').count()).toBe(30)
    await page.getByText('+ ?').first().waitFor()
    for (const by of ['task', 'user']) {
      await page.getByRole('link', { name: by, exact: true }).click()
      await page.getByRole('figure', { name: `Cost by ${by}` }).waitFor()
      expect(await page.getByTestId('usage-bar').count()).toBe(2)
    }
    const download = page.waitForEvent('download')
    await page.getByRole('link', { name: 'CSV' }).click()
    expect((await download).suggestedFilename()).toBe('usage-by-user.csv')

    await say({ type: 'result', isError: false, text: 'Done.', reportedCostUsd: 0.75 })
    await tasks.finish(task.id, 'succeeded', { costUsd: 0.5, agent: 'claude-code' })
    expect(problems).toEqual([])
  })
  await withBrowser(async ({ page, problems }) => {
    await page.goto(taskUrl)
    await page.getByTestId('reported-cost').getByText('$0.75').waitFor()
    await page.goto(`${url}/usage`)
    await page.getByRole('figure', { name: 'Cost by day' }).waitFor()
    expect(await page.getByRole('link', { name: 'user', exact: true }).count()).toBe(0)
    expect(problems).toEqual([])
  })
})
