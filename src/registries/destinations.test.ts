import { expect, test } from 'vitest'
import { parseOneLine } from './apt-sources.ts'
import { registryDestinations } from './destinations.ts'

test('every registry of npm and apt gives one destination with its port; what is not http is left out', () => {
  const apt = parseOneLine(
    'deb http://deb.example/debian bookworm main\ndeb http://deb.example/security bookworm main\ndeb file:/srv/mirror bookworm main\ndeb cdrom:[x]/ bookworm main',
  )
  const npm = {
    registry: 'https://user:secret@npm.example/',
    '@a:registry': 'http://[::1]:4873/',
    '//npm.example/:_authToken': 'x',
  }
  expect(registryDestinations(apt, npm)).toEqual([
    { host: 'deb.example', port: 80 },
    { host: 'npm.example', port: 443 },
    { host: '::1', port: 4873 },
  ])
})
