#!/bin/sh
# Put the clusters of a lab's host on an XFS of their own, which clones files: xfs.sh HOST GIGABYTES. They are stopped and started.
# A loop device is this machine's, and needs its root; the image lies in the host's own file system and goes with it.
set -eu
host=${LAB:-pgrescue}-$1
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

engine() { "$here/../../engine" "$@"; }

engine exec "$host" sh -euc "
    apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends xfsprogs >/dev/null
    truncate -s ${2}G /var/lib/clusters.xfs; mkfs.xfs -q /var/lib/clusters.xfs
    systemctl stop postgresql 'postgresql@*'"
process=$(engine container inspect --format '{{.State.Pid}}' "$host")
loop=$(losetup --find --show "/proc/$process/root/var/lib/clusters.xfs")
# The device goes with the last mount.
trap 'losetup --detach "$loop"' EXIT
nsenter --target "$process" --mount -- sh -euc "
    umask 077; [ -e $loop ] || mknod $loop b $(stat -c '%Hr %Lr' "$loop")
    mount $loop /mnt; cp -a /var/lib/postgresql/. /mnt; umount /mnt; mount $loop /var/lib/postgresql"
engine exec "$host" systemctl start postgresql
