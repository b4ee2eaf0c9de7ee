#!/usr/bin/env bash
# The least that the program runs on, made of Debian packages: the C and C++ libraries, and a user.
# Stands for the base image of deploy/Dockerfile where no registry of images can be reached.
#
#   base.sh FOLDER [PACKAGE…]     more packages are unpacked beside it, without their scripts
set -euo pipefail

into=${1:?a folder}
shift
packages=(base-files libc6 libgcc-s1 libstdc++6 gcc-12-base tzdata "$@")
downloads=$(mktemp -d)
trap 'rm -rf "$downloads"' EXIT
chmod 0755 "$downloads"
(cd "$downloads" && apt-get -o APT::Sandbox::User=root download --quiet=2 "${packages[@]}" > /dev/null)
mkdir -p "$into"
for package in "$downloads"/*.deb; do
    dpkg-deb --extract "$package" "$into"
done
rm -rf "$into/usr/share/doc" "$into/usr/share/man" "$into/usr/share/locale"
mkdir -p "$into/etc" "$into/tmp" "$into/proc" "$into/sys" "$into/dev"
chmod 1777 "$into/tmp"
printf 'root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n' \
    > "$into/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' > "$into/etc/group"
