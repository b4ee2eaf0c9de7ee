#!/usr/bin/env bash
# The Debian package: the program, its unit, its configuration and its user.
#
#   deploy/debian/build.sh PROGRAM FOLDER      prints the package's path
#
# The same program makes the same package, byte by byte. It starts nothing: a node begins a cluster
# of its own when it is started without seeds, so it is configured first. Nor does an upgrade
# restart a node: which one may be restarted when is for whoever sees the whole cluster to say.
# DEB_REVISION is put after the program's version.
# DEB_COMPRESSION names another compression than xz, which takes its time over a debug build.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
program=${1:?a program, such as target/release/alluvium}
into=${2:?a folder for the package}

version=$("$program" version | sed -n 's/^alluvium \([0-9][^ ]*\).*/\1/p')
version=$version${DEB_REVISION:-}
architecture=$(dpkg --print-architecture)
# The time that everything in the package has: that of the newest file that goes into it.
newest=$(stat --format %Y "$program" "$here"/* | sort -n | tail -1)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$newest}

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 0755 "$tree"
install -D -m 0755 "$program" "$tree/usr/bin/alluvium"
strip --strip-unneeded "$tree/usr/bin/alluvium"
install -D -m 0644 "$here/alluvium.service" "$tree/lib/systemd/system/alluvium.service"
install -D -m 0644 "$here/alluvium.toml" "$tree/etc/alluvium/alluvium.toml"
install -D -m 0644 "$here/copyright" "$tree/usr/share/doc/alluvium/copyright"
completion() {
    mkdir -p "$tree/$2"
    "$program" generate completion "$1" > "$tree/$2/$3"
}
completion bash usr/share/bash-completion/completions alluvium
completion zsh usr/share/zsh/vendor-completions _alluvium
completion fish usr/share/fish/vendor_completions.d alluvium.fish
"$program" generate man --out "$tree/usr/share/man/man1"
gzip -9n "$tree"/usr/share/man/man1/*.1
for script in postinst prerm postrm; do
    install -D -m 0755 "$here/$script" "$tree/DEBIAN/$script"
done
echo /etc/alluvium/alluvium.toml > "$tree/DEBIAN/conffiles"
cat > "$tree/DEBIAN/control" <<CONTROL
Package: alluvium
Version: $version
Architecture: $architecture
Maintainer: The Alluvium developers <alluvium@example.org>
Section: database
Priority: optional
Installed-Size: $(du -sk "$tree" | cut -f1)
Depends: adduser, libc6 (>= 2.36), libgcc-s1 (>= 12), libstdc++6 (>= 12)
Description: streams of events, and SQL over them
 One program that takes events in, keeps every acknowledged one, and answers
 SQL over all of them, the newest included. Nodes form a cluster that bears
 the loss of one of three.
CONTROL
find "$tree" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$into"
package=$into/alluvium_${version}_$architecture.deb
dpkg-deb --root-owner-group "-Z${DEB_COMPRESSION:-xz}" -z1 --build "$tree" "$package" > /dev/null
printf '%s\n' "$package"
