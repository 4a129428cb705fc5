import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, describe, expect, onTestFinished, test } from 'vitest';
import { ERRNO } from './libc.ts';
import { openShare } from './open.ts';
import { Client, message, name, u16, u32, u64, u8 } from './testing/client.ts';
import { HEADER_BYTES, T } from './wire.ts';

const scratch: string[] = [];
afterEach(() => {
  for (const folder of scratch.splice(0)) fs.rmSync(folder, { recursive: true, force: true });
});

function folder(): string {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-share-'));
  scratch.push(made);
  return made;
}

/** A client of a share of `root`, closed at the end of the test. */
async function client(
  root: string,
  options: { readOnly?: boolean; setId?: boolean; append?: boolean } = {},
): Promise<Client> {
  const share = openShare({
    tag: 't',
    folder: root,
    readOnly: options.readOnly ?? false,
    setId: options.setId,
    append: options.append,
  });
  onTestFinished(async () => share.close());
  return new Client(share).attach();
}

const refusal = (errno: number) => expect.objectContaining({ errno });

describe('files', () => {
  test('are created, written, read, renamed and removed', async () => {
    const root = folder();
    const guest = await client(root);
    const file = await guest.create(guest.root, 'a', 0o666);
    expect(await guest.write(file, 'hello world')).toBe(11);
    expect((await guest.read(file, 6)).toString()).toBe('world');
    expect(fs.statSync(path.join(root, 'a')).mode & 0o7777).toBe(0o666);
    await guest.call(T.MKDIR, u32(guest.root), 'd', u32(0o755), u32(0));
    const inner = await guest.walk(guest.root, 'd');
    await guest.call(T.RENAMEAT, u32(guest.root), 'a', u32(inner), 'b');
    expect(fs.readFileSync(path.join(root, 'd/b'), 'utf8')).toBe('hello world');
    const renamed = await guest.walk(guest.root, 'd', 'b');
    expect((await guest.attributes(renamed)).size).toBe(11n);
    await guest.call(T.UNLINKAT, u32(inner), 'b', u32(0));
    await guest.call(T.UNLINKAT, u32(guest.root), 'd', u32(0x200));
    expect(fs.readdirSync(root)).toEqual([]);
  });

  test('go on to be what they are when they have no name any more', async () => {
    const root = folder();
    const guest = await client(root);
    const file = await guest.create(guest.root, 'a');
    await guest.write(file, 'x');
    const other = await guest.walk(guest.root, 'a');
    await guest.call(T.UNLINKAT, u32(guest.root), 'a', u32(0));
    expect((await guest.attributes(file)).links).toBe(0n);
    expect((await guest.attributes(other)).size).toBe(1n);
    await guest.clunk(file);
    await expect(guest.attributes(other)).rejects.toThrow(`errno ${ERRNO.ENOENT}`);
    await guest.create(guest.root, 'a');
    // The new file of that name is another one.
    await expect(guest.attributes(other)).rejects.toThrow(`errno ${ERRNO.ENOENT}`);
  });

  test('what is known below a folder goes with it when it is renamed', async () => {
    const root = folder();
    fs.mkdirSync(path.join(root, 'one/two/three'), { recursive: true });
    fs.writeFileSync(path.join(root, 'one/two/three/f'), 'deep');
    const guest = await client(root);
    const file = await guest.walk(guest.root, 'one', 'two', 'three', 'f');
    await guest.call(T.RENAMEAT, u32(guest.root), 'one', u32(guest.root), 'uno');
    expect((await guest.read(await guest.open(file))).toString()).toBe('deep');
    const [from, to] = [await guest.walk(guest.root, 'uno'), await guest.walk(guest.root, 'uno', 'two')];
    await expect(guest.call(T.RENAME, u32(from), u32(to), 'x')).rejects.toEqual(refusal(ERRNO.EINVAL));
  });

  test('may have names of any bytes', async () => {
    const root = folder();
    const guest = await client(root);
    const odd = Buffer.from([0xff, 0x0a, 0x80, 0x20, 0x5c, 0xc3]);
    await guest.write(await guest.create(guest.root, odd), '1');
    expect(fs.readdirSync(root, { encoding: 'buffer' })).toEqual([odd]);
    const top = await guest.open(await guest.walk(guest.root));
    const names = (await guest.entries(top, 0n, 4096)).map((entry) => entry.name);
    expect(names.filter((one) => one[0] !== 0x2e)).toEqual([odd]);
    expect((await guest.read(await guest.open(await guest.walk(guest.root, odd)))).toString()).toBe('1');
  });

  test('are locked against the host and other guests', async () => {
    const root = folder();
    fs.writeFileSync(path.join(root, 'f'), '0123456789');
    const [one, two] = [await client(root), await client(root)];
    const lock = async (guest: Client, fid: number, kind: number, start: number, length: number) =>
      (await guest.call(T.LOCK, u32(fid), u8(kind), u32(0), u64(start), u64(length), u32(1), 'guest')).u8();
    const [a, b] = [await one.open(await one.walk(0, 'f'), 2), await two.open(await two.walk(0, 'f'), 2)];
    expect(await lock(one, a, 1, 0, 5)).toBe(0);
    expect(await lock(two, b, 0, 4, 1)).toBe(1);
    expect(await lock(two, b, 1, 5, 0)).toBe(0);
    const found = await two.call(T.GETLOCK, u32(b), u8(1), u64(0), u64(0), u32(7), 'me');
    expect([found.u8(), found.u64(), found.u64()]).toEqual([1, 0n, 5n]);
    await one.clunk(a);
    expect(await lock(two, b, 1, 0, 0)).toBe(0);
  });

  test('a set-user-id bit reaches the host only where that is wanted', async () => {
    const root = folder();
    const careful = await client(root);
    await careful.create(careful.root, 'a', 0o4755);
    const trusting = await client(root, { setId: true });
    await trusting.create(trusting.root, 'b', 0o4755);
    expect(['a', 'b'].map((one) => fs.statSync(path.join(root, one)).mode & 0o7777)).toEqual([0o755, 0o4755]);
  });

  test('have attributes of users, and no others', async () => {
    const root = folder();
    const guest = await client(root);
    const file = await guest.create(guest.root, 'a');
    const writer = await guest.walk(guest.root, 'a');
    await guest.call(T.XATTRCREATE, u32(writer), 'user.colour', u64(4), u32(0));
    await guest.write(writer, 'blue');
    await guest.clunk(writer);
    const size = (await guest.call(T.XATTRWALK, u32(file), u32(90), 'user.colour')).u64();
    expect([size, (await guest.read(90)).toString()]).toEqual([4n, 'blue']);
    await guest.call(T.XATTRWALK, u32(file), u32(91), '');
    expect((await guest.read(91)).toString()).toContain('user.colour\0');
    const foreign = await guest.walk(guest.root, 'a');
    const set = guest.call(T.XATTRCREATE, u32(foreign), 'security.capability', u64(4), u32(0));
    await expect(set).rejects.toEqual(refusal(ERRNO.EOPNOTSUPP));
  });
});

