#!/usr/bin/env bash
# Containers on a machine without a container engine: podman in a mount and a network namespace of
# its own, so that its bridges never touch the machine's network.
#
# Debian's podman (4.3) needs three things said to it where a machine is itself a container: limits
# below the hard ones, no control groups, and a /sys/fs/cgroup that shows version 2 only.
#
#   pod.sh WORKDIR up | exec COMMAND… | down
set -euo pipefail

work=${1:?a folder for images and containers}
action=${2:?up, exec or down}
shift 2
export CONTAINERS_CONF=$work/containers.conf
export CONTAINERS_STORAGE_CONF=$work/storage.conf
export CONTAINERS_REGISTRIES_CONF=$work/registries.conf
export XDG_RUNTIME_DIR=$work/run
export BUILDAH_ISOLATION=chroot

case $action in
    up)
        mkdir -p "$work/run" "$work/images" "$work/state" "$work/net" "$work/tmp"
        cat > "$CONTAINERS_CONF" <<CONF
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=1024:2048"]
cgroups = "disabled"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
image_copy_tmp_dir = "$work/tmp"
[network]
network_config_dir = "$work/net"
CONF
        cat > "$CONTAINERS_STORAGE_CONF" <<CONF
[storage]
driver = "overlay"
runroot = "$work/state"
graphroot = "$work/images"
CONF
        printf 'unqualified-search-registries = []\n' > "$CONTAINERS_REGISTRIES_CONF"
        # shellcheck disable=SC2016
        setsid unshare --mount --net sh -c '
            umount -R /sys/fs/cgroup
            mount -t cgroup2 none /sys/fs/cgroup
            ip link set lo up
            echo ready > "$1/run/ready"
            exec sleep infinity' pod "$work" > "$work/pod.log" 2>&1 < /dev/null &
        echo $! > "$work/pid"
        for _ in $(seq 50); do
            [ -e "$work/run/ready" ] && exit 0
            sleep 0.1
        done
        cat "$work/pod.log" >&2
        exit 1
        ;;
    exec)
        exec nsenter --target "$(cat "$work/pid")" --mount --net --wdns="$PWD" "$@"
        ;;
    down)
        kill "$(cat "$work/pid")" 2> /dev/null || true
        # Storage that is still mounted in the namespace goes with its last process.
        for _ in $(seq 50); do
            kill -0 "$(cat "$work/pid")" 2> /dev/null || break
            sleep 0.1
        done
        ;;
    *)
        echo 'up, exec or down' >&2
        exit 2
        ;;
esac
