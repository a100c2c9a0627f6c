import type { ApiOptions, ApiServices, Gauge } from './types.ts'

/** The numbers of this process in Prometheus' text format, version 0.0.4. */
export function renderMetrics(services: Pick<ApiServices, 'tasks' | 'gauges'>, options: ApiOptions): string {
  const gauges: Gauge[] = [
    { name: 'vivarium_info', help: 'Constant 1.', value: 1, labels: { version: options.version } },
    { name: 'vivarium_tasks_active', help: 'Tasks that are not finished.', value: services.tasks.activeCount() },
    {
      name: 'process_resident_memory_bytes',
      help: 'Memory of the orchestrator itself.',
      value: process.memoryUsage.rss(),
    },
    { name: 'process_uptime_seconds', help: 'Seconds since the start.', value: Math.round(process.uptime()) },
    ...services.gauges(),
  ]
  // A series must not stand twice, and who composes the services may count what we count.
  const series = new Map(gauges.map((gauge) => [`${gauge.name}${labelText(gauge.labels ?? {})}`, gauge]))
  const byName = Map.groupBy(series.values(), (gauge) => gauge.name)
  return [...byName.values()].map(family).join('')
}

function family(gauges: Gauge[]): string {
  const [first] = gauges
  if (first === undefined) return ''
  const lines = gauges.map(({ name, value, labels = {} }) => `${name}${labelText(labels)} ${value}\n`)
  return `# HELP ${first.name} ${first.help}\n# TYPE ${first.name} gauge\n${lines.join('')}`
}

function labelText(labels: Record<string, string>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}=${JSON.stringify(value)}`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}