test('a folder of 20,000 files is listed once each, also from the middle', async () => {
  const root = folder();
  for (let i = 0; i < 20_000; i++) fs.closeSync(fs.openSync(path.join(root, `file-${i}`), 'w'));
  const guest = await client(root);
  const top = await guest.open(await guest.walk(guest.root));
  const seen: string[] = [];
  let [offset, middle] = [0n, 0n];
  for (let page = await guest.entries(top, offset, 7000); page.length > 0; ) {
    for (const entry of page) seen.push(entry.name.toString());
    offset = page.at(-1)!.offset;
    if (middle === 0n && seen.length > 10_000) middle = offset;
    page = await guest.entries(top, offset, 7000);
  }
  expect(new Set(seen).size).toBe(seen.length);
  expect(seen.length).toBe(20_002);
  const again = await guest.entries(top, middle, 7000);
  const at = seen.indexOf(again[0]!.name.toString());
  expect(seen.slice(at, at + again.length)).toEqual(again.map((entry) => entry.name.toString()));
});

test('a share for appending has every write at the end', async () => {
  const root = folder();
  fs.writeFileSync(path.join(root, 'f'), 'abc');
  const guest = await client(root, { append: true });
  const file = await guest.open(await guest.walk(guest.root, 'f'), 1);
  await guest.write(file, 'X', 0);
  const fresh = await guest.create(guest.root, 'g');
  await guest.write(fresh, '1', 0);
  await guest.write(fresh, '2', 0);
  expect(['f', 'g'].map((one) => fs.readFileSync(path.join(root, one), 'utf8'))).toEqual(['abcX', '12']);
});

