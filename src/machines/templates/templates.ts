import { createHash } from 'node:crypto'
import { basename, join } from 'node:path'
import { VivariumError } from '../../contracts/errors.ts'
import { DEFAULT_TEMPLATE, type Template, type TemplateRequest } from '../../contracts/template.ts'
import { lockFile } from '../../files/lock.ts'
import type { Images, Progress } from '../../images/types.ts'
import { crashPoint } from '../../telemetry/crash-points.ts'
import type { Logger } from '../../telemetry/types.ts'
import { dependenciesOf } from '../dependencies.ts'
import type { Engine, Templates } from '../types.ts'
import type { BakeOptions } from './bake.ts'
import { findObjection } from './manifest.ts'
import { reasonOf, requireRoom } from './room.ts'
import { SharedWork } from './shared-work.ts'
import { TemplateStore, type StoredTemplate, type TemplateKey } from './store.ts'
import { Wanted } from './wanted.ts'
import type { WarmScript } from './warm-up.ts'

/** A build takes a boot and the user's script; whoever waits longer than this for another one's build gives up. */
const WAIT_MS = 60 * 60_000

export interface TemplateSettings {
  /** Holds the templates; may be shared by several orchestrators. */
  folder: string
  /** What all of them may take on the disk. */
  maxBytes: number
  memory: 'auto' | 'mapped' | 'stream'
  /** Whether there are users who may not trust each other. */
  severalUsers: () => Promise<boolean>
  warm: Readonly<Record<string, WarmScript>>
}

export interface TemplatesOptions {
  settings: TemplateSettings
  scratchMib: number
  /** Names that are never part of what a task has changed. */
  exclude: readonly string[]
  images: Images
  engine: () => Promise<Engine>
  /** Boots a machine and leaves it saved in the folder named; leaves nothing where that fails. */
  bake: (options: BakeOptions) => Promise<void>
  /** Called with the folder of a template that is not to be used any more: it was replaced, removed, or does not fit. */
  onWithdrawn: (folder: string) => void
  log: Logger
}

/** What a template is asked for by. */
export type Shape = Pick<TemplateRequest, 'name' | 'memoryMib' | 'vcpus'>

interface WaitOptions {
  progress?: Progress
  signal?: AbortSignal | undefined
}

/** Templates: found when they fit, built when they are missing or don't fit any more. */
export class TemplateService implements Templates, AsyncDisposable {
  readonly #options: TemplatesOptions
  readonly #store: TemplateStore
  readonly #builds = new SharedWork<StoredTemplate>()
  readonly #building = new Set<TemplateKey>()
  readonly #wanted = new Wanted()
  /** Folders of templates from which the last start has failed. */
  readonly #suspects = new Set<string>()
  #closing: VivariumError | undefined

  constructor(options: TemplatesOptions) {
    this.#options = options
    this.#store = new TemplateStore(options.settings.folder)
  }

  /**
   * The folder of the template of this shape, if it is there and fits: safe to start from. Rejects with `not_found` for a name
   * without a script, and with `conflict` where the engine can't save machines.
   */
  async find(shape: Shape): Promise<string | undefined> {
    const key = await this.#keyOf(shape)
    const stored = await this.#usable(key)
    if (stored !== undefined) await this.#store.touch(stored)
    return stored?.folder
  }

  /** The same, built first if need be. */
  async obtain(shape: Shape, signal: AbortSignal): Promise<string> {
    const { template } = await this.#obtain({ ...shape, rebuild: false }, { signal })
    await this.#store.touch(template)
    return template.folder
  }

  async build(request: TemplateRequest, options: WaitOptions = {}): Promise<Template> {
    const { template, key } = await this.#obtain(request, options)
    return this.#shown(template, key)
  }

  /** A plain template of this shape would have been of use: it is built by `buildWanted`. */
  want(shape: Shape): void {
    if (shape.name === DEFAULT_TEMPLATE) this.#wanted.add(shape)
  }

