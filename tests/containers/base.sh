#!/usr/bin/env bash
# A base image for machines that reach packages but no registry of images: Debian bookworm with its own Python 3.11 in a virtual
# environment at /usr/local, under the name that the Containerfiles ask for (whose Python is 3.11.14; Debian's is older).
#
#   tests/containers/base.sh NAME FOLDER      needs debootstrap and root; FOLDER holds the tree while it is made (0.3 GB)
#
# DEBIAN_MIRROR names another mirror; CONTAINERS_PODMAN the podman to import with, options included.
set -euo pipefail
name=${1:?the name of the image}
tree=${2:?a folder for the tree}/root
rm -rf "$tree"
mkdir -p "$tree"
debootstrap --variant=minbase --include=ca-certificates,netbase,tzdata,python3,python3-venv bookworm "$tree" \
  "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
chroot "$tree" python3 -m venv --upgrade-deps /usr/local 2>/dev/null || chroot "$tree" python3 -m venv /usr/local
rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/* "$tree"/usr/share/doc/* "$tree"/usr/share/man/* "$tree"/usr/share/locale/*
tar -C "$tree" -c . | ${CONTAINERS_PODMAN:-podman} import --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8' \
  --change 'CMD ["python3"]' - "$name"
rm -rf "$tree"
