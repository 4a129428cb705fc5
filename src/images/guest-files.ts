/** The files of the default guest that are not Debian's: a busybox init and its scripts. */

/** The password that the login prompt shows; no network service asks for it unless the user starts one. */
export const ROOT_PASSWORD = 'umlaut';
/** crypt(3) of it: SHA-512 with 1000 rounds (the least there is: the password is public, and emulated rounds cost time). */
const ROOT_PASSWORD_CRYPT =
  '$6$rounds=1000$umlaut$dDUz9/8UXDWzBNq0MNO1K.yZB1jDfqlaIkolYPwabqSnNQh0.mcRmeB2wbl79EVcvwNssHwVtO.REWy7rVDoa/';

export interface GuestFile {
  readonly path: string;
  readonly content: string;
  /** 0644 unless given. */
  readonly mode?: number;
}

/** Mounts the root file system that `root=` names and starts its init. Runs in the initramfs; forks as little as it can. */
export const INITRAMFS_INIT = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
read -r cmdline < /proc/cmdline
root=/dev/vda mode=ro init=/sbin/init flags=
for word in $cmdline; do
  case "$word" in
    root=*) root=\${word#root=} ;;
    rootflags=*) flags=,\${word#rootflags=} ;;
    init=*) init=\${word#init=} ;;
    rw) mode=rw ;;
    ro) mode=ro ;;
  esac
done
while read -r module; do $b insmod "/modules/$module"; done < /modules/order
tries=0
while [ ! -e "$root" ]; do
  tries=$((tries + 1))
  if [ "$tries" -gt 100 ]; then
    echo "No root disk: $root is not there. This is a shell in the initramfs; exit it to try again."
    $b sh
    tries=0
  fi
  $b usleep 100000
done
$b mount -t ext4 -o "$mode$flags" "$root" /root || exec $b sh
$b mount -o move /proc /root/proc
$b mount -o move /sys /root/sys
$b mount -o move /dev /root/dev
exec $b switch_root /root "$init"
`;

const INITTAB = `::sysinit:/etc/init.d/rcS
ttyS0::respawn:/sbin/console-login ttyS0
::respawn:/sbin/console-login hvc0
::ctrlaltdel:/sbin/reboot
::shutdown:/etc/init.d/rcK
`;

/** Without the device (a VM has no virtio console) it sleeps, so that init does not start it over and over. */
const CONSOLE_LOGIN = `#!/bin/sh
[ -c "/dev/$1" ] || exec sleep 2147483647
exec getty -L 115200 "$1" vt102
`;

/** Start-up. The network comes in the background: the login prompt does not wait for a DHCP server. */
const RC_S = `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp

