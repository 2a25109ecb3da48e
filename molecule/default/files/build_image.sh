#!/bin/sh
# Build the image of the lab's hosts, once: build_image.sh SUITE (a Debian release). Says "built" if it did.
# It is a bare host as a user might rent it, with systemd, sshd, sudo and Python; the roles install the rest.
set -eu
suite=$1
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
image=localhost/pgrescue-lab:$suite
packages=systemd,systemd-sysv,dbus,openssh-server,sudo,python3,python3-apt,iproute2,ca-certificates,procps,cron,rsync
recipe=$(sha256sum "$0" | cut -c1-12)

engine() { "$here/../../engine" "$@"; }

# Two labs may be made at the same moment: the second waits and finds the image.
exec 9>"${TMPDIR:-/tmp}/pgrescue-lab-image-$(id -u).lock"
flock 9
if engine image inspect "$image" 2>/dev/null | grep -q "\"pgrescue.recipe\": \"$recipe\""; then
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Host keys belong to a host, never to an image. An image of Debian also forbids services to start; a host does not.
# A suite in development can be older than its Release file allows.
cat >"$work/finish" <<'EOT'
rm -f /etc/ssh/ssh_host_* /usr/sbin/policy-rc.d
echo LANG=C.UTF-8 >/etc/default/locale
: >/etc/machine-id
EOT
valid='Acquire::Check-Valid-Until "false";'

if command -v mmdebstrap >/dev/null; then
    mmdebstrap --quiet --variant=minbase --include="$packages" --aptopt="$valid" \
        --customize-hook="chroot \"\$1\" sh <$work/finish" "$suite" "$work/root.tar"
    engine import --change "LABEL pgrescue.recipe=$recipe" "$work/root.tar" "$image" 9>&-
else
    cat >"$work/Containerfile" <<EOT
FROM docker.io/library/debian:$suite
LABEL pgrescue.recipe=$recipe
COPY finish /tmp/finish
RUN echo '$valid' >/etc/apt/apt.conf.d/90lab && apt-get update -q \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $(echo "$packages" | tr , ' ') \\
 && sh /tmp/finish && rm -rf /tmp/finish /var/lib/apt/lists/*
EOT
    engine build -f "$work/Containerfile" -t "$image" "$work" 9>&-
fi
echo built
