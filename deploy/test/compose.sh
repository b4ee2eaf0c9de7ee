#!/usr/bin/env bash
# The Compose file, run: image, three nodes, one container killed under load, down and up again.
#
# With a Docker engine it runs there; else with podman in namespaces of its own. Changes nothing
# outside the cache and a scratch folder.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

if [ "${1:-}" != inside ]; then
    program=$(program) || skip_all 'containers: there is no program yet (cargo build)'
    scratch=$(mktemp -d)
    export DEP_PROGRAM=$program DEP_SCRATCH=$scratch
    if docker info > /dev/null 2>&1; then
        docker pull --quiet gcr.io/distroless/cc-debian12:nonroot > /dev/null \
            || skip_all 'containers: the base image cannot be fetched'
        trap 'rm -rf "$scratch"' EXIT
        DEP_ENGINE=docker "$0" inside
        exit 0
    fi
    for tool in podman buildah nsenter dpkg-deb; do
        has "$tool" || skip_all "containers: neither a Docker engine nor $tool is here"
    done
    environment=$(venv compose) || skip_all 'containers: podman-compose could not be installed'
    unshare --mount --net true 2> /dev/null \
        || skip_all 'containers: namespaces of mounts and networks may not be made here'
    # In there no package can be fetched any more.
    [ -e "$cache/base/etc/passwd" ] || "$root/deploy/test/base.sh" "$cache/base" \
        || skip_all 'containers: the packages of a base image cannot be fetched'
    pod=$root/deploy/test/pod.sh
    trap '"$pod" "$scratch/pod" down; umount -R "$scratch/pod/images" 2> /dev/null || true
        rm -rf "$scratch"' EXIT
    mkdir -p "$scratch/pod"
    "$pod" "$scratch/pod" up
    export DEP_ENGINE=podman PATH=$environment/bin:$PATH
    "$pod" "$scratch/pod" exec "$0" inside
    exit 0
fi

program=$DEP_PROGRAM
scratch=$DEP_SCRATCH
addresses=(127.0.0.1:7400 127.0.0.1:7410 127.0.0.1:7420)

say 'the image'
if [ "$DEP_ENGINE" = docker ]; then
    base=gcr.io/distroless/cc-debian12:nonroot
    prometheus=yes
else
    # What a user of Docker types, for podman-compose.
    docker() {
        case $1 in
            compose) shift && podman-compose "$@" ;;
            *) podman "$@" ;;
        esac
    }
    tar -C "$cache/base" -c . | podman import --quiet - localhost/base > /dev/null
    base=localhost/base
    export CONTAINER_BUILD='buildah bud --format docker --isolation chroot'
    prometheus=
    # The program as Debian has it, where Prometheus' own image cannot be fetched.
    if has prometheus; then
        mkdir -p "$scratch/prometheus/bin" "$scratch/prometheus/prometheus"
        cp -r "$cache/base/." "$scratch/prometheus/"
        cp "$(command -v prometheus)" "$scratch/prometheus/bin/prometheus"
        chown 65532:65532 "$scratch/prometheus/prometheus"
        tar -C "$scratch/prometheus" -c . | podman import --quiet \
            --change 'ENTRYPOINT ["/bin/prometheus"]' --change 'USER 65532:65532' \
            --change 'VOLUME /prometheus' - localhost/prometheus > /dev/null
        export PROMETHEUS_IMAGE=localhost/prometheus
        prometheus=yes
    else
        printf 'skipped: no Prometheus beside the nodes: its image cannot be had here\n'
        # Something must stand in its place for `up` to succeed.
        export PROMETHEUS_IMAGE=localhost/base
    fi
fi
tag=alluvium:latest
export ALLUVIUM_MEMORY_BYTES=128MB
# A copy of the repository, with the program where cargo would have put it.
mkdir -p "$scratch/repository/target/release"
cp -r "$root/deploy" "$root/examples" "$scratch/repository/"
cp "$program" "$scratch/repository/target/release/alluvium"
cd "$scratch/repository"
cargo() { [ "$*" = 'build --release --package alluvium' ]; }
export BASE=$base
walk 'cargo build --release --package alluvium'
walk 'deploy/image.sh target/release/alluvium alluvium:latest' > "$scratch/image.log" 2>&1 \
    || { cat "$scratch/image.log"; fail 'the image could not be built'; }
size=$("$DEP_ENGINE" image inspect "$tag" --format '{{.Size}}')
[ "$size" -lt 200000000 ] || fail "the image has $size bytes, more than 200 MB"
user=$("$DEP_ENGINE" image inspect "$tag" --format '{{.Config.User}}')
[ "$user" = 65532:65532 ] || fail "the image runs as $user"
"$DEP_ENGINE" run --rm "$tag" version | grep --quiet '^alluvium ' || fail 'the image does not run'
pass "the image has $((size / 1000000)) MB, runs as $user"