test('a read-only share is not written to', async () => {
  const root = folder();
  fs.writeFileSync(path.join(root, 'f'), 'kept');
  const guest = await client(root, { readOnly: true });
  const file = await guest.walk(guest.root, 'f');
  const fresh = await guest.walk(guest.root);
  const attempts = [
    guest.call(T.LOPEN, u32(file), u32(1)),
    guest.call(T.LOPEN, u32(file), u32(0o1000)),
    guest.call(T.LCREATE, u32(fresh), 'x', u32(2), u32(0o644), u32(0)),
    guest.call(T.MKDIR, u32(guest.root), 'x', u32(0o755), u32(0)),
    guest.call(T.SYMLINK, u32(guest.root), 'x', 'f', u32(0)),
    guest.call(T.MKNOD, u32(guest.root), 'x', u32(0o10644), u32(0), u32(0), u32(0)),
    guest.call(T.LINK, u32(guest.root), u32(file), 'x'),
    guest.call(T.RENAMEAT, u32(guest.root), 'f', u32(guest.root), 'x'),
    guest.call(T.UNLINKAT, u32(guest.root), 'f', u32(0)),
    guest.call(T.SETATTR, u32(file), u32(1), u32(0), u32(0), u32(0), u64(0), u64(0), u64(0), u64(0), u64(0)),
    guest.call(T.XATTRCREATE, u32(file), 'user.x', u64(1), u32(0)),
  ];
  for (const attempt of attempts) await expect(attempt).rejects.toEqual(refusal(ERRNO.EROFS));
  expect((await guest.read(await guest.open(file))).toString()).toBe('kept');
  expect(fs.readdirSync(root)).toEqual(['f']);
});

