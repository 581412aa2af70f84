// interrupt.ts: Ctrl-C as a wish that the job can grant.

/** A signal that Ctrl-C aborts, and the end of listening for it. */
export interface Interrupt {
  signal: AbortSignal;
  release(): void;
}

// One key press can arrive twice, from the terminal and again through the package manager that started us.
const ECHO_MS = 1000;

/** The first Ctrl-C (or SIGTERM) aborts the signal; another, a second or more later, ends the process at once. */
export function stopOnInterrupt(
  emitter: Pick<NodeJS.Process, "on" | "off" | "exit"> = process,
  now: () => number = performance.now.bind(performance),
): Interrupt {
  const controller = new AbortController();
  let first: number | undefined;
  const listener = () => {
    if (first === undefined) {
      first = now();
      controller.abort();
    } else if (now() - first > ECHO_MS) {
      emitter.exit(130);
    }
  };
  for (const name of ["SIGINT", "SIGTERM"] as const) emitter.on(name, listener);
  return {
    signal: controller.signal,
    release: () => {
      for (const name of ["SIGINT", "SIGTERM"] as const) emitter.off(name, listener);
    },
  };
}
