import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isRouted, readPath } from './routes.ts'

const takes = (pattern: string, path: string, method = 'GET', ruled: 'GET' | '*' = '*') => {
  const read = readPath(path)
  return read !== undefined && isRouted([{ method: ruled, path: pattern }], method, read)
}

describe('a path that could mean another to the server is not read', () => {
  test.each([
    '',
    '*',
    'http://other.example/',
    'x/y',
    '/a/../b',
    '/a/..',
    '/./a',
    '/a//b',
    '//other.example/a',
    '/a/%2e%2e/b',
    '/a/.%2E/b',
    '/a%2f..%2fb',
    '/a%2F%2Fb',
    '/a/%252e%252e/b',
    '/a%255cb',
    '/a%25252e',
    '/a\\b',
    '/a%5c..%5cb',
    '/a/..;/b',
    '/a/..;x=1/b',
    '/a%00b',
    '/a%0d%0aHost:%20x',
    '/a b',
    '/a\r\nx: y',
    '/ü',
    '/a%ff',
    '/a%',
    '/a%c0%ae%c0%ae/b',
    '/a#b',
  ])('%j', (path) => expect(readPath(path)).toBeUndefined())
})

test('ordinary paths are read: encoded slashes of npm, tildes, dots in names, a slash at the end, any query', () => {
  for (const path of ['/', '/@acme%2fpkg', '/~user/x.y/', '/a/...b', '/a?x=../..&y=//z', '/a%20b', '/-/v1/search'])
    expect(readPath(path)).toBeDefined()
})

test('a rule names a method and a path', () => {
  expect(takes('/repos/*/issues', '/repos/acme/issues?page=2')).toBe(true)
  expect(takes('/repos/*/issues', '/repos/acme/issues/1')).toBe(false)
  expect(takes('/repos/*/issues', '/repos/issues')).toBe(false)
  expect(takes('/repos/*/issues', '/repos//issues')).toBe(false)
  expect(takes('/repos/acme/**', '/repos/acme/x/y')).toBe(true)
  expect(takes('/repos/acme/**', '/repos/acme/')).toBe(true)
  expect(takes('/repos/acme/**', '/repos/acme')).toBe(false)
  expect(takes('/repos/acme/**', '/repos/acme2/x')).toBe(false)
  expect(takes('/**', '/')).toBe(true)
  expect(takes('/a', '/a', 'POST', 'GET')).toBe(false)
  expect(takes('/*.git/info/refs', '/x.git/info/refs')).toBe(true)
  expect(takes('/*.git/info/refs', '/x/info/refs')).toBe(false)
  expect(takes('/a*b*c', '/aXbYc')).toBe(true)
  expect(takes('/a*bc*c', '/abc')).toBe(false)
})

test('an encoded slash passes only where both readings of it do', () => {
  expect(takes('/public/*', '/public/a%2fb')).toBe(false)
  expect(takes('/public/a/b', '/public/a%2fb')).toBe(false)
  expect(takes('/public/**', '/public/a%2fb')).toBe(true)
  expect(takes('/public/**', '/public%2fa')).toBe(false)
})

test('whatever passes a rule for a folder stays in that folder by the rules of URLs', () => {
  const piece = fc.constantFrom(
    'a',
    'b',
    '.',
    '..',
    '/',
    '%2e',
    '%2F',
    '%5c',
    '%25',
    ';',
    '\\',
    '?',
    '#',
    '%',
    'public',
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 10 }), (pieces) => {
      const path = `/public/${pieces.join('')}`
      if (!takes('/public/**', path)) return
      const once = new URL(path, 'http://x').pathname
      expect(once.startsWith('/public/')).toBe(true)
      expect(new URL(decodeURIComponent(once), 'http://x').pathname.startsWith('/public/')).toBe(true)
    }),
    { numRuns: 2000, seed: 7 },
  )
})
