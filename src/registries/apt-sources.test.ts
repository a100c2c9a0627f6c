import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  keyringFiles,
  parseDeb822,
  parseOneLine,
  readAptSources,
  renderDeb822,
  selectDebian,
  withoutCredentials,
} from './apt-sources.ts'

const DEB822 = `# the mirror
Types: deb deb-src
# an old address
URIs: https://user:secret@mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://tools.example/apt
Suites: nodistro
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Enabled: no
Types: deb
URIs: https://off.example/debian
Suites: bookworm
Components: main
`

describe('package sources of the host', () => {
  test('both formats of apt are read alike', () => {
    const [first, second, ...rest] = parseDeb822(DEB822)
    expect(rest).toEqual([])
    expect(first?.suites).toEqual(['bookworm', 'bookworm-updates'])
    expect(second?.options['signed-by']).toContain('\n .\n abc')
    const line =
      'deb [arch=amd64,arm64 signed-by=/k/debian-archive.gpg] http://m.example/debian bookworm main contrib # x'
    expect(parseOneLine(`# no\ndeb-src http://m.example/debian bookworm main\n${line}\n`)).toEqual([
      {
        uris: ['http://m.example/debian'],
        suites: ['bookworm'],
        components: ['main', 'contrib'],
        options: { architectures: 'amd64 arm64', 'signed-by': '/k/debian-archive.gpg' },
      },
    ])
  })

  test("only Debian's own release for this processor is taken, whoever else offers packages", () => {
    const lines = `deb http://m.example/debian bookworm main non-free-firmware
deb http://m.example/debian bookworm-security main
deb http://m.example/debian-backports bookworm-backports main
deb http://m.example/debian trixie main
deb http://docker.example/linux/debian bookworm stable
deb http://pg.example/apt bookworm-pgdg main
deb [signed-by=/usr/share/keyrings/vpn-archive-keyring.gpg] http://vpn.example/debian bookworm main
deb [arch=arm64] http://m.example/arm bookworm main
deb cdrom:[disc]/ bookworm main
deb file:/srv/debian bookworm main`
    const taken = selectDebian(parseOneLine(lines), 'bookworm', 'amd64')
    expect(taken.map((source) => [source.uris[0], source.suites[0]])).toEqual([
      ['http://m.example/debian', 'bookworm'],
      ['http://m.example/debian', 'bookworm-security'],
      ['http://m.example/debian-backports', 'bookworm-backports'],
    ])
  })

  test("a company's mirror with the company's key serves where nothing is signed by Debian", () => {
    const sources = parseOneLine('deb [signed-by=/etc/apt/keyrings/acme.gpg] https://acme.example/debian bookworm main')
    expect(selectDebian(sources, 'bookworm', 'amd64')).toHaveLength(1)
    expect(keyringFiles(sources)).toEqual(['/etc/apt/keyrings/acme.gpg'])
  })

  test('what is shown to guests holds no password, and reads back as the same source', () => {
    const text = renderDeb822(withoutCredentials(parseDeb822(DEB822)))
    expect(text).not.toMatch(/user|secret/)
    expect(text).toContain('URIs: https://mirror.example/debian\n')
    expect(parseDeb822(text)).toEqual(withoutCredentials(parseDeb822(DEB822)))
  })
})

describe("a host's folder of sources", () => {
  let etc: string
  beforeEach(() => {
    etc = mkdtempSync(join(tmpdir(), 'vivarium-apt-'))
    mkdirSync(join(etc, 'sources.list.d'))
  })
  afterEach(() => rmSync(etc, { recursive: true }))

  test('is read as apt reads it: known endings only, mirrors from a mirror list', () => {
    writeFileSync(join(etc, 'mirrors'), 'https://a.example/debian\tpriority:1\n# no\nhttps://b.example/debian\n')
    writeFileSync(join(etc, 'sources.list'), 'deb http://one.example/debian bookworm main\n')
    writeFileSync(join(etc, 'sources.list.d/x.list.save'), 'deb http://saved.example/debian bookworm main\n')
    writeFileSync(
      join(etc, 'sources.list.d/debian.sources'),
      `Types: deb\nURIs: mirror+file://${join(etc, 'mirrors')}\nSuites: bookworm\nComponents: main\n`,
    )
    expect(readAptSources(etc).map((source) => source.uris)).toEqual([
      ['http://one.example/debian'],
      ['https://a.example/debian', 'https://b.example/debian'],
    ])
  })

  test('may be missing', () => {
    expect(readAptSources(join(etc, 'nowhere'))).toEqual([])
  })
})
