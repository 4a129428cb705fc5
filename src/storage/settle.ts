/** Waits for all of them, even when one fails, because they still hold files and memory. Then throws the first failure. */
export async function allSettled(pending: readonly Promise<unknown>[]): Promise<void> {
  const results = await Promise.allSettled(pending);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}
