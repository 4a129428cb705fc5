/** Connections to Redis for the BullMQ scheduler. */
import { Redis } from 'ioredis';
import { AppError } from '../contracts/errors.ts';

const CONNECT_TIMEOUT_MS = 5000;

/** A bad address or a server that does not answer becomes an error at once, instead of endless attempts. */
export async function checkRedis(url: string): Promise<void> {
  const remedy = 'Start Redis there, correct the address, or leave it out to use the embedded scheduler.';
  if (!/^rediss?:\/\//.test(url) || !URL.canParse(url)) {
    throw new AppError('invalid_input', `"${withoutPassword(url)}" is not the address of a Redis server`, {
      field: 'redis_url',
      remedy: 'Use redis://host:port or rediss://host:port.',
    });
  }
  const redis = new Redis(url, {
    lazyConnect: true,
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
    connectTimeout: CONNECT_TIMEOUT_MS,
  });
  let lastError: unknown;
  redis.on('error', (error) => {
    lastError = error;
  });
  try {
    await redis.connect();
    await redis.ping();
  } catch (error) {
    const cause = lastError ?? error;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new AppError('unreachable', `Redis at ${withoutPassword(url)} does not answer: ${why}`, {
      field: 'redis_url',
      remedy,
      cause,
    });
  } finally {
    redis.disconnect();
  }
}

/** BullMQ wants commands to wait for a connection that is lost, not to fail. */
export function openRedis(url: string): Redis {
  return new Redis(url, { maxRetriesPerRequest: null, enableReadyCheck: true });
}

function withoutPassword(url: string): string {
  return url.replace(/\/\/[^@/]*@/, '//***@');
}
