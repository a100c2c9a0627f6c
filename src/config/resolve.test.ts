import { describe, expect, test } from 'vitest'
import { VivariumError } from '../contracts/errors.ts'
import { environmentName, parseListen, resolveConfig, settingPaths, type Sources } from './resolve.ts'

function sources(over: Partial<Sources> = {}): Sources {
  return {
    file: {},
    filePath: '/h/vivarium.json',
    env: {},
    flags: {},
    home: '/h',
    cacheDir: '/c',
    runDir: '/r',
    ...over,
  }
}

describe('configuration', () => {
  test('an empty file gives every default', () => {
    const { config, origins } = resolveConfig(sources())
    expect(config.listen).toEqual({ host: '127.0.0.1', port: 8080 })
    expect(config.anthropic.upstream).toBe('https://api.anthropic.com')
    expect(new Set(Object.values(origins))).toEqual(new Set(['default']))
  })

  test('a flag beats the environment, which beats the file, and each value says where it came from', () => {
    const { config, origins } = resolveConfig(
      sources({
        file: { listen: '127.0.0.1:1', log: 'warn', machines: { scratchMib: 2048 } },
        env: {
          VIVARIUM_LISTEN: '127.0.0.1:2',
          VIVARIUM_NETWORK_ALLOW: 'a.example, b.example',
          VIVARIUM_TASKS_MAX_QUEUED: '7',
        },
        flags: { listen: '127.0.0.1:3' },
      }),
    )
    expect(config.listen.port).toBe(3)
    expect(config.log).toBe('warn')
    expect(config.machines.scratchMib).toBe(2048)
    expect(config.network.allow).toEqual(['a.example', 'b.example'])
    expect(config.tasks.maxQueued).toBe(7)
    expect(origins).toMatchObject({
      listen: 'flag --listen',
      log: 'file /h/vivarium.json',
      'network.allow': 'env VIVARIUM_NETWORK_ALLOW',
      'image.packages.debian': 'default',
    })
  })

  test('a switch in the environment is true or false, and nothing else', () => {
    const read = (text: string) => resolveConfig(sources({ env: { VIVARIUM_TEMPLATE_ENABLED: text } })).config
    expect([read('false'), read('true')].map(({ template }) => template.enabled)).toEqual([false, true])
    expect(() => read('no')).toThrow(/template\.enabled/)
  })

  test('a list in the environment is of words, or of anything as JSON', () => {
    const read = (env: Record<string, string>) => resolveConfig(sources({ env })).config
    expect(read({ VIVARIUM_NETWORK_ALLOW: '[::1]:80,none' }).network.allow).toEqual(['[::1]:80', 'none'])
    expect(
      read({ VIVARIUM_UPSTREAMS: '[{"name":"jira","url":"https://jira.example/","inject":{"secret":"jira"}}]' })
        .upstreams,
    ).toEqual([
      {
        name: 'jira',
        url: 'https://jira.example/',
        inject: { header: 'authorization', secret: 'jira', format: 'Bearer {secret}' },
        allow: [{ method: '*', path: '/**' }],
      },
    ])
  })

  test('what holds named things is JSON in the environment', () => {
    const read = (text: string) =>
      resolveConfig(sources({ env: { VIVARIUM_TEMPLATE_WARM: text } })).config.template.warm
    expect(read('{"web":{"script":"make"}}')).toEqual({ web: { script: 'make', allow: [], timeoutSeconds: 1800 } })
    for (const text of ['web', '[]', '{"web":{}}']) expect(() => read(text)).toThrow(/"template\.warm/)
  })

  test('what could be no upstream is refused', () => {
    const refuses = (upstream: object) => () => resolveConfig(sources({ file: { upstreams: [upstream] } }))
    const good = { name: 'jira', url: 'https://jira.example' }
    expect(refuses(good)).not.toThrow()
    for (const bad of [
      { ...good, name: 'anthropic' },
      { ...good, name: 'Jira' },
      { ...good, url: 'ftp://jira.example' },
      { ...good, url: 'https://user:pw@jira.example' },
      { ...good, inject: { secret: 'x', header: 'Host' } },
      { ...good, inject: { secret: 'x', header: 'a b' } },
      { ...good, inject: { secret: 'x', format: 'Bearer' } },
      { ...good, inject: { secret: 'x', format: 'a\r\nb: {secret}' } },
      { ...good, allow: [{ method: 'TRACE', path: '/**' }] },
      { ...good, allow: [{ method: 'GET', path: '/a/../b' }] },
      { ...good, allow: [{ method: 'GET', path: '/**/b' }] },
    ])
      expect(refuses(bad)).toThrow(/upstreams/)
    expect(() => resolveConfig(sources({ file: { upstreams: [good, good] } }))).toThrow(/names of their own/)
  })

  test('a bad value is refused with its setting and its origin', () => {
    const bad = (over: Partial<Sources>) => () => resolveConfig(sources(over))
    expect(bad({ env: { VIVARIUM_ENGINE: 'xen' } })).toThrow(/"engine" \(from env VIVARIUM_ENGINE\)/)
    expect(bad({ file: { machines: { scratchMib: 1 } } })).toThrow(/"machines.scratchMib" \(from file/)
    expect(bad({ file: { colour: 'orange' } })).toThrow(VivariumError)
    expect(bad({ file: [] })).toThrow(/JSON object/)
    expect(bad({ env: { VIVARIUM_DATABASE_URL: 'postgres://x' } })).toThrow(/SQLite only/)
    expect(() => parseListen('127.0.0.1:70000')).toThrow(/65535/)
  })

  test('every setting has an environment variable of its own', () => {
    const names = settingPaths().map(environmentName)
    expect(new Set(names).size).toBe(names.length)
    expect(names).toEqual(
      expect.arrayContaining([
        'VIVARIUM_MACHINES_SCRATCH_MIB',
        'VIVARIUM_LISTEN',
        'VIVARIUM_READY_MODEL',
        'VIVARIUM_PRICES',
      ]),
    )
  })
})
