import { expect, test } from 'vitest'
import { hostArchitecture, recipeFor, recipeKey, type Recipe } from './recipe.ts'

const file = { path: '/etc/x', content: 'x', mode: 0o644, encoding: 'utf8' } as const
const parts = { extraPackages: { debian: ['b', 'a'], npm: [] }, files: [file], setup: 'true' }
const recipe = recipeFor(hostArchitecture('x64'), parts)

test('the same recipe has the same key, in whichever order the packages are named', () => {
  expect(recipeKey(recipe)).toMatch(/^[0-9a-f]{16}$/)
  const again = recipeFor(hostArchitecture('x64'), { ...parts, extraPackages: { debian: ['a', 'b', 'a'], npm: [] } })
  expect(recipeKey(again)).toBe(recipeKey(recipe))
})

test('whatever changes the image changes its key', () => {
  const changed: Recipe[] = [
    recipeFor(hostArchitecture('arm64'), parts),
    { ...recipe, npm: { ...recipe.npm, integrity: 'sha512-other' } },
    { ...recipe, debianPackages: recipe.debianPackages.slice(1) },
    { ...recipe, kernelModules: recipe.kernelModules.slice(1) },
    { ...recipe, extraPackages: { debian: [], npm: ['typescript'] } },
    { ...recipe, files: [{ ...file, content: 'y' }] },
    { ...recipe, files: [{ ...file, mode: 0o600 }] },
    { ...recipe, setup: 'false' },
  ]
  const keys = [recipe, ...changed].map(recipeKey)
  expect(new Set(keys).size).toBe(keys.length)
})

test('a processor without a guest is refused with a sentence', () => {
  expect(() => hostArchitecture('riscv64')).toThrow(/no guest image for riscv64/)
})
