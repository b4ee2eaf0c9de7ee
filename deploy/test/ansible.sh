#!/usr/bin/env bash
# The Ansible collection on real hosts: three systemds form a cluster, are restarted and upgraded
# under load, a fourth joins, one loses its power, one leaves.
#
#   ansible.sh [lint]      `lint` only checks the collection, which takes seconds
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

environment=$(venv ansible) || skip_all 'ansible: ansible-core could not be installed'
export PATH=$environment/bin:$PATH NO_COLOR=1 ANSIBLE_NOCOLOR=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export ANSIBLE_HOME=$work/home ANSIBLE_LOCAL_TEMP=$work/home/tmp

say 'lint'
# A copy, because the linter leaves files behind where it works.
mkdir -p "$work/alluvium"
cp -r "$root/ansible" "$work/alluvium/cluster"
cd "$work/alluvium/cluster"
ansible-lint --offline --nocolor . > "$work/lint.log" 2>&1 || { cat "$work/lint.log"; fail lint; }
pass 'ansible-lint, profile production'
ansible-galaxy collection build --output-path "$work" . > /dev/null
ansible-galaxy collection install --offline --collections-path "$work/collections" \
    "$work"/alluvium-cluster-*.tar.gz > /dev/null 2>&1
export ANSIBLE_COLLECTIONS_PATH=$work/collections
for playbook in playbooks/*.yml; do
    ansible-playbook --inventory inventory.example.yml --syntax-check "$playbook" > /dev/null 2>&1
    ansible-playbook --inventory inventory.example.yml --syntax-check \
        "alluvium.cluster.$(basename "$playbook" .yml)" > /dev/null 2>&1 \
        || fail "$playbook is not to be had from the installed collection"
done
pass "$(find playbooks -name "*.yml" | wc -l) playbooks, as files and from the installed collection"
if [ "${1:-}" = lint ]; then
    finish
    exit 0
fi

program=$(program) || skip_all 'ansible: there is no program yet (cargo build)'
for tool in dpkg-deb debootstrap systemd-nspawn ip ssh; do
    has "$tool" || skip_all "ansible: $tool is not here"
done
ip netns add depprobe 2> /dev/null || skip_all 'ansible: network namespaces may not be made here'
ip netns del depprobe
hosts=$root/deploy/test/hosts.sh
trap '"$hosts" "$work" down; rm -rf "$work"' EXIT
on() { "$hosts" "$work" ssh "$@"; }

say 'hosts'
export DEB_COMPRESSION=gzip
package=$("$root/deploy/debian/build.sh" "$program" "$work/package")
next=$(DEB_REVISION=+next "$root/deploy/debian/build.sh" "$program" "$work/package")
"$hosts" "$work" up 4
export ANSIBLE_PRIVATE_KEY_FILE=$work/id ANSIBLE_HOST_KEY_CHECKING=false
inventory() {
    {
        printf 'node:\n  hosts:\n'
        for n in "$@"; do
            printf '    host%s: { ansible_host: 10.98.0.%s, node_zone: rack%s }\n' \
                "$n" $((10 + n)) "$n"
        done
        printf '  vars: { ansible_user: root, node_package: %s, node_insecure: true' "$package"
        printf ', node_memory: 64MB, node_ready_seconds: 60 }\n'
    } > "$work/inventory.yml"
}
play() {
    local playbook=$1
    shift
    "$hosts" "$work" run ansible-playbook --inventory inventory.yml \
        "ansible/playbooks/$playbook.yml" "$@" > "$work/$playbook.log" 2>&1
}
# What the document says is typed where the inventory and the collection are.
cd "$work"
cp -r "$root/ansible" "$work/ansible-of-the-repository"
ln -s ansible-of-the-repository ansible
export ANSIBLE_ROLES_PATH=$work/ansible/roles
cp "$next" next.deb
ansible-playbook() { "$hosts" "$work" run ansible-playbook "$@"; }
must() { "$@" > "$work/walk.log" 2>&1 || { tail -60 "$work/walk.log"; fail "$*"; }; }
must_play() { play "$@" || { tail -60 "$work/$1.log"; fail "$1"; }; }
changes() { sed -n 's/^host.* changed=\([0-9]*\) .*/\1/p' "$work/$1.log" | paste -sd+ | bc; }
sql() { on "$1" alluvium sql --format json -e "\"$2\""; }
pids() { for n in "$@"; do on "$n" systemctl show --property MainPID --value alluvium; done; }
under_load() {
    local addresses=$1
    shift
    # shellcheck disable=SC2086
    "$hosts" "$work" run python3 "$root/deploy/test/load.py" "$program" load 3600 $addresses \
        > "$work/load.json" 2> "$work/load.err" &
    local load=$!
    "$@"
    # The scripts between have all become the process that they started.
    kill -TERM "$load"
    wait "$load" || { cat "$work/load.err" "$work/load.json"; fail 'the load was not all served'; }
    cat "$work/load.json"
}
three='10.98.0.11:7400 10.98.0.12:7400 10.98.0.13:7400'

say 'preflight'
inventory 1 2 3
play site -e node_insecure=false && fail 'site.yml goes on without node_insecure'
grep --quiet 'say so in the inventory: node_insecure: true' "$work/site.log" \
    || { tail -30 "$work/site.log"; fail 'the message does not say what to do'; }
play site -e node_memory_min_mb=999999999 && fail 'site.yml goes on without memory'
play site -e node_client_port=high && fail 'a port that is not a number is let through'
pass 'what is wrong is said before anything is done'

