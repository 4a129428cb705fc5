/** `umlaut linux WORD…` */
import type { Command } from 'commander';
import type { Io } from '../io.ts';

interface LinuxCommandOptions {
  readonly kernel?: string;
}

export function registerLinux(program: Command, io: Io): void {
  program
    .command('linux')
    .argument('[words...]', "UML's options, and words for the guest's kernel")
    .option('--kernel <file>', 'the kernel (default: that of the image `default`, with its initrd)')
    .description("run one VM in the foreground on User Mode Linux's command line, without the daemon")
    .addHelpText(
      'after',
      `
  ubd<n>[rsctd]=FILE or COW,BACKING   disks: vda, vdb, ... in order; a COW file that is missing is made
  mem=256M  initrd=FILE  root=/dev/ubda  umid=NAME  uml_dir=DIR  mconsole=notify:SOCKET  noreboot
  eth<n>=TRANSPORT[,ARGUMENT...]      network cards: daemon, vde, mcast, ucast, tuntap, slirp (NAT), pcap, slip
  vec<n>:transport=tap,ifname=DEVICE  the same as UML's newer devices: tap, hybrid, raw, vde (vnl=FOLDER),
                                      gre, l2tpv3 (src=, dst=, ...), bess (dst=SOCKET)
  hostfs=DIR[,append]                 a folder of this host: mount -t 9p hostfs /mnt
  hppfs=DIR                           files of the guest's /proc that are the host's, or hidden
  tty_log_fd=N                        what is shown and typed, as UML's tty_log, to descriptor N: see umlaut tty play
  con0..con15=IN[,OUT]                the consoles hvc0, hvc1, ... (default: con0=fd:0,fd:1, the others none)
  ssl0..ssl3=IN[,OUT]                 the serial lines ttyS0 to ttyS3; con= and ssl= for all that are not named
                                      each fd:N, pts, pty, tty:DEVICE, xterm, port:[ADDRESS:]N (which lines
                                      may share), null or none
  xterm=PROGRAM,TITLE SWITCH,EXEC SWITCH
  Everything else goes to the guest's kernel.`,
    )
    .action(async (words: string[], options: LinuxCommandOptions) => {
      // Loaded here: no other command needs a machine.
      const { runLinux } = await import('../linux/run.ts');
      io.exitCode = await runLinux(words, options.kernel, io);
    });
}
