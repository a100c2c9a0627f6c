import { assert, constantFrom, dictionary, integer, jsonValue, oneof, property, string } from 'fast-check'
import { expect, test } from 'vitest'
import { RequestReader } from './request-reader.ts'

function read(body: string, chunkBytes = 7) {
  const reader = new RequestReader()
  const bytes = Buffer.from(body)
  for (let at = 0; at < bytes.length; at += chunkBytes) reader.push(bytes.subarray(at, at + chunkBytes))
  return reader.facts()
}

test('fields of the outermost object are found wherever they stand, however they are written', () => {
  const body = `{"messages":[{"content":"say \\"model\\": \\\\","model":"inner","max_tokens":1}],\n "m\\u006fdel" : "claude-a",
    "metadata":{"stream":false}, "stream":true,"max_tokens": 32000 }`
  const facts = { model: 'claude-a', maxTokens: 32_000, stream: true, bytes: Buffer.byteLength(body) }
  for (const chunkBytes of [1, 3, 1000]) expect(read(body, chunkBytes)).toEqual(facts)
})

test('of a repeated field the last counts, as for the API', () => {
  expect(read('{"model":"cheap","max_tokens":1,"model":"dear","max_tokens":9}')).toMatchObject({
    model: 'dear',
    maxTokens: 9,
  })
})

test('any JSON object gives what JSON.parse gives', () => {
  const field = oneof(constantFrom('model', 'max_tokens', 'stream', '\\"model', 'x'), string())
  const value = oneof(jsonValue(), constantFrom('claude-a', 'claude-b', 1000, true, false))
  assert(
    property(dictionary(field, value), integer({ min: 1, max: 50 }), (object, chunkBytes) => {
      const { model, max_tokens: maxTokens, stream } = JSON.parse(JSON.stringify(object)) as Record<string, unknown>
      expect(read(JSON.stringify(object, null, chunkBytes % 3), chunkBytes)).toMatchObject({
        model: typeof model === 'string' && model.length < 50 ? model : 'unknown',
        maxTokens: typeof maxTokens === 'number' && maxTokens > 0 ? maxTokens : undefined,
        stream: stream === true,
      })
    }),
  )
})

test('what is not JSON teaches nothing and breaks nothing', () => {
  for (const body of ['', '{', '}}}}{"model":"x"', '["model","x"]', '"model":"x"', `{"model":"${'x'.repeat(1e6)}"}`])
    expect(read(body, 1000)).toMatchObject({ model: 'unknown' })
})
