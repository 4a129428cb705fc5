import { describe, expect, it } from 'vitest';
import { parseCommandLine } from './command-line.ts';

const parse = (text: string) => parseCommandLine(text.split(' '));

describe('the command line of UML', () => {
  it('is read, and what it does not know goes to the guest', () => {
    const parsed = parse(
      'ubd0=root_cow,root_fs umid=debian mem=128M uml_dir=/tmp/uml con0=fd:0,fd:1 ssl0=null,fd:2 root=/dev/ubda rw init=/bin/sh mconsole=notify:/tmp/n initrd=ir noreboot single',
    );
    expect([...parsed.ubds]).toEqual([
      [
        0,
        {
          file: 'root_cow',
          backing: 'root_fs',
          serial: undefined,
          plain: false,
          readOnly: false,
          synchronous: false,
          noDiscard: false,
          unlocked: false,
        },
      ],
    ]);
    expect(parsed).toMatchObject({
      memoryBytes: 128 << 20,
      umid: 'debian',
      umlDir: '/tmp/uml',
      notifyPath: '/tmp/n',
      initrd: 'ir',
      noReboot: true,
      guest: ['rw', 'init=/bin/sh', 'single', 'root=/dev/vda'],
      warnings: [],
    });
    expect(parsed.cons.get(0)).toEqual({
      input: { kind: 'fd', fd: 0 },
      output: { kind: 'fd', fd: 1 },
      text: 'fd:0,fd:1',
    });
    expect(parsed.ssls.get(0)).toMatchObject({ input: { kind: 'null' }, output: { kind: 'fd', fd: 2 } });
  });

  it.each([
    ['ubd0=a', '/dev/vda'],
    ['ubd0=a root=/dev/ubda', '/dev/vda'],
    ['ubd0=a root=/dev/ubda2', '/dev/vda2'],
    ['ubd0=a root=/dev/ubd0', '/dev/vda'],
    ['ubd0=a root=/dev/ubd/0', '/dev/vda'],
    ['ubd0=a root=98:0', '/dev/vda'],
    ['ubd0=a ubd1=b root=98:17', '/dev/vdb1'],
    ['ubd0=a ubd1=b root=6210', '/dev/vdb'],
    ['ubd3=b ubd0=a root=/dev/ubdd', '/dev/vdb'],
    ['ubd0=a root=LABEL=x', 'LABEL=x'],
    ['ubd0=a root=/dev/vdb', '/dev/vdb'],
  ])('%s has its root on %s', (text, root) => {
    expect(parse(text).guest).toEqual([`root=${root}`]);
  });

  it('adds no root where there is no disk', () => {
    expect(parse('quiet').guest).toEqual(['quiet']);
    expect(() => parse('root=/dev/ubdb')).toThrow(/not configured/);
  });

  it('reads units, flags, serials and both separators', () => {
    expect(parse('ubdbr=x ubd2d=y ubd0=a:b').ubds).toMatchObject(
      new Map([
        [0, { file: 'a', backing: 'b' }],
        [1, { file: 'x', readOnly: true }],
        [2, { file: 'y', plain: true }],
      ]),
    );
    expect(parse('ubd0=File,,Serial').ubds.get(0)).toMatchObject({ backing: undefined, serial: 'Serial' });
    expect(parse('nosysemu fake_ide ubd=other ubd0c=a,b').warnings).toHaveLength(4);
    const flags = parse('ubd0sct=x ubd1=y');
    expect(flags.warnings).toEqual([]);
    expect(flags.ubds.get(0)).toMatchObject({ synchronous: true, noDiscard: true, unlocked: true });
    expect(flags.ubds.get(1)).toMatchObject({ synchronous: false, noDiscard: false, unlocked: false });
    expect(parse('ubd=sync ubd1=y').ubds.get(1)).toMatchObject({ synchronous: true });
  });

  it('sets the lines that are not named', () => {
    const { cons, ssls } = parse('con=null con3=none ssl=fd:7');
    expect(cons.has(0)).toBe(false);
    expect(cons.get(1)).toMatchObject({ text: 'null' });
    expect(cons.get(3)).toBeUndefined();
    expect(cons.has(3)).toBe(true);
    expect(ssls.get(3)).toMatchObject({ input: { kind: 'fd', fd: 7 } });
    expect(parse('con0=nullxyz con1=3').cons).toMatchObject(
      new Map([
        [0, { input: { kind: 'null' } }],
        [1, { output: { kind: 'fd', fd: 3 } }],
      ]),
    );
    expect(parse('con2=pts con3=tty:/dev/tty9 con4=xterm con5=null,pty').cons).toMatchObject(
      new Map<number, object>([
        [2, { input: { kind: 'pts' }, output: { kind: 'pts' } }],
        [3, { input: { kind: 'tty', path: '/dev/tty9' } }],
        [4, { input: { kind: 'xterm' } }],
        [5, { input: { kind: 'null' }, output: { kind: 'pty' } }],
      ]),
    );
    expect(parse('ssl0=port:9000 ssl1=port:0.0.0.0:9001').ssls).toMatchObject(
      new Map([
        [0, { input: { kind: 'port', address: '127.0.0.1', port: 9000 } }],
        [1, { input: { kind: 'port', address: '0.0.0.0', port: 9001 } }],
      ]),
    );
    expect(parse('xterm=x-terminal-emulator,-T,-e').xterm).toEqual({
      program: 'x-terminal-emulator',
      titleSwitch: '-T',
      execSwitch: '-e',
    });
    expect([...parse('eth1=mcast eth0=slirp').eths.keys()]).toEqual([0, 1]);
    expect(parse('tty_log_fd=3').ttyLogFd).toBe(3);
    expect(parse('hostfs=/srv').hostfs).toEqual({ root: '/srv', append: false });
    expect(parse('hostfs=/srv,append').hostfs).toEqual({ root: '/srv', append: true });
    expect(parse('console=ttyS0').guest).toEqual(['console=ttyS0']);
  });

  it.each([
    ['ubd7q=/x', /flag letter \(r, s, c, t or d\)/],
    ['ubd16=/x', /out of range/],
    ['ubd0rrrrrrr=/x', /too many flags/],
    ['ubdz=/x', /no device number/],
    ['ubd0', /'='/],
    ['ubd0=', /names no file/],
    ['ubd0d=a,b', /both 'd' and a cow/],
    ['ubd0=a ubda=b', /already configured/],
    ['con99=null', /out of range/],
    ['con0=zzz', /no channel/],
    ['con0=fd:', /no channel/],
    ['con0=port:', /no port/],
    ['con0=port:65536', /no port/],
    ['con1=null,tty:x', /no terminal device/],
    ['eth0=bogus', /no transport/],
    ['eth0', /lacks its '='/],
    ['eth0=daemon eth0=mcast', /already configured/],
    ['vec0:transport=tap', /names no ifname/],
    ['vec0', /':'/],
    ['xterm=gnome-terminal', /lacks a part/],
    ['hostfs=', /names no folder/],
    ['tty_log_fd=log', /no descriptor/],
    ['hostfs=/srv,all', /setting all/],
    ['mem=lots', /no size/],
  ])('refuses %s with a reason', (text, reason) => {
    expect(() => parse(text)).toThrow(reason);
  });
});
