import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cpio, type CpioEntry } from './cpio.ts'

/** What an initramfs is made of besides the image's own busybox and modules. */
export interface GuestProgram {
  /** The first process, a script for busybox. */
  init: Buffer
  /** Starts the agent, and starts it again. */
  supervise: Buffer
  /** The guest agent, one file for Node. */
  agent: Buffer
}

/** busybox's commands that init uses. */
const COMMANDS =
  'cat chmod chown cp echo hostname ifconfig insmod ip ln mkdir mount poweroff rm sh switch_root usleep [ test'.split(
    ' ',
  )

/** The initramfs of an image folder: uncompressed, because unpacking costs more than reading it, most of all without hardware virtualisation. */
export async function buildInitrd(image: string, program: GuestProgram): Promise<Buffer> {
  const names = (await readdir(join(image, 'modules'))).toSorted()
  const modules = await Promise.all(
    names.map(async (name) => ({ name, content: await readFile(join(image, 'modules', name)) })),
  )
  const folders = ['bin', 'dev', 'lower', 'modules', 'newroot', 'proc', 'scratch', 'sys', 'vivarium']
  const file = (path: string, content: Buffer, mode = 0o755): CpioEntry => ({ type: 'file', path, mode, content })
  return cpio([
    ...folders.map((path): CpioEntry => ({ type: 'folder', path })),
    // The kernel opens it for init before anything is mounted.
    { type: 'character-device', path: 'dev/console', major: 5, minor: 1 },
    file('bin/busybox', await readFile(join(image, 'busybox'))),
    ...COMMANDS.map((name): CpioEntry => ({ type: 'link', path: `bin/${name}`, target: 'busybox' })),
    ...modules.map(({ name, content }) => file(`modules/${name}`, content, 0o644)),
    file('init', program.init),
    file('vivarium/supervise', program.supervise),
    file('vivarium/agent.mjs', program.agent, 0o644),
  ])
}