describe('the share is not left', () => {
  /** A share beside a secret. */
  async function beside() {
    const top = folder();
    const root = path.join(top, 'share');
    fs.mkdirSync(root);
    fs.writeFileSync(path.join(top, 'secret'), 'secret');
    return { top, root, guest: await client(root) };
  }

  test('by ..', async () => {
    const { guest, root } = await beside();
    await expect(guest.walk(guest.root, '..', 'secret')).rejects.toThrow();
    fs.mkdirSync(path.join(root, 'd'));
    await expect(guest.walk(guest.root, 'd', '..', '..', 'secret')).rejects.toThrow();
    // The parent of the share's folder is itself.
    const up = await guest.open(await guest.walk(guest.root, '..'));
    const names = (await guest.entries(up, 0n, 4096)).map((entry) => entry.name.toString());
    expect(names.sort()).toEqual(['.', '..', 'd']);
    for (const bad of ['../secret', 'a/b', '', 'a\0b']) {
      await expect(guest.walk(guest.root, bad)).rejects.toEqual(refusal(ERRNO.EINVAL));
    }
    for (const bad of ['.', '..', '../x']) {
      const made = guest.call(T.MKDIR, u32(guest.root), bad, u32(0o755), u32(0));
      await expect(made).rejects.toEqual(refusal(ERRNO.EINVAL));
      const moved = guest.call(T.RENAMEAT, u32(guest.root), 'd', u32(guest.root), bad);
      await expect(moved).rejects.toEqual(refusal(ERRNO.EINVAL));
    }
  });

  test('by a symbolic link, wherever it stands', async () => {
    const { guest, root, top } = await beside();
    await guest.call(T.SYMLINK, u32(guest.root), 'file', '../secret', u32(0));
    await guest.call(T.SYMLINK, u32(guest.root), 'folder', top, u32(0));
    const link = await guest.walk(guest.root, 'file');
    expect(Buffer.from((await guest.call(T.READLINK, u32(link))).string()).toString()).toBe('../secret');
    await expect(guest.open(link)).rejects.toThrow('errno');
    await expect(guest.walk(guest.root, 'folder', 'secret')).rejects.toThrow();
    const fresh = await guest.walk(guest.root);
    // Neither opened nor truncated nor made where it points.
    for (const flags of [0o1002, 0o1102, 0o302]) {
      const made = guest.call(T.LCREATE, u32(fresh), 'file', u32(flags), u32(0o644), u32(0));
      await expect(made).rejects.toThrow('errno');
    }
    const set = [u32(1 | 8), u32(0o777), u32(0), u32(0), u64(0), u64(0), u64(0), u64(0), u64(0)];
    await expect(guest.call(T.SETATTR, u32(link), ...set)).rejects.toThrow('errno');
    const before = fs.statSync(path.join(top, 'secret'));
    await guest.call(T.SETATTR, u32(link), u32(2), ...set.slice(1));
    expect(fs.statSync(path.join(top, 'secret'))).toEqual(before);
    // A hard link to a symbolic link is one to the link itself.
    await guest.call(T.LINK, u32(guest.root), u32(link), 'hard');
    expect(fs.readlinkSync(path.join(root, 'hard'))).toBe('../secret');
    expect(fs.readFileSync(path.join(top, 'secret'), 'utf8')).toBe('secret');
  });

  test('by a folder that becomes a symbolic link after it was walked to', async () => {
    const { guest, root, top } = await beside();
    fs.mkdirSync(path.join(root, 'd/inner'), { recursive: true });
    const inner = await guest.walk(guest.root, 'd', 'inner');
    const outer = await guest.walk(guest.root, 'd');
    fs.renameSync(path.join(root, 'd'), path.join(root, 'e'));
    fs.symlinkSync(top, path.join(root, 'd'));
    await expect(guest.walk(guest.root, 'd', 'secret')).rejects.toThrow();
    for (const fid of [inner, outer]) await expect(guest.walk(fid, 'secret')).rejects.toThrow();
    for (const fid of [inner, outer]) {
      const made = await guest.walk(fid).catch(() => undefined);
      if (made !== undefined) {
        await guest.call(T.LCREATE, u32(made), 'mine', u32(2), u32(0o644), u32(0)).catch(() => undefined);
      }
    }
    expect(fs.readdirSync(top).sort()).toEqual(['secret', 'share']);
  });

  test('by renames in flight', async () => {
    const { guest, root, top } = await beside();
    fs.mkdirSync(path.join(root, 'd'));
    fs.writeFileSync(path.join(root, 'd/secret'), 'inside');
    fs.symlinkSync(top, path.join(root, 'link'));
    let found = 0;
    for (let i = 0; i < 2000; i++) {
      // Between any two requests of a guest the host's file system may be another.
      const swap = i % 2 === 0 ? ['d', 'x', 'link', 'd', 'x', 'link'] : ['link', 'x', 'd', 'link', 'x', 'd'];
      const fid = i % 3 === 0 ? await guest.walk(guest.root, 'd').catch(() => undefined) : undefined;
      for (let k = 0; k < 6; k += 2) fs.renameSync(path.join(root, swap[k]!), path.join(root, swap[k + 1]!));
      try {
        const file =
          fid === undefined ? await guest.walk(guest.root, 'd', 'secret') : await guest.walk(fid, 'secret');
        expect((await guest.read(await guest.open(file))).toString()).toBe('inside');
        await guest.clunk(file);
        found++;
      } catch (error) {
        expect(error).toEqual(expect.objectContaining({ errno: expect.any(Number) }));
      }
      if (fid !== undefined) await guest.clunk(fid);
    }
    expect(found).toBeGreaterThan(0);
  });

  test('by a folder that is moved out of it', async () => {
    const { guest, root, top } = await beside();
    fs.mkdirSync(path.join(root, 'd/inner'), { recursive: true });
    const inner = await guest.walk(guest.root, 'd', 'inner');
    fs.renameSync(path.join(root, 'd'), path.join(top, 'd'));
    await expect(guest.walk(inner, '..')).rejects.toEqual(refusal(ERRNO.EACCES));
    await expect(guest.walk(inner, '..', '..', 'secret')).rejects.toThrow();
  });

  test('by hard links', async () => {
    const { guest, root, top } = await beside();
    const secret = path.join(top, 'secret');
    await guest.call(T.SYMLINK, u32(guest.root), 'link', '../secret', u32(0));
    const link = await guest.walk(guest.root, 'link');
    await guest.call(T.LINK, u32(guest.root), u32(link), 'hard');
    // A link to the link, which leads nowhere here.
    expect(fs.readlinkSync(path.join(root, 'hard'))).toBe('../secret');
    const hard = await guest.walk(guest.root, 'hard');
    await expect(guest.call(T.LOPEN, u32(hard), u32(0))).rejects.toThrow();
    fs.writeFileSync(path.join(root, 'file'), 'file');
    const file = await guest.walk(guest.root, 'file');
    for (const bad of ['../out', '..', '.', '']) {
      await expect(guest.call(T.LINK, u32(guest.root), u32(file), bad)).rejects.toThrow();
    }
    // What has become a link to the secret since it was walked to is linked as that.
    fs.rmSync(path.join(root, 'file'));
    fs.symlinkSync('../secret', path.join(root, 'file'));
    await guest.call(T.LINK, u32(guest.root), u32(file), 'late').catch(() => undefined);
    expect(fs.statSync(secret).nlink).toBe(1);
    expect(fs.readdirSync(top).sort()).toEqual(['secret', 'share']);
  });

  test('by device nodes, and a pipe holds nobody up', async () => {
    const { guest, root } = await beside();
    for (const kind of [0o020000, 0o060000]) {
      const made = guest.call(T.MKNOD, u32(guest.root), 'n', u32(kind | 0o666), u32(8), u32(0), u32(0));
      await expect(made).rejects.toEqual(refusal(ERRNO.EPERM));
    }
    await guest.call(T.MKNOD, u32(guest.root), 'pipe', u32(0o010644), u32(0), u32(0), u32(0));
    expect(fs.statSync(path.join(root, 'pipe')).isFIFO()).toBe(true);
    const pipe = await guest.walk(guest.root, 'pipe');
    await expect(guest.open(pipe)).rejects.toEqual(refusal(ERRNO.EOPNOTSUPP));
  });
});

