import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { DEMO_PROMPT, DEMO_SCRIPT } from '../../scripted-model/demo.ts'
import { startOrchestrator, type TestOrchestrator } from '../support/orchestrator.ts'
import { withBrowser } from './browser.ts'

/** Where to keep a picture of the finished task, e.g. for the README. */
const SCREENSHOT = process.env['VIVARIUM_SCREENSHOT']
const PATIENCE = { timeout: 240_000 }

let orchestrator: TestOrchestrator
beforeAll(async () => {
  orchestrator = await startOrchestrator({ script: DEMO_SCRIPT })
})
afterAll(async () => {
  await orchestrator?.[Symbol.asyncDispose]()
})

test('a task started in the dashboard is watched live to its end: machine, thinking, text, tools, files, picture, cost', async () => {
  await withBrowser(async ({ page, problems }) => {
    await page.goto(`${orchestrator.url}/#key=${orchestrator.key}`)
    await page.getByTestId('new-task').first().click()
    await page.getByTestId('new-task-prompt').fill(DEMO_PROMPT)
    await page.getByTestId('submit-task').click()

    await page.getByTestId('live-dot').first().waitFor(PATIENCE)
    const taskUrl = page.url()
    await page.goto(`${orchestrator.url}/vms`)
    await page.getByTestId('vm-row').filter({ hasText: 'agent' }).waitFor(PATIENCE)
    await page.goto(taskUrl)

    for (const kind of ['thinking', 'text', 'tool-call', 'tool-result'])
      await page.getByTestId(`event-${kind}`).first().waitFor(PATIENCE)
    expect(await page.locator('[data-testid=stream-state]').getAttribute('data-state')).toBe('live')
    await page.getByTestId('event-result').waitFor(PATIENCE)
    await page.locator('[data-testid=task-status][data-status=succeeded]').first().waitFor(PATIENCE)
    await page.locator('[data-testid=stream-state][data-state=ended]').waitFor(PATIENCE)

    expect(await page.getByTestId('event-tool-call').count()).toBe(4)
    expect(await page.getByTestId('event-tool-result').count()).toBe(4)
    expect(await page.getByTestId('file-row').allTextContents()).toHaveLength(3)
    const picture = page.getByTestId('image-preview').first()
    await picture.scrollIntoViewIfNeeded()
    await expect.poll(() => picture.evaluate((image) => ('naturalWidth' in image ? image.naturalWidth : 0))).toBe(480)
    const { items } = await orchestrator.client.tasks.list({ limit: 1 })
    const cost = items[0]?.costUsd ?? 0
    expect(cost).toBeGreaterThan(0)
    expect(await page.getByTestId('task-cost').first().textContent()).toContain(cost.toFixed(2))
    if (SCREENSHOT !== undefined) {
      mkdirSync(dirname(SCREENSHOT), { recursive: true })
      await page.screenshot({ path: SCREENSHOT })
    }
    expect(problems).toEqual([])
  })
})
