#!/bin/bash
# Becomes systemd, as process 1 of namespaces that were made for it: `boot.sh UNITS STATE`. It knows no unit but those in UNITS, has STATE for
# /var/lib/vivarium, an empty /run, and the control group that it was started in for a root.
set -euo pipefail
units=$1 state=$2
mount --make-rprivate /
mount -t proc proc /proc
mount --bind "$state" /var/lib/vivarium
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system # by which programs know that systemd runs
type=$(stat -f -c %T /sys/fs/cgroup)
umount -R /sys/fs/cgroup
if [ "$type" = cgroup2fs ]; then
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
  mount -t tmpfs tmpfs /sys/fs/cgroup
  mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
  mount -t cgroup -o none,name=systemd systemd /sys/fs/cgroup/systemd
  mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
fi
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=vivarium-test SYSTEMD_UNIT_PATH="$units" \
  /lib/systemd/systemd --system --log-target=console
