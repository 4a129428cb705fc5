import { ok, type Verb } from '../verb.ts';

/** As uname -a: the release is the kernel file's own. */
export const version: Verb = {
  name: 'version',
  usage: 'version',
  help: 'Get kernel version',
  run({ services, who, vmId }) {
    const vm = services.vms.find(who, vmId);
    const { kernel_release, kernel_version } = services.images.find(vm.image_id);
    const parts = ['Linux', vm.name, kernel_release ?? 'unknown', kernel_version ?? '', 'x86_64'];
    return ok(parts.filter((part) => part !== '').join(' '));
  },
};
