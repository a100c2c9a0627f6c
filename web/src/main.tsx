import { QueryClientProvider } from '@tanstack/react-query'
import { RouterProvider } from '@tanstack/react-router'
import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { Session } from './components/Session.tsx'
import { takeKey } from './key.ts'
import { queryClient } from './queries.ts'
import { router } from './router.tsx'
import './styles.css'

const root = document.getElementById('root')
if (!root) throw new Error('index.html has no #root')

const firstKey = takeKey()

createRoot(root).render(
  <StrictMode>
    <QueryClientProvider client={queryClient}>
      <Session firstKey={firstKey}>
        <RouterProvider router={router} />
      </Session>
    </QueryClientProvider>
  </StrictMode>,
)
