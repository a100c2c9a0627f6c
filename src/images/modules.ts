/** What a kernel module needs loaded before it, from its `.modinfo` section (`depends=a,b`). */
export function moduleDependencies(module: Buffer): string[] {
  const at = module.indexOf('\0depends=')
  if (at < 0) return []
  const start = at + '\0depends='.length
  const names = module.toString('latin1', start, module.indexOf(0, start))
  return names.split(',').filter((name) => name !== '')
}

/** File and module names differ in `-` and `_`; the kernel takes them for the same. */
export function moduleName(name: string): string {
  return name.replaceAll('-', '_')
}

/**
 * The wanted modules with all they depend on, each after its dependencies. `load` gives a module's content, or undefined where
 * the kernel has it built in.
 */
export async function modulesInOrder(
  wanted: string[],
  load: (name: string) => Promise<Buffer | undefined>,
): Promise<{ name: string; content: Buffer }[]> {
  const ordered = new Map<string, Buffer>()
  const seen = new Set<string>()
  const visit = async (name: string): Promise<void> => {
    if (seen.has(name)) return
    seen.add(name)
    const content = await load(name)
    if (content === undefined) return
    for (const dependency of moduleDependencies(content)) await visit(moduleName(dependency))
    ordered.set(name, content)
  }
  for (const name of wanted) await visit(moduleName(name))
  return [...ordered].map(([name, content]) => ({ name, content }))
}