name=
read -r cmdline < /proc/cmdline
for word in $cmdline; do
  case "$word" in umlaut.name=*) name=\${word#umlaut.name=} ;; esac
done
if [ -n "$name" ]; then
  echo "$name" > /run/hostname-fixed
else
  read -r name < /etc/hostname
fi
hostname "$name"

modprobe -a virtio_net virtio_console virtio-rng virtio_balloon button evdev pvpanic-mmio wdat_wdt 9pnet_virtio 9p 2>/dev/null
# Folders that the host shares with this machine: each at /mnt and its tag.
for tag in /sys/bus/virtio/drivers/9pnet_virtio/virtio*/mount_tag; do
  [ -e "$tag" ] || continue
  read -r tag < "$tag"
  mkdir -p "/mnt/$tag"
  mount -t 9p -o trans=virtio,version=9p2000.L,cache=mmap "$tag" "/mnt/$tag"
done
# Whoever runs this machine is told when it hangs: when nobody here resets the watchdog for a minute.
[ -c /dev/watchdog ] && watchdog -t 15 -T 60 /dev/watchdog
ip link set lo up
uevent /sbin/device-event &
for device in /sys/class/net/eth*; do
  [ -e "$device" ] && SUBSYSTEM=net ACTION=add INTERFACE=\${device##*/} device-event
done
for device in /sys/class/virtio-ports/*; do
  [ -e "$device" ] && SUBSYSTEM=virtio-ports ACTION=add DEVPATH=$device device-event
done
# The power button: acpid runs /etc/acpi/PWRF/00000080.
acpid -l /run/acpid.log -p /run/acpid.pid 2>/dev/null
# The boot was quiet; from here on the console shows what the kernel says, SysRq answers among it.
echo 7 > /proc/sys/kernel/printk
`;

/**
 * What udev would do. Run by `uevent` for each device that comes, changes or goes, with what the kernel tells of it in the
 * environment; and by rcS for those that are there.
 */
const DEVICE_EVENT = `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
case "$SUBSYSTEM $ACTION $INTERFACE" in
  'net add eth'*)
    ip link set "$INTERFACE" up
    udhcpc -b -S -t 5 -T 1 -A 10 -i "$INTERFACE" -x "hostname:$(hostname)" -p "/run/udhcpc.$INTERFACE.pid" >/dev/null 2>&1 &
    ;;
  'net remove eth'*)
    [ -e "/run/udhcpc.$INTERFACE.pid" ] && kill "$(cat "/run/udhcpc.$INTERFACE.pid")"
    ;;
  'virtio-ports add '|'virtio-ports change ')
    port=\${DEVPATH##*/}
    [ -r "/sys/class/virtio-ports/$port/name" ] || exit
    read -r name < "/sys/class/virtio-ports/$port/name"
    mkdir -p /dev/virtio-ports
    ln -sf "../$port" "/dev/virtio-ports/$name"
    ;;
esac
`;

const RC_K = `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
sync
umount -a -r 2>/dev/null
`;

const POWER_BUTTON = `#!/bin/sh
exec poweroff
`;

/** Called by udhcpc; the variables are the lease's (busybox, networking/udhcp). */
const UDHCPC_SCRIPT = `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
case "$1" in
  deconfig)
    ip -4 addr flush dev "$interface"
    ip link set "$interface" up
    ;;
  bound|renew)
    ip -4 addr flush dev "$interface"
    ip addr add "$ip/\${mask:-24}" \${broadcast:+broadcast "$broadcast"} dev "$interface"
    metric=$((100 + \${interface#eth}))
    for gateway in $router; do
      ip route replace default via "$gateway" dev "$interface" metric "$metric"
    done
    if [ -n "$dns" ]; then
      {
        [ -n "$domain" ] && echo "search $domain"
        for server in $dns; do echo "nameserver $server"; done
      } > /run/resolv.conf
    fi
    [ -n "$hostname" ] && [ ! -e /run/hostname-fixed ] && hostname "$hostname"
    ;;
esac
exit 0
`;

const PROFILE = `export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PS1='\\u@\\h:\\w\\$ '
umask 022
`;

const ISSUE = `
\\n on \\l: log in as root, password ${ROOT_PASSWORD}

`;

const MOTD = `
This is Umlaut's default guest: Debian's kernel and busybox.
\`busybox\` lists the commands, \`ip addr\` shows the network, \`poweroff\` ends it.

`;

export const GUEST_FILES: readonly GuestFile[] = [
  { path: 'etc/inittab', content: INITTAB },
  { path: 'etc/init.d/rcS', content: RC_S, mode: 0o755 },
  { path: 'etc/init.d/rcK', content: RC_K, mode: 0o755 },
  { path: 'sbin/device-event', content: DEVICE_EVENT, mode: 0o755 },
  { path: 'sbin/console-login', content: CONSOLE_LOGIN, mode: 0o755 },
  { path: 'etc/acpi/PWRF/00000080', content: POWER_BUTTON, mode: 0o755 },
  { path: 'etc/udhcpc/default.script', content: UDHCPC_SCRIPT, mode: 0o755 },
  { path: 'etc/profile', content: PROFILE },
  { path: 'etc/issue', content: ISSUE },
  { path: 'etc/motd', content: MOTD },
  { path: 'etc/hostname', content: 'umlaut\n' },
  { path: 'etc/hosts', content: '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' },
  {
    path: 'etc/passwd',
    content: 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n',
  },
  { path: 'etc/group', content: 'root:x:0:\ntty:x:5:\nnogroup:x:65534:\n' },
  {
    path: 'etc/shadow',
    content: `root:${ROOT_PASSWORD_CRYPT}:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n`,
    mode: 0o600,
  },
  { path: 'etc/shells', content: '/bin/sh\n' },
  { path: 'etc/services', content: 'ssh 22/tcp\ntelnet 23/tcp\ndomain 53/udp\nhttp 80/tcp\nhttps 443/tcp\n' },
  { path: 'etc/fstab', content: '/dev/vda / ext4 defaults 0 1\n' },
];

export const GUEST_FOLDERS = [
  'bin',
  'sbin',
  'usr',
  'usr/bin',
  'usr/sbin',
  'usr/share',
  'usr/local',
  'usr/local/bin',
  'usr/local/sbin',
  'etc',
  'etc/init.d',
  'etc/acpi',
  'etc/acpi/PWRF',
  'etc/udhcpc',
  'dev',
  'proc',
  'sys',
  'run',
  'tmp',
  'root',
  'home',
  'mnt',
  'var',
  'var/log',
  'var/tmp',
  'var/spool',
  'var/spool/cron',
  'var/spool/cron/crontabs',
  'lib',
] as const;

export const GUEST_LINKS: readonly (readonly [path: string, target: string])[] = [
  ['etc/resolv.conf', '/run/resolv.conf'],
  ['etc/mtab', '/proc/mounts'],
  ['var/run', '/run'],
];
