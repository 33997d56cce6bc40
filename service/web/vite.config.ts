import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  plugins: [svelte()],
  base: '/page/',
  build: {
    target: 'es2022',
    assetsInlineLimit: 0, // the content security policy blocks data: URLs for scripts and styles
    modulePreload: { polyfill: false },
  },
  server: { proxy: { '/v1': 'http://127.0.0.1:8000' } },
  test: { include: ['src/**/*.test.ts'] },
});
