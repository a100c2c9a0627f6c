#!/bin/sh
# Run once in the new root, when its packages and files are in place and before it becomes a disk.
set -eu
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

groupadd --gid 1000 agent
useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash agent
install -d -o agent -g agent -m 0755 /workspace

# `npm install --global` works without sudo. No boundary is lost: the agent's user is root whenever it likes.
find /usr/local -type d -exec chown agent:agent {} +

update-ca-certificates >/dev/null

# A root in which these don't start would fail every task: better that its build fails.
export HOME=/tmp/check
mkdir "$HOME"
for program in node npm claude git rg python3 socat tini sudo; do
  "$program" --version >/dev/null 2>&1 || "$program" -V >/dev/null || { echo "$program does not start" >&2; exit 1; }
done

# What identifies this host or this moment, and what the guest never reads.
rm -rf /etc/resolv.conf /var/log/* /var/cache/* /var/lib/apt/lists/* /tmp/* /var/tmp/* /root/.npm
rm -f /etc/apt/apt.conf.d/99mmdebstrap /etc/*- /var/lib/dpkg/*-old
: >/etc/machine-id
mkdir -p /var/cache/apt/archives/partial /var/lib/apt/lists/partial /var/log/apt
chmod 1777 /tmp /var/tmp
