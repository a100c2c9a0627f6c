import { createHash } from 'node:crypto'
import { basename, join } from 'node:path'
import { VivariumError } from '../../contracts/errors.ts'
import { DEFAULT_TEMPLATE, type Template, type TemplateRequest } from '../../contracts/template.ts'
import { lockFile } from '../../files/lock.ts'
import type { GuestImage, Images, Progress } from '../../images/types.ts'
import type { Logger } from '../../telemetry/types.ts'
import type { Engine, Templates } from '../types.ts'
import type { BakeOptions } from './warm-up.ts'
import { findObjection } from './manifest.ts'
import { TemplateStore, type StoredTemplate, type TemplateKey } from './store.ts'

/** A build takes a boot and the user's script; whoever waits longer than this for another one's build gives up. */
const WAIT_MS = 60 * 60_000

/** What is run once in a named template. */
export interface WarmScript {
  script: string
  /** Hosts that it may reach besides those of the settings. */
  allow: readonly string[]
  timeoutSeconds: number
}

export interface TemplatesOptions {
  /** Holds the templates; may be shared by several orchestrators. */
  folder: string
  /** What all of them may take on the disk. */
  maxBytes: number
  memory: 'auto' | 'mapped' | 'stream'
  /** Whether there are users who may not trust each other. */
  severalUsers: () => Promise<boolean>
  warm: Readonly<Record<string, WarmScript>>
  scratchMib: number
  images: Images
  engine: () => Promise<Engine>
  /** Boots a machine and leaves it saved in the folder named. */
  bake: (options: BakeOptions) => Promise<void>
  log: Logger
}

type Shape = Pick<TemplateRequest, 'name' | 'memoryMib' | 'vcpus'>

/** Templates: found when they fit, built when they are missing or don't fit any more. */
export class TemplateService implements Templates, Disposable {
  readonly #options: TemplatesOptions
  readonly #store: TemplateStore
  /** Builds under way in this process, by place. */
  readonly #building = new Map<string, { shape: Shape; memory: 'mapped' | 'stream'; built: Promise<StoredTemplate> }>()

  /** Shapes that machines were booted in for want of a template. */
  readonly #wanted = new Map<string, Shape>()
  readonly #closing = new AbortController()

  constructor(options: TemplatesOptions) {
    this.#options = options
    this.#store = new TemplateStore(options.folder)
  }

  /** A template of this shape would have been of use: it is built by `buildWanted`. */
  want(shape: Shape): void {
    this.#wanted.set(JSON.stringify(shape), shape)
  }

