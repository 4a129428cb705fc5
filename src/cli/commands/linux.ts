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
  con0=IN[,OUT]  ssl0..ssl3=IN[,OUT]  the console hvc0 (default: fd:0,fd:1) and ttyS0 to ttyS3 (default: null);
                                      each fd:N, null or none
  Everything else goes to the guest's kernel.`,
    )
    .action(async (words: string[], options: LinuxCommandOptions) => {
      // Loaded here: no other command needs a machine.
      const { runLinux } = await import('../linux/run.ts');
      io.exitCode = await runLinux(words, options.kernel, io);
    });
}