describe('a hostile client', () => {
  test('gets an error for what is malformed, and the next one is served', async () => {
    const guest = await client(folder());
    const types = [...Object.values(T), 0, 1, 99, 255];
    for (const type of types) {
      if (type === T.VERSION) continue;
      for (let length = 0; length < 40; length++) {
        const junk = message(type, 5, [new Uint8Array(length).fill(length * 37)]);
        const reply = await guest.raw(junk);
        expect(reply.readUInt32LE(0)).toBe(reply.length);
      }
    }
    const short = await guest.raw(new Uint8Array(3));
    expect(short[4]).toBe(T.LERROR + 1);
    const lying = message(T.STATFS, 1, [u32(0)]);
    new DataView(lying.buffer, lying.byteOffset).setUint32(0, 0xffff_ffff, true);
    expect((await guest.raw(lying)).readUInt32LE(HEADER_BYTES)).toBe(ERRNO.EMSGSIZE);
    await guest.call(T.STATFS, u32(guest.root));
  });

  test('gets no more than there is room for', async () => {
    const root = folder();
    fs.writeFileSync(path.join(root, 'f'), 'x'.repeat(100_000));
    const guest = await client(root);
    const file = await guest.open(await guest.walk(guest.root, 'f'));
    const reply = await guest.raw(message(T.READ, 1, [u32(file), u64(0), u32(0xffff_ffff)]), 1000);
    expect(reply.length).toBe(1000);
    const late = await guest.raw(message(T.READ, 1, [u32(file), u64(2n ** 64n - 1n), u32(10)]));
    expect(late.readUInt32LE(HEADER_BYTES)).toBe(ERRNO.EINVAL);
    const huge = await guest.raw(message(T.WRITE, 1, [u32(file), u64(0), u32(0xffff_ffff), u32(1)]));
    expect(huge.readUInt32LE(HEADER_BYTES)).toBe(ERRNO.EPROTO);
    const tiny = await guest.raw(message(T.GETATTR, 1, [u32(file), u64(0x7ff)]), 11);
    expect(tiny.readUInt32LE(HEADER_BYTES)).toBe(ERRNO.EMSGSIZE);
  });

  test('cannot take all of the daemon’s descriptors', async () => {
    const root = folder();
    fs.writeFileSync(path.join(root, 'f'), '');
    const guest = await client(root);
    const before = fs.readdirSync('/proc/self/fd').length;
    let opened = 0;
    let last: unknown;
    while (last === undefined && opened < 10_000) {
      const fid = await guest.walk(guest.root, 'f');
      await guest.open(fid).then(
        () => opened++,
        (error: unknown) => {
          last = error;
        },
      );
    }
    expect(last).toEqual(refusal(ERRNO.EMFILE));
    await guest.attach();
    expect(fs.readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(before + 1);
    for (let i = 0; i < 600; i++) fs.mkdirSync(path.join(root, `d${i}/e`), { recursive: true });
    for (let i = 0; i < 600; i++) await guest.walk(guest.root, `d${i}`, 'e');
    for (let i = 0; i < 600; i++) await guest.walk(guest.root, `d${i}`, 'e');
    expect(fs.readdirSync('/proc/self/fd').length).toBeLessThan(before + 300);
  });

  test('may use a fid only for what it is', async () => {
    const guest = await client(folder());
    await expect(guest.read(77)).rejects.toEqual(refusal(ERRNO.EBADF));
    await expect(guest.read(guest.root)).rejects.toEqual(refusal(ERRNO.EBADF));
    const walk = guest.call(
      T.WALK,
      u32(guest.root),
      u32(guest.root + 0),
      u16(17),
      ...Array(17).fill(name(Buffer.from('a'))),
    );
    await expect(walk).rejects.toEqual(refusal(ERRNO.EINVAL));
    const file = await guest.create(guest.root, 'f');
    await expect(guest.open(file)).rejects.toEqual(refusal(ERRNO.EBADF));
  });
});

test('a flush is answered after what it names', async () => {
  const guest = await client(folder());
  const file = await guest.create(guest.root, 'f');
  await guest.write(file, 'x');
  const order: string[] = [];
  const sync = guest.raw(message(T.FSYNC, 9, [u32(file), u32(0)])).then(() => order.push('sync'));
  const flush = guest.raw(message(T.FLUSH, 10, [u16(9)])).then(() => order.push('flush'));
  await Promise.all([sync, flush]);
  expect(order).toEqual(['sync', 'flush']);
});

test('a folder whose path leads through a symbolic link is not shared', () => {
  const top = folder();
  fs.mkdirSync(path.join(top, 'real/inner'), { recursive: true });
  fs.symlinkSync('real', path.join(top, 'link'));
  for (const one of ['link', 'link/inner']) {
    expect(() => openShare({ tag: 't', folder: path.join(top, one), readOnly: true })).toThrow();
  }
  void openShare({ tag: 't', folder: path.join(top, 'real/inner'), readOnly: true }).close();
});

test('closing it twice closes nothing of others', async () => {
  const share = openShare({ tag: 't', folder: folder(), readOnly: false });
  const first = share.close();
  await first;
  // They have the numbers that have become free.
  const others = Array.from({ length: 8 }, () => fs.openSync('/dev/null', 'r'));
  onTestFinished(() => {
    for (const fd of others) fs.closeSync(fd);
  });
  await share.close();
  for (const fd of others) expect(fs.fstatSync(fd).isCharacterDevice()).toBe(true);
});

test('a folder that is not there is told', () => {
  expect(() => openShare({ tag: 'src', folder: '/nowhere/at/all', readOnly: true })).toThrow(
    expect.objectContaining({ code: 'not_found', field: 'shares.src.path' }),
  );
});

describe('what comes to be mounted in a share that is served', () => {
  /** Mounted as root; put back at the end. */
  function mount(type: string, at: string): () => void {
    execFileSync('mount', ['-t', type, 'none', at]);
    const unmount = (): void => void execFileSync('umount', ['-l', at]);
    onTestFinished(() => {
      if (fs.readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${at} `)) unmount();
    });
    return unmount;
  }

  test.skipIf(process.getuid?.() !== 0)('is not gone into where its calls may take forever', async () => {
    const root = folder();
    for (const made of ['a', 'a/far', 'near']) fs.mkdirSync(path.join(root, made));
    fs.writeFileSync(path.join(root, 'a/far/below'), '');
    const guest = await client(root);
    const known = await guest.walk(guest.root, 'a', 'far');
    const file = await guest.walk(guest.root, 'a', 'far', 'below');
    // No type of disks or memory, as those of other hosts and programs.
    const unmount = mount('proc', path.join(root, 'a/far'));
    const unmountNear = mount('tmpfs', path.join(root, 'near'));
    const above = await guest.walk(guest.root, 'a');
    await expect(guest.walk(above, 'far')).rejects.toEqual(refusal(ERRNO.EREMOTE));
    await expect(guest.walk(above, 'far', 'self')).rejects.toEqual(refusal(ERRNO.EREMOTE));
    await expect(guest.attributes(known)).rejects.toEqual(refusal(ERRNO.EREMOTE));
    await expect(guest.create(above, 'far')).rejects.toEqual(refusal(ERRNO.EREMOTE));
    // What is beside it, what was known below it, and file systems that answer are as ever.
    await guest.create(above, 'beside');
    expect((await guest.attributes(file)).size).toBe(0n);
    const near = await guest.walk(guest.root, 'near');
    await guest.create(near, 'within');
    unmountNear();
    unmount();
    expect((await guest.attributes(await guest.walk(guest.root, 'a', 'far', 'below'))).size).toBe(0n);
    expect((await guest.attributes(known)).links).toBeGreaterThan(0n);
  });
});
