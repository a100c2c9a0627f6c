import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { lockDataFolder } from '../server/lock.ts'
import { findServer } from './connection.ts'
import { processIo } from './io.ts'

test('the key of a server that was killed is not sent to whoever has its port now', async () => {
  const home = mkdtempSync(join(tmpdir(), 'vivarium-connection-'))
  const heard: (string | undefined)[] = []
  const neighbour = createServer((request, response) => {
    heard.push(request.headers.authorization)
    response.setHeader('content-type', 'application/json')
    response.end('{"id":"u_000000000000","name":"owner","createdAt":"2026-01-01T00:00:00.000Z","isOwner":true}')
  }).listen(0, '127.0.0.1')
  await once(neighbour, 'listening')
  onTestFinished(() => {
    neighbour.close()
    neighbour.closeAllConnections()
    rmSync(home, { recursive: true })
  })
  const url = `http://127.0.0.1:${(neighbour.address() as AddressInfo).port}`
  // As a killed server leaves it: announced, and no longer locked.
  writeFileSync(join(home, 'server.json'), JSON.stringify({ url, key: 'vv_secret', pid: 1 }))
  lockDataFolder(home)[Symbol.dispose]()
  const io = { ...processIo(new AbortController().signal), env: { VIVARIUM_HOME: home } }

  await expect(findServer(io, { start: false })).rejects.toMatchObject({ code: 'setup_required' })
  expect(heard).toEqual([])
  // The same where the server does run is how clients find it.
  using _ = lockDataFolder(home)
  expect(await findServer(io, { start: false })).toEqual({ url, apiKey: 'vv_secret' })
})
