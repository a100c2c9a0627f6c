import tailwindcss from '@tailwindcss/vite'
import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

/**
 * The dashboard. `scripts/build-assets.ts` builds it into the program's assets and says where. For work on it, run
 * `vivarium serve` and `vite web`: the development server passes API calls on to the server at VIVARIUM_URL.
 */
const server = process.env['VIVARIUM_URL'] ?? 'http://127.0.0.1:8080'

export default defineConfig({
  plugins: [react(), tailwindcss()],
  server: { proxy: { '/api': { target: server, ws: true, changeOrigin: true } } },
  build: { target: 'es2023', assetsInlineLimit: 0, reportCompressedSize: false },
})