  /** Builds one of the templates that were wanted, if any; called when there is nothing better to do. A failure is logged, and not repeated until it is wanted again. */
  async buildWanted(): Promise<void> {
    const [next] = this.#wanted
    if (next === undefined) return
    const [key, shape] = next
    this.#wanted.delete(key)
    try {
      await this.build({ ...shape, rebuild: false })
    } catch (err) {
      if (!this.#closing.signal.aborted) this.#options.log.warn({ err, ...shape }, 'a template could not be built')
    }
  }

  /** Ends builds that are under way. */
  [Symbol.dispose](): void {
    this.#closing.abort(new VivariumError('shutting_down', 'The server is shutting down.'))
  }

  /** The template of this shape if it is there and fits; its folder is safe to start from. Rejects with `not_found` for a name without a script. */
  async find(shape: Shape): Promise<string | undefined> {
    const { key } = await this.#plan(shape)
    const stored = await this.#usable(key)
    if (stored === undefined) return undefined
    await this.#store.touch(stored)
    return stored.folder
  }

  async build(
    { rebuild, ...shape }: TemplateRequest,
    options: { progress?: Progress; signal?: AbortSignal } = {},
  ): Promise<Template> {
    const { key, image } = await this.#plan(shape)
    const found = rebuild ? undefined : await this.#usable(key)
    return this.#shown(found ?? (await this.#buildOnce(key, image, rebuild, options)), key)
  }

  async list(): Promise<Template[]> {
    const building = [...this.#building.values()].map(({ shape, memory }): Template => ({
      ...shape,
      state: 'building',
      reason: null,
      memory,
      bytes: 0,
      builtAt: null,
      lastUsedAt: null,
    }))
    const stored = await Promise.all(
      (await this.#store.list()).map(async (template) => {
        const { name, memoryMib, vcpus } = template.manifest
        const key = await this.#plan({ name, memoryMib, vcpus }).then(
          (plan) => plan.key,
          () => undefined, // the settings name it no more, or nothing can be built here
        )
        return this.#shown(template, key)
      }),
    )
    return [...building, ...stored]
  }

  async remove(name: string): Promise<void> {
    const found = (await this.#store.list()).filter(({ manifest }) => manifest.name === name)
    if (found.length === 0) throw new VivariumError('not_found', `There is no template ${name}.`)
    for (const { folder } of found) await this.#store.remove(folder)
  }

  /** Removes a template that turned out to be of no use. */
  async discard(folder: string, reason: string): Promise<void> {
    this.#options.log.warn({ template: basename(folder), reason }, 'a template was removed')
    await this.#store.remove(folder)
  }

  /** What a template of this shape has to be like, now. */
  async #plan({ name, memoryMib, vcpus }: Shape): Promise<{ key: TemplateKey; image: GuestImage }> {
    const { images, scratchMib, warm } = this.#options
    const script = warm[name]
    if (script === undefined && name !== DEFAULT_TEMPLATE) {
      const known = [DEFAULT_TEMPLATE, ...Object.keys(warm)].join(', ')
      const message = `There is no template ${name}. The settings of this server (template.warm) have: ${known}.`
      throw new VivariumError('not_found', message, { field: 'template' })
    }
    const engine = await this.#options.engine()
    if (!engine.capabilities.snapshots)
      throw new VivariumError('conflict', `The engine ${engine.name} can't save machines, so there are no templates.`)
    const image = await images.ensure()
    const dependsOn = {
      ...(await engine.compatibility()),
      'guest image': image.manifest.key,
      'guest program': basename(image.initrd),
      'scratch disk': `${scratchMib} MiB`,
      ...(script && { 'warm-up script': digest(script) }),
    }
    return { key: { name, memoryMib, vcpus, memory: await this.#memory(engine), dependsOn }, image }
  }

  async #memory(engine: Engine): Promise<'mapped' | 'stream'> {
    const { memory, severalUsers } = this.#options
    if (memory !== 'auto') return memory
    return (await engine.mapsReadOnly()) || !(await severalUsers()) ? 'mapped' : 'stream'
  }

  /** The stored template of a key; one that must not be used is removed, and the reason said. */
  async #usable(key: TemplateKey): Promise<StoredTemplate | undefined> {
    const stored = await this.#store.read(this.#store.place(key))
    if (stored === undefined) return undefined
    const objection = await findObjection(stored.folder, stored.manifest, key.dependsOn)
    if (objection === undefined) return stored
    await this.discard(stored.folder, objection)
    return undefined
  }

  #buildOnce(
    key: TemplateKey,
    image: GuestImage,
    rebuild: boolean,
    options: { progress?: Progress; signal?: AbortSignal },
  ): Promise<StoredTemplate> {
    const place = this.#store.place(key)
    const underWay = this.#building.get(place)
    if (underWay !== undefined) return underWay.built
    const built = this.#build(key, image, rebuild, options).finally(() => this.#building.delete(place))
    const { name, memoryMib, vcpus, memory } = key
    this.#building.set(place, { shape: { name, memoryMib, vcpus }, memory, built })
    return built
  }

  async #build(
    key: TemplateKey,
    image: GuestImage,
    rebuild: boolean,
    { progress = () => {}, signal: given }: { progress?: Progress; signal?: AbortSignal },
  ): Promise<StoredTemplate> {
    const signal = given === undefined ? this.#closing.signal : AbortSignal.any([given, this.#closing.signal])
    const { folder, bake, log, warm, maxBytes } = this.#options
    const built = await this.#store.buildFolder()
    const reason = await this.#whyBuild(key)
    const onWait = () => progress({ step: 'waiting for another build' })
    const lock = { code: 'engine_failed', timeoutMs: WAIT_MS, onWait, signal } as const
    using _lock = await lockFile(join(folder, 'build.lock'), lock)
    const byAnother = rebuild ? undefined : await this.#usable(key)
    if (byAnother !== undefined) return byAnother
    await this.#store.sweep(maxBytes, undefined)
    const { name, memoryMib, vcpus, memory } = key
    const facts = { template: name, memoryMib, vcpus, memory }
    log.info({ ...facts, reason }, 'building a template')
    try {
      await bake({ folder: built, memoryMib, vcpus, memory, image, warm: warm[name], progress, signal })
      const stored = await this.#store.publish(built, key)
      log.info({ ...facts, bytes: stored.bytes }, 'template built')
      return stored
    } finally {
      for (const { manifest } of await this.#store.sweep(maxBytes, this.#store.place(key)))
        log.info({ template: manifest.name }, 'removed a template that was not used for long (template.diskMib)')
    }
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