# Ends everything even when a check fails on the way.
trap 'docker compose --file deploy/compose.yaml --profile data down --volumes > /dev/null 2>&1 || true' EXIT

sql() { "$program" sql --addr "$1" --format json -e "$2"; }
ready() { for port in 7402 7412 7422; do curl -fs "http://127.0.0.1:$port/readyz" || return 1; done; }
# True when the cluster has no partition with too few replicas, asked of each node.
whole() {
    local address
    for address in "${addresses[@]}"; do
        "$program" status --addr "$address" --format json | python3 -c '
import json, sys
status = json.load(sys.stdin)
alive = sum(node["alive"] for node in status["nodes"])
sys.exit(not (alive == 3 and status["partitions_at_risk"] == 0))' || return 1
    done
}

say 'up'
walk 'docker compose --file deploy/compose.yaml up --detach' > "$scratch/up.log" 2>&1 \
    || { cat "$scratch/up.log"; fail 'compose up'; }
eventually 120 ready
eventually 60 whole
sql "${addresses[0]}" 'CREATE STREAM load (n BIGINT NOT NULL) PARTITION BY (n)
    WITH (partitions = 4)' > /dev/null
sql "${addresses[0]}" 'INSERT INTO load VALUES (1), (2), (3)' > /dev/null
for address in "${addresses[@]}"; do
    [ "$(sql "$address" 'SELECT count(*) AS c FROM load')" = '[{"c":3}]' ] \
        || fail "$address answers otherwise"
done
pass 'three nodes answer SQL'

say 'the data of docs/DEPLOY.md'
walk 'docker compose --file deploy/compose.yaml --profile data up --detach streams events' \
    > "$scratch/data.log" 2>&1 || { cat "$scratch/data.log"; fail 'compose --profile data up'; }
counted() {
    [ "$(sql "${addresses[1]}" 'SELECT count(*) AS c FROM sales')" = '[{"c":49574}]' ]
}
eventually 60 counted
walk 'docker compose --file deploy/compose.yaml exec node1 alluvium sql -e "SELECT count(*) FROM sales"' \
    > "$scratch/exec.log" 2>&1 || { cat "$scratch/exec.log"; fail 'compose exec'; }
grep --quiet 49574 "$scratch/exec.log" || fail 'compose exec answers otherwise'
pass '49,574 events of examples/pizza-orders are there'

if [ -n "$prometheus" ]; then
    scraped() {
        curl -fs 'http://127.0.0.1:9090/api/v1/query?query=sum(alluvium_streams)' \
            | python3 -c 'import json, sys
result = json.load(sys.stdin)["data"]["result"]
sys.exit(not (result and result[0]["value"][1] == "6"))'
    }
    eventually 60 scraped
    pass 'Prometheus sees all three nodes'
fi

say 'one container killed under load'
eventually 60 whole
python3 "$root/deploy/test/load.py" "$program" load 20 "${addresses[@]}" > "$scratch/load.json" \
    2> "$scratch/load.err" &
load=$!
eventually 30 sh -c "[ \"\$('$program' sql --addr ${addresses[0]} --format csv \
    -e 'SELECT count(*) FROM load' | tail -1)\" -gt 20 ]"
victim=$("$DEP_ENGINE" ps --format '{{.Names}}' | grep node2)
"$DEP_ENGINE" kill --signal KILL "$victim" > /dev/null
wait "$load" || { cat "$scratch/load.err" "$scratch/load.json"; fail 'the load was not all served'; }
cat "$scratch/load.json"
pass 'no acknowledged event lost, no request failed'
"$DEP_ENGINE" start "$victim" > /dev/null
eventually 60 ready
eventually 60 whole
pass 'the killed one is back'

say 'down and up'
before=$(sql "${addresses[0]}" 'SELECT count(*) AS c, min(n) AS first, max(n) AS last FROM load')
walk 'docker compose --file deploy/compose.yaml down' > "$scratch/down.log" 2>&1 \
    || { cat "$scratch/down.log"; fail 'compose down'; }
walk 'docker compose --file deploy/compose.yaml up --detach' > "$scratch/up.log" 2>&1 \
    || { cat "$scratch/up.log"; fail 'compose up again'; }
eventually 120 ready
after=$(sql "${addresses[2]}" 'SELECT count(*) AS c, min(n) AS first, max(n) AS last FROM load')
[ "$before" = "$after" ] || fail "there were $before, there are $after"
pass "all there: $after"
finish