  /** A failure is logged, and not repeated until it is wanted again. */
  async buildWanted(): Promise<void> {
    const next = this.#wanted.take()
    if (next === undefined) return
    try {
      await this.build({ name: DEFAULT_TEMPLATE, ...next, rebuild: false })
    } catch (err) {
      if (this.#closing === undefined) this.#options.log.warn({ err, ...next }, 'a template could not be built')
    }
  }

  async list(): Promise<Template[]> {
    const building = [...this.#building].map(({ name, memoryMib, vcpus, memory }): Template => {
      const size = { name, memoryMib, vcpus, memory, bytes: 0 }
      return { ...size, state: 'building', reason: null, builtAt: null, lastUsedAt: null }
    })
    const stored = await Promise.all(
      (await this.#store.list()).map(async (template) => {
        const { name, memoryMib, vcpus } = template.manifest
        // Without a key where the settings name it no more, or nothing can be built here.
        return this.#shown(template, await this.#keyOf({ name, memoryMib, vcpus }).catch(() => undefined))
      }),
    )
    return [...building, ...stored]
  }

  async remove(name: string): Promise<void> {
    const found = (await this.#store.list()).filter(({ manifest }) => manifest.name === name)
    if (found.length === 0) throw new VivariumError('not_found', `There is no template ${name}.`)
    for (const { folder } of found) await this.#withdraw(folder)
  }

  /**
   * A machine could not be started from a template. It may not be to blame, e.g. where the host ran out of memory, so that it
   * is removed only when that happens again before a machine has come up from it.
   */
  async failed(folder: string, reason: string): Promise<void> {
    if ((await this.#store.read(folder)) === undefined) return // removed meanwhile: nothing to blame
    const isSecond = this.#suspects.delete(folder)
    const facts = { template: basename(folder), reason }
    this.#options.log.warn(facts, 'a machine could not be started from a template')
    if (isSecond) await this.#discard(folder, 'no machine could be started from it')
    else this.#suspects.add(folder)
  }

  /** A machine came up from a template. */
  worked(folder: string): void {
    this.#suspects.delete(folder)
  }

  /** Whether a machine that started from the template in `folder` would start from another one now. */
  async isOutdated(folder: string, shape: Shape): Promise<boolean> {
    const key = await this.#keyOf(shape)
    if (!this.#store.isOf(folder, key)) return true
    const current = await this.#usable(key)
    return current !== undefined && current.folder !== folder
  }

  /** Ends builds that are under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing = new VivariumError('shutting_down', 'The server is shutting down.')
    await this.#builds.end(this.#closing)
  }

  async #obtain({ rebuild, ...shape }: TemplateRequest, options: WaitOptions) {
    if (this.#closing !== undefined) throw this.#closing
    await this.#options.images.ensure(options.progress, options.signal)
    const key = await this.#keyOf(shape)
    const found = rebuild ? undefined : await this.#usable(key)
    const build = (progress: Progress, signal: AbortSignal) => this.#build(key, rebuild, progress, signal)
    return { key, template: found ?? (await this.#builds.join(JSON.stringify(key), options, build)) }
  }

  /** What a template of this shape has to be like, now. */
  async #keyOf({ name, memoryMib, vcpus }: Shape): Promise<TemplateKey> {
    const { images, scratchMib, exclude, settings } = this.#options
    const script = settings.warm[name]
    if (script === undefined && name !== DEFAULT_TEMPLATE) {
      const known = [DEFAULT_TEMPLATE, ...Object.keys(settings.warm)].join(', ')
      const message = `There is no template ${name}. The settings of this server (template.warm) have: ${known}.`
      throw new VivariumError('not_found', message, { field: 'template' })
    }
    const engine = await this.#options.engine()
    if (!engine.capabilities.snapshots)
      throw new VivariumError('conflict', `The engine ${engine.name} can't save machines, so there are no templates.`)
    const image = await images.find() // a list must not begin to build one, and without one no template fits
    const dependsOn = {
      ...(await dependenciesOf(engine, image, scratchMib)),
      'excluded names': digest(exclude),
      ...(image && { 'guest program': basename(image.initrd) }),
      ...(script && { 'warm-up script': digest(script) }),
    }
    return { name, memoryMib, vcpus, memory: await this.#memory(engine), dependsOn }
  }

  async #memory(engine: Engine): Promise<'mapped' | 'stream'> {
    const { memory, severalUsers } = this.#options.settings
    if (memory !== 'auto') return memory
    return (await engine.mapsReadOnly()) || !(await severalUsers()) ? 'mapped' : 'stream'
  }

  /** The stored template of a key; one that must not be used is removed, and the reason said. */
  async #usable(key: TemplateKey): Promise<StoredTemplate | undefined> {
    const stored = await this.#store.find(key)
    if (stored === undefined) return undefined
    const objection = await findObjection(stored.folder, stored.manifest, key.dependsOn)
    if (objection === undefined) return stored
    await this.#discard(stored.folder, objection)
    return undefined
  }

  async #build(key: TemplateKey, rebuild: boolean, progress: Progress, signal: AbortSignal): Promise<StoredTemplate> {
    const { settings, exclude, bake, log } = this.#options
    const { name, memoryMib, vcpus, memory } = key
    const facts = { template: name, memoryMib, vcpus, memory }
    this.#building.add(key)
    const reason = await this.#whyBuild(key)
    const folder = await this.#store.buildFolder()
    const onWait = () => progress({ step: 'waiting for another build' })
    try {
      const lock = { code: 'engine_failed', timeoutMs: WAIT_MS, onWait, signal } as const
      using _lock = await lockFile(join(settings.folder, 'build.lock'), lock)
      const byAnother = rebuild ? undefined : await this.#usable(key)
      if (byAnother !== undefined) return byAnother
      for (const { remove } of await this.#store.leftovers()) await remove()
      await this.#limit(undefined)
      requireRoom(settings.folder, memoryMib)
      log.info({ ...facts, reason }, 'building a template')
      await bake({ folder, memoryMib, vcpus, memory, warm: settings.warm[name], exclude, progress, signal })
      crashPoint('template saved')
      const { template, replaced } = await this.#store.publish(folder, key)
      crashPoint('template placed')
      replaced.forEach((before) => this.#options.onWithdrawn(before))
      log.info({ ...facts, bytes: template.bytes }, 'template built')
      await this.#limit(template.folder)
      return template
    } catch (error) {
      throw reasonOf(error, settings.folder)
    } finally {
      this.#building.delete(key)
      await this.#store.remove(folder) // where it did not become one
    }
  }

  /** Makes room on the disk. */
  async #limit(keep: string | undefined): Promise<void> {
    for (const { folder } of await this.#store.limit(this.#options.settings.maxBytes, keep)) {
      this.#suspects.delete(folder)
      const template = basename(folder)
      this.#options.log.info({ template }, 'removed a template that was not used for long (template.diskMib)')
    }
  }

  /** Removes a template that must not be used. */
  async #discard(folder: string, reason: string): Promise<void> {
    this.#options.log.warn({ template: basename(folder), reason }, 'a template was removed')
    await this.#withdraw(folder)
  }

  async #withdraw(folder: string): Promise<void> {
    this.#suspects.delete(folder)
    await this.#store.remove(folder)
    this.#options.onWithdrawn(folder)
  }

  /** Why what there is can't be used, for the log. */
  async #whyBuild(key: TemplateKey): Promise<string> {
    const others = (await this.#store.list()).filter(
      ({ manifest }) =>
        manifest.name === key.name && manifest.memoryMib === key.memoryMib && manifest.vcpus === key.vcpus,
    )
    const newest = others.toSorted((a, b) => b.manifest.builtAt.localeCompare(a.manifest.builtAt))[0]
    if (newest === undefined) return 'there is none'
    if (newest.manifest.memory !== key.memory) return `memory is to be ${key.memory}`
    return (await findObjection(newest.folder, newest.manifest, key.dependsOn)) ?? 'it was asked for'
  }

  async #shown(
    { folder, manifest, bytes, lastUsedAt }: StoredTemplate,
    key: TemplateKey | undefined,
  ): Promise<Template> {
    const { name, memoryMib, vcpus, memory, builtAt } = manifest
    const reason =
      key === undefined ? 'the settings have no such template' : await findObjection(folder, manifest, key.dependsOn)
    const state = reason === undefined ? 'ready' : 'stale'
    const used = { builtAt, lastUsedAt: lastUsedAt.toISOString() }
    return { name, memoryMib, vcpus, state, reason: reason ?? null, memory, bytes, ...used }
  }
}

function digest(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 16)
}
