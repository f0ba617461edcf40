#!/bin/sh
# Turns fresh mount, pid, uts, ipc and cgroup namespaces into a host, then becomes its init.
# Arguments: ROOT NAME COMMAND...
set -e
root=$1 name=$2
shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 -o nsdelegate none sys/fs/cgroup
mount -t tmpfs -o mode=755,size=64m tmpfs dev
for node in null zero full random urandom tty userfaultfd fuse; do
    [ -e "/dev/$node" ] || continue
    : > "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mkdir -p dev/pts dev/shm dev/net dev/mqueue
: > dev/net/tun
mount --bind /dev/net/tun dev/net/tun
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p run/sshd run/lock
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p var/lib/testbed
mount --bind ../disk var/lib/testbed
hostname "$name"
mkdir -p .old
pivot_root . .old
umount -l /.old
rmdir /.old
exec "$@"
