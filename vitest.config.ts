import { defineConfig } from "vitest/config";

export default defineConfig({
  ssr: { resolve: { conditions: ["@mc/source", "module", "node", "development|production"] } },
  resolve: { conditions: ["@mc/source", "module", "development|production"] },
  test: {
    projects: [{ extends: true, test: { name: "cpu", include: ["packages/*/src/**/*.test.ts"], env: { MC_TEST_DEVICE: "cpu" } } }],
  },
});
