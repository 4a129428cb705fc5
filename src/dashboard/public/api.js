/** The daemon's HTTP API for this page. */

const TOKEN_KEY = 'umlaut-token';

export const token = {
  get: () => sessionStorage.getItem(TOKEN_KEY),
  set: (value) => sessionStorage.setItem(TOKEN_KEY, value),
  clear: () => sessionStorage.removeItem(TOKEN_KEY),
};

/** What the daemon answered instead of what was asked for (RFC 9457). */
export class Problem extends Error {
  constructor(status, body) {
    const remedy = body?.remedy === undefined ? '' : ` ${body.remedy}`;
    super(`${body?.detail ?? body?.title ?? `The daemon answered with status ${status}.`}${remedy}`);
    this.status = status;
    this.code = body?.code;
  }
}

export async function call(method, path, body) {
  const headers = { authorization: `Bearer ${token.get()}` };
  if (body !== undefined) headers['content-type'] = 'application/json';
  const response = await fetch(path, {
    method,
    headers,
    cache: 'no-store',
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  const answer = await response.json().catch(() => undefined);
  if (!response.ok) throw new Problem(response.status, answer);
  return answer;
}

/** An answer that is no JSON. */
export async function text(path) {
  const headers = { authorization: `Bearer ${token.get()}` };
  const response = await fetch(path, { headers, cache: 'no-store' });
  if (!response.ok) throw new Problem(response.status, await response.json().catch(() => undefined));
  return await response.text();
}

/** All pages of a list. */
export async function list(path) {
  const items = [];
  let cursor = null;
  do {
    const address = new URL(path, location.href);
    if (cursor !== null) address.searchParams.set('cursor', cursor);
    const page = await call('GET', address.pathname + address.search);
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor !== null);
  return items;
}

/** A WebSocket to a path that carries a ticket. */
export function openSocket(path, parameters = {}) {
  const address = new URL(path, location.href);
  address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== undefined) address.searchParams.set(key, value);
  }
  const socket = new WebSocket(address);
  socket.binaryType = 'arraybuffer';
  return socket;
}

export const segment = encodeURIComponent;
