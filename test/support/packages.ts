import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { crc32, gzipSync } from 'node:zlib'
import { execa } from 'execa'
import { pack } from 'tar-stream'

/** An npm package of one file, which exports its own name. */
export async function npmPackage(name: string): Promise<{ tarball: Buffer; integrity: string; manifest: object }> {
  const manifest = { name, version: '1.0.0', main: 'index.js' }
  const tar = pack()
  tar.entry({ name: 'package/package.json' }, JSON.stringify(manifest))
  tar.entry({ name: 'package/index.js' }, `module.exports = ${JSON.stringify(name)}\n`)
  tar.finalize()
  const tarball = gzipSync(await buffer(tar))
  return { tarball, integrity: `sha512-${createHash('sha512').update(tarball).digest('base64')}`, manifest }
}

/** A wheel with one module, `NAME = "name"`. */
export function wheel(name: string): Buffer {
  const info = `${name}-1.0.0.dist-info`
  return storedZip({
    [`${name}.py`]: `NAME = "${name}"\n`,
    [`${info}/METADATA`]: `Metadata-Version: 2.1\nName: ${name}\nVersion: 1.0.0\n`,
    [`${info}/WHEEL`]: 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
    [`${info}/RECORD`]: [`${name}.py`, 'METADATA', 'WHEEL', 'RECORD']
      .map((file) => (file.endsWith('.py') ? `${file},,\n` : `${info}/${file},,\n`))
      .join(''),
  })
}

/** A zip archive of files that are stored as they are (APPNOTE, sections 4.3.7 and 4.3.12). */
function storedZip(files: Record<string, string>): Buffer {
  const locals: Buffer[] = []
  const central: Buffer[] = []
  let offset = 0
  for (const [path, content] of Object.entries(files)) {
    const [name, data] = [Buffer.from(path), Buffer.from(content)]
    // Version 2.0, no flags, stored, 1 January 1980.
    const common = Buffer.alloc(26)
    common.writeUInt16LE(20, 0)
    common.writeUInt16LE(0x21, 8)
    common.writeUInt32LE(crc32(data), 10)
    common.writeUInt32LE(data.length, 14)
    common.writeUInt32LE(data.length, 18)
    common.writeUInt16LE(name.length, 22)
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), common, name, data])
    const rest = Buffer.alloc(14)
    rest.writeUInt32LE(offset, 10)
    central.push(Buffer.concat([Buffer.from('PK\x01\x02\x14\x00'), common, rest, name]))
    locals.push(local)
    offset += local.length
  }
  const directory = Buffer.concat(central)
  const end = Buffer.alloc(18)
  end.writeUInt16LE(central.length, 4)
  end.writeUInt16LE(central.length, 6)
  end.writeUInt32LE(directory.length, 8)
  end.writeUInt32LE(offset, 12)
  return Buffer.concat([...locals, directory, Buffer.from('PK\x05\x06'), end])
}

/** A Debian package that installs one file, and the index of a repository that holds it alone. */
export async function debianPackage(folder: string, name: string): Promise<{ deb: Buffer; index: string }> {
  const root = join(folder, name)
  mkdirSync(join(root, 'DEBIAN'), { recursive: true })
  mkdirSync(join(root, 'opt'), { recursive: true })
  const control = `Package: ${name}\nVersion: 1.0\nArchitecture: all\nMaintainer: test <test@example>\nDescription: test\n`
  writeFileSync(join(root, 'DEBIAN/control'), control)
  writeFileSync(join(root, 'opt', name), 'installed\n')
  await execa('dpkg-deb', ['--build', '--root-owner-group', root, join(folder, `${name}.deb`)])
  const deb = readFileSync(join(folder, `${name}.deb`))
  const sha256 = createHash('sha256').update(deb).digest('hex')
  return { deb, index: `${control}Filename: ./${name}.deb\nSize: ${deb.length}\nSHA256: ${sha256}\n` }
}
