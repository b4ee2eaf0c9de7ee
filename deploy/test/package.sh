#!/usr/bin/env bash
# The Debian package and its unit, on a real systemd: installed, configured, started, hardened,
# killed, upgraded, removed.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

program=$(program) || skip_all 'package: there is no program yet (cargo build)'
for tool in dpkg-deb debootstrap systemd-nspawn ip ssh; do
    has "$tool" || skip_all "package: $tool is not here"
done
ip netns add depprobe 2> /dev/null || skip_all 'package: network namespaces may not be made here'
ip netns del depprobe

work=$(mktemp -d)
hosts=$root/deploy/test/hosts.sh
trap '"$hosts" "$work" down; rm -rf "$work"' EXIT
on() { "$hosts" "$work" ssh 1 "$@"; }
sql() { on alluvium sql --format json -e "\"$1\""; }

say 'build'
export DEB_COMPRESSION=gzip
mkdir -p "$work/repository/target/release"
cp -r "$root/deploy" "$work/repository/"
cp -p "$program" "$work/repository/target/release/alluvium"
cd "$work/repository"
walk 'deploy/debian/build.sh target/release/alluvium .'
package=$(find "$work/repository" -maxdepth 1 -name '*.deb')
again=$(deploy/debian/build.sh target/release/alluvium again)
cmp "$package" "$again" || fail 'the same program makes another package'
pass "$(basename "$package"), $(($(stat --format %s "$package") / 1000000)) MB, twice the same"
if has lintian; then
    lintian --allow-root --fail-on error --suppress-tags no-changelog "$package" > "$work/lintian" \
        || { cat "$work/lintian"; fail 'lintian'; }
    pass 'lintian finds no error'
fi

say 'a host'
"$hosts" "$work" up 1
cp "$package" "$work/host1/tree/var/tmp/alluvium.deb"
# What the document says is typed on the host, in the folder with the package.
cp "$package" "$work/host1/tree/var/tmp/alluvium_0.1.0_amd64.deb"
sudo() { on "cd /var/tmp && sudo $*"; }
alluvium() { on alluvium "$@"; }
walk 'sudo dpkg --install ./alluvium_0.1.0_amd64.deb' > /dev/null
on systemctl --quiet is-active alluvium && fail 'the package starts a node'
[ "$(on stat --format %U:%G:%a /etc/alluvium/alluvium.toml)" = root:alluvium:640 ] \
    || fail 'the configuration is not for the node alone'
pass 'installed; nothing runs'
on test -s /usr/share/bash-completion/completions/alluvium || fail 'there is no completion'
on "zcat /usr/share/man/man1/alluvium-node.1.gz | grep --quiet decommission" \
    || fail 'there is no page of the manual for alluvium node'
on alluvium generate systemd | on cmp - /lib/systemd/system/alluvium.service \
    || fail 'the program has another unit than the package'
on alluvium check --data-dir /var/tmp/none -o json | grep --quiet '"fit":true' \
    || fail 'alluvium check finds a fresh machine unfit'
pass 'completions, manual, unit, and a machine that is fit'

say 'start'
walk 'sudo systemctl enable --now alluvium' > "$work/start.log" 2>&1 || { on journalctl --no-pager -u alluvium; fail start; }
on /usr/bin/python3 -c "'
import urllib.request
assert urllib.request.urlopen(\"http://127.0.0.1:7402/readyz\").status == 200'" \
    || fail 'systemctl start returned before the node was ready'
pass 'systemctl start returns when the node is ready'
walk 'alluvium status' | grep --quiet '^node ' || fail 'alluvium status does not answer'
sql 'CREATE STREAM s (n BIGINT NOT NULL)' > /dev/null
sql 'INSERT INTO s VALUES (1), (2), (3)' > /dev/null
[ "$(sql 'SELECT count(*) AS c FROM s')" = '[{"c":3}]' ] || fail 'it does not answer SQL'
pass 'it answers SQL under its hardened unit'
exposure=$(on systemd-analyze security --no-pager alluvium | sed -n 's/.*Overall.*: \([0-9.]*\).*/\1/p')
on systemd-analyze security --threshold=15 --no-pager alluvium > /dev/null \
    || fail "the unit is exposed at $exposure, more than 1.5"
pass "exposure $exposure"
owner=$(on stat --format %U:%a /var/lib/alluvium)
[ "$owner" = alluvium:700 ] || fail "the data directory is $owner"

say 'kill -9'
pid=$(on systemctl show --property MainPID --value alluvium)
on kill -9 "$pid"
back() {
    [ "$(on systemctl show --property NRestarts --value alluvium)" = 1 ] \
        && on systemctl --quiet is-active alluvium
}
eventually 30 back
[ "$(sql 'SELECT count(*) AS c FROM s')" = '[{"c":3}]' ] || fail 'events are gone'
pass 'systemd starts it again; its events are there'

say 'upgrade, stop, purge'
pid=$(on systemctl show --property MainPID --value alluvium)
on dpkg --install /var/tmp/alluvium.deb > /dev/null
[ "$(on systemctl show --property MainPID --value alluvium)" = "$pid" ] \
    || fail 'an upgrade of the package restarted the node'
on systemctl stop alluvium
result=$(on systemctl show --property Result,ExecMainStatus alluvium | tr '\n' ' ')
[ "$result" = 'Result=success ExecMainStatus=0 ' ] || fail "stopping it: $result"
on dpkg --purge alluvium > /dev/null 2>&1
on test -d /var/lib/alluvium/segments || fail 'purging the package removed events'
on test ! -e /etc/alluvium/alluvium.toml || fail 'purging the package left its configuration'
pass 'an upgrade does not restart, a stop is clean, a purge keeps the events'
[ "$(on systemctl --failed --no-legend | wc -l)" = 0 ] || fail 'the host has failed units'
finish
