import { expect, test } from 'vitest'
import { createApp } from '../../src/api/app.ts'
import { listen } from '../../src/api/listen.ts'
import { fakeOptions, fakeServices } from '../../src/api/testing/fake-services.ts'
import { assetNames, readAsset } from '../../src/assets.ts'
import { withBrowser } from './browser.ts'

const VALUE = 'ghp_seen-by-nobody'

test('a secret is stored and removed on its page, which never shows it again', async () => {
  const fakes = fakeServices()
  const names = new Set(assetNames('web/'))
  const assets = { read: (name: string) => (names.has(name) ? readAsset(name) : undefined) }
  const server = await listen(createApp({ ...fakes.services, assets }, fakeOptions).fetch, {
    host: '127.0.0.1',
    port: 0,
  })
  try {
    await withBrowser(async ({ page, problems }) => {
      await page.goto(`${server.url}/secrets#key=vv_owner`)
      await page.getByText('Nothing is stored yet').waitFor()
      await page.getByTestId('secret-name').fill('github')
      await page.getByTestId('secret-value').fill(`${VALUE}\u00e9`)
      await page.getByTestId('secret-store').click()
      await page.getByText('printable ASCII').waitFor()
      await page.getByTestId('secret-value').fill(VALUE)
      await page.getByTestId('secret-shared').check()
      await page.getByTestId('secret-store').click()
      const row = page.getByTestId('secret-row').filter({ hasText: 'github' })
      await row.getByText('shared').waitFor()
      expect(await page.content()).not.toContain(VALUE)
      expect(await page.getByTestId('secret-value').inputValue()).toBe('')
      await page.getByLabel('Remove github').click()
      await page.getByText('Remove it?').click()
      await page.getByText('Nothing is stored yet').waitFor()
      expect(problems).toEqual([])
    })
  } finally {
    await server.close()
  }
})
