// env.ts: settings that the test runner hands to tests, in Node through the process, in the browser through the module.

/** The value of an environment variable, or undefined where it is absent or empty. */
export function env(name: string): string | undefined {
  const module = (import.meta as { env?: Record<string, string | undefined> }).env;
  return globalThis.process?.env?.[name] || module?.[name] || undefined;
}
