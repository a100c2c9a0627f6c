import { expect, test } from 'vitest'
import { canonicalAddress, isOwnAddress, isPublicAddress } from './addresses.ts'

test.each([
  '127.0.0.1',
  '127.255.255.255',
  '0.0.0.0',
  '10.1.2.3',
  '100.100.100.200',
  '172.16.0.1',
  '172.31.255.255',
  '192.168.1.1',
  '169.254.169.254',
  '168.63.129.16',
  '192.0.0.192',
  '198.18.0.1',
  '224.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  '::7f00:1',
  '::ffff:127.0.0.1',
  '::ffff:a00:1',
  '::ffff:0:0',
  '::ffff:0:127.0.0.1',
  '64:ff9b::127.0.0.1',
  '64:ff9b::a9fe:a9fe',
  '64:ff9b:1::1',
  '2002:7f00:1::',
  '2002:808:808::1',
  '2001:0:4136:e378::1',
  '2001:db8::1',
  '2001:470:1:2:0:5efe:10.0.0.1',
  '2001:470::200:5efe:7f00:1',
  'fe80::1',
  'fe80::1%eth0',
  'fc00::1',
  'fd00:ec2::254',
  'fec0::1',
  'ff02::1',
  '100::1',
  'localhost',
  '2130706433',
  '0x7f.1',
  '127.1',
  '',
])('%s is not public', (address) => {
  expect(isPublicAddress(address)).toBe(false)
})

test.each([
  '1.1.1.1',
  '172.15.0.1',
  '172.32.0.1',
  '169.253.0.1',
  '2606:4700::1111',
  '::ffff:1.1.1.1',
  '64:ff9b::808:808',
  '2001:470:1:2:5efe:0:a00:1',
])('%s is public', (address) => {
  expect(isPublicAddress(address)).toBe(true)
})

test('one address has one spelling', () => {
  expect(canonicalAddress('0:0::1')).toBe('::1')
  expect(canonicalAddress('::FFFF:127.0.0.1')).toBe('127.0.0.1')
  expect(canonicalAddress('::ffff:0:1')).toBe('0.0.0.1')
  expect(canonicalAddress('10.0.0.1')).toBe('10.0.0.1')
})

test("this host's interfaces are its own, in every spelling; others are not", () => {
  expect(isOwnAddress('127.0.0.1')).toBe(true)
  expect(isOwnAddress('::ffff:127.0.0.1')).toBe(true)
  expect(isOwnAddress('64:ff9b::127.0.0.1')).toBe(true)
  expect(isOwnAddress('1.1.1.1')).toBe(false)
})
