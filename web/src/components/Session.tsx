import { useMutation, useQuery } from '@tanstack/react-query'
import { type ReactNode, useEffect, useRef } from 'react'
import { api } from '../api.ts'
import { takeKey } from '../key.ts'
import { LoginPage } from '../pages/LoginPage.tsx'
import { meQuery, queryClient } from '../queries.ts'
import { Button } from './Button.tsx'
import { ErrorNote } from './Notes.tsx'

/**
 * Shows the app to whoever is logged in and the login page to everyone else, at the same address. `firstKey` came with
 * that address and is tried when nobody is logged in yet.
 */
export function Session({ firstKey, children }: { firstKey: string | undefined; children: ReactNode }) {
  const me = useQuery(meQuery)
  const login = useMutation({
    mutationFn: api.login,
    onSuccess: () => queryClient.invalidateQueries(),
  })
  const given = useRef(firstKey)
  const { mutate } = login
  const nobody = me.data === null

  useEffect(() => {
    if (!nobody || given.current === undefined) return
    mutate(given.current)
    given.current = undefined
  }, [nobody, mutate])

  useEffect(() => {
    // The command line opens `#key=…` also in a tab that is already here.
    const onHash = () => {
      const key = takeKey()
      if (key !== undefined) mutate(key)
    }
    window.addEventListener('hashchange', onHash)
    return () => window.removeEventListener('hashchange', onHash)
  }, [mutate])

  if (me.data) return children
  if (me.isPending) return null
  if (me.isError)
    return (
      <div className="mx-auto flex max-w-md flex-col items-center gap-4 px-4 pt-40">
        <ErrorNote error={me.error} className="w-full" />
        <Button onClick={() => void me.refetch()}>Try again</Button>
      </div>
    )
  return <LoginPage onKey={mutate} busy={login.isPending} error={login.error} />
}
