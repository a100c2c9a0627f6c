/**
 * A test for excluded paths. A pattern without `/` matches a name at any depth, one with `/` the whole relative path; `*`
 * stands for any part of a name.
 */
export function excluder(patterns: string[]): (path: string, name: string) => boolean {
  const names = patterns.filter((pattern) => !pattern.includes('/')).map(toExpression)
  const paths = patterns.filter((pattern) => pattern.includes('/')).map(toExpression)
  return (path, name) => names.some((each) => each.test(name)) || paths.some((each) => each.test(path))
}

function toExpression(pattern: string): RegExp {
  const parts = pattern.replace(/^\/|\/$/g, '').split('*')
  return new RegExp(`^${parts.map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&')).join('[^/]*')}$`, 's')
}