say 'install'
must walk 'ansible-playbook --inventory inventory.yml ansible/playbooks/site.yml'
cp "$work/walk.log" "$work/site.log"
pass "three nodes, by $(changes site) changes"
sql 1 'CREATE STREAM load (n BIGINT NOT NULL) PARTITION BY (n) WITH (partitions = 4)' > /dev/null
[ "$(sql 3 'SELECT count(*) AS c FROM system.nodes WHERE alive')" = '[{"c":3}]' ] \
    || fail 'they are no cluster of three'
before=$(pids 1 2 3)
must_play site
[ "$(changes site)" = 0 ] || { cat "$work/site.log"; fail 'a second run changes something'; }
[ "$(pids 1 2 3)" = "$before" ] || fail 'a second run restarts nodes'
pass 'a second run changes nothing'
mapfile -t before < <(pids 1 2 3)
must_play site -e '{"node_log": "info,alluvium=info"}' --limit host2
mapfile -t after < <(pids 1 2 3)
[ "${before[0]} ${before[2]}" = "${after[0]} ${after[2]}" ] || fail 'other nodes were restarted'
[ "${before[1]}" != "${after[1]}" ] || fail 'a changed configuration did not restart its node'
must_play site
pass 'a node whose configuration changed is restarted, no other'

say 'rolling restart under load'
mapfile -t before < <(pids 1 2 3)
restart_all() {
    must walk 'ansible-playbook --inventory inventory.yml ansible/playbooks/rolling_restart.yml'
}
under_load "$three" restart_all
mapfile -t after < <(pids 1 2 3)
for n in 0 1 2; do
    [ "${before[$n]}" != "${after[$n]}" ] || fail "host$((n + 1)) was not restarted"
done
pass 'every node restarted, no request failed, no acknowledged event lost'

say 'rolling upgrade under load'
upgrade_all() {
    must walk 'ansible-playbook --inventory inventory.yml ansible/playbooks/upgrade.yml -e node_package=next.deb'
}
under_load "$three" upgrade_all
for n in 1 2 3; do
    # shellcheck disable=SC2016
    version=$(on "$n" dpkg-query --show --showformat '\${Version}' alluvium)
    case $version in *+next) ;; *) fail "host$n has $version" ;; esac
    on "$n" readlink "/proc/$(pids "$n")/exe" | grep --quiet deleted && fail "host$n runs the former"
done
package=$next
inventory 1 2 3
pass 'every node runs the next package, no request failed, no acknowledged event lost'

say 'scale out'
inventory 1 2 3 4
mapfile -t before < <(pids 1 2 3)
add_one() {
    must walk 'ansible-playbook --inventory inventory.yml ansible/playbooks/scale_out.yml'
}
under_load "$three" add_one
mapfile -t after < <(pids 1 2 3)
[ "${before[*]}" = "${after[*]}" ] || fail 'the other nodes were restarted'
held=$(sql 1 "SELECT replicas FROM system.nodes WHERE name = 'host4' AND alive")
[ "$held" != '[{"replicas":0}]' ] || fail 'the fourth holds nothing'
must_play site
[ "$(changes site)" = 0 ] || { cat "$work/site.log"; fail 'site.yml changes the grown cluster'; }
pass "a fourth node has its share: $held"

say 'power loss of one host'
cut_and_boot() {
    "$hosts" "$work" cut 3
    # Long enough for its partitions to have other owners, and for the load to go on with them.
    eventually 60 sh -c "'$hosts' '$work' ssh 1 alluvium status --format json \
        | python3 -c 'import json, sys
sys.exit(all(node[\"alive\"] for node in json.load(sys.stdin)[\"nodes\"]))'"
    "$hosts" "$work" up 4
    must_play site
}
under_load '10.98.0.11:7400 10.98.0.12:7400 10.98.0.13:7400 10.98.0.14:7400' cut_and_boot
pass 'it boots, and its node comes back with it; no acknowledged event lost'

say 'decommission'
play decommission -e leaving=nobody && fail 'a host that is not there may leave'
take_one() {
    must walk 'ansible-playbook --inventory inventory.yml ansible/playbooks/decommission.yml -e leaving=host2'
}
under_load '10.98.0.11:7400 10.98.0.13:7400 10.98.0.14:7400' take_one
names=$(sql 1 "SELECT string_agg(name, ' ' ORDER BY name) AS names FROM system.nodes")
[ "$names" = '[{"names":"host1 host3 host4"}]' ] || fail "the cluster has $names"
# A node that has left ends with an error, so its unit has either state.
state=$(on 2 'systemctl is-active alluvium; systemctl is-enabled alluvium' | paste -sd' ' || true)
case $state in
    'inactive disabled' | 'failed disabled') ;;
    *) fail "the unit of the node that has left is $state" ;;
esac
inventory 1 3 4
play decommission -e leaving=host3 && fail 'it leaves fewer than three without a word'
pass 'three of four remain'

say 'uninstall'
play uninstall && fail 'it uninstalls without being told that it is meant'
must walk 'ansible-playbook --inventory inventory.yml ansible/playbooks/uninstall.yml -e uninstall=yes'
on 1 test ! -e /usr/bin/alluvium || fail 'the program is still there'
on 1 test -d /var/lib/alluvium/segments || fail 'the events are gone'
pass 'the program is gone, the events stay'
finish
