#!/usr/bin/env bash
# Debian hosts without virtual machines: each is a systemd booted by systemd-nspawn over one
# unpacked Debian, in a network namespace of its own, joined by a bridge in the namespace `depctl`.
#
#   hosts.sh WORKDIR up N        boots hosts 1 to N at 10.98.0.11, …; those that run stay
#   hosts.sh WORKDIR run COMMAND…     runs a command where the hosts can be reached
#   hosts.sh WORKDIR ssh N COMMAND…
#   hosts.sh WORKDIR cut N       power loss of one host
#   hosts.sh WORKDIR down        ends all of them, and removes what they wrote
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

work=${1:?a folder}
action=${2:?up, run, ssh, cut or down}
shift 2
debian=$cache/debian
key=$work/id

on_host() {
    local host=$1
    shift
    ip netns exec depctl ssh -q -i "$key" -o BatchMode=yes -o StrictHostKeyChecking=no \
        -o UserKnownHostsFile=/dev/null -o ConnectTimeout=2 "root@10.98.0.$((10 + host))" "$@"
}

# True while the host's init runs. An ended nspawn may stay as a zombie, so its child is asked for.
runs() { [ -f "$1/pid" ] && pgrep --parent "$(cat "$1/pid")" > /dev/null; }

boot() {
    local n=$1 host=dep$1 dir=$work/host$1
    mkdir -p "$dir/upper" "$dir/overlay" "$dir/tree"
    mountpoint --quiet "$dir/tree" || mount -t overlay overlay \
        -o "lowerdir=$debian,upperdir=$dir/upper,workdir=$dir/overlay" "$dir/tree"
    install -d -m 0700 "${dir}/tree/root/.ssh"
    cp "$key.pub" "${dir}/tree/root/.ssh"/authorized_keys
    echo "host$n" > "$dir/tree/etc/hostname"
    printf '127.0.0.1 localhost\n127.0.1.1 host%s\n' "$n" > "$dir/tree/etc/hosts"
    : > "$dir/tree/etc/machine-id"
    ip netns add "$host" 2> /dev/null || true
    if ! ip -netns "$host" link show eth0 > /dev/null 2>&1; then
        ip link add "v$n" netns depctl type veth peer name eth0 netns "$host"
        ip -netns depctl link set "v$n" master bridge up
        ip -netns "$host" addr add "10.98.0.$((10 + n))/24" dev eth0
        ip -netns "$host" link set eth0 up
        ip -netns "$host" link set lo up
    fi
    # There is no systemd outside, so no registration there and no scope of its own.
    setsid systemd-nspawn --quiet --boot --register=no --keep-unit --machine="$host" \
        --network-namespace-path="/run/netns/$host" --directory="$dir/tree" \
        --resolv-conf=off --link-journal=no --notify-ready=no \
        > "$dir/console.log" 2>&1 < /dev/null &
    echo $! > "$dir/pid"
}

case $action in
    up)
        if [ ! -d "$debian/usr" ]; then
            rm -rf "$debian.new"
            debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,openssh-server,\
python3-minimal,python3-apt,iproute2,procps,sudo,ca-certificates,libstdc++6,adduser \
                bookworm "$debian.new" > "$cache/debian.log" 2>&1
            mv "$debian.new" "$debian"
        fi
        mkdir -p "$work"
        [ -f "$key" ] || ssh-keygen -q -t ed25519 -N '' -f "$key"
        ip netns add depctl 2> /dev/null || true
        ip -netns depctl link show bridge > /dev/null 2>&1 \
            || ip -netns depctl link add bridge type bridge
        ip -netns depctl addr replace 10.98.0.1/24 dev bridge
        ip -netns depctl link set bridge up
        ip -netns depctl link set lo up
        for n in $(seq "${1:?how many}"); do
            runs "$work/host$n" || boot "$n"
        done
        for n in $(seq "$1"); do
            eventually 60 on_host "$n" true
        done
        ;;
    run) exec ip netns exec depctl "$@" ;;
    ssh) on_host "$@" ;;
    cut) kill -9 "$(pgrep --parent "$(cat "$work/host${1:?which host}/pid")")" ;;
    down)
        for dir in "$work"/host*; do
            [ -d "$dir" ] || continue
            runs "$dir" && kill -9 "$(pgrep --parent "$(cat "$dir/pid")")"
            for _ in $(seq 50); do
                umount "$dir/tree" 2> /dev/null && break
                mountpoint --quiet "$dir/tree" || break
                sleep 0.2
            done
            ip netns del "dep${dir##*/host}" 2> /dev/null || true
            rm -rf "$dir"
        done
        ip netns del depctl 2> /dev/null || true
        ;;
    *) fail "up, run, ssh, cut or down, not $action" ;;
esac
