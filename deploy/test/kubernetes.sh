#!/usr/bin/env bash
# The chart and the kustomize base: rendered, compared with each other, and checked strictly against
# the schemas of two Kubernetes versions. No API server has seen them.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

environment=$(venv kubernetes) || skip_all 'kubernetes: kubernetes-validate could not be installed'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chart=$root/deploy/helm/alluvium
manifests() { "$environment/bin/python" "$root/deploy/test/manifests.py" "$@"; }

if has helm; then
    render() {
        local release=$1
        shift
        # shellcheck disable=SC2046
        command helm template "$release" "$chart" $(printf -- '--values %s ' "$@")
    }
else
    has go || skip_all 'kubernetes: neither helm nor golang-go is here'
    helmlite=$cache/helmlite
    if [ ! -x "$helmlite" ] || [ "$root/deploy/tools/helmlite/main.go" -nt "$helmlite" ]; then
        (cd "$root/deploy/tools/helmlite" && GO111MODULE=off GOCACHE=$cache/go-build \
            GOPATH=$work/go:/usr/share/gocode go build -p 1 -o "$helmlite" .) \
            || skip_all 'kubernetes: golang-github-masterminds-sprig-dev and golang-k8s-sigs-yaml-dev'
    fi
    render() {
        local release=$1
        shift
        "$helmlite" "$release" "$chart" "$@"
    }
fi

say 'values'
for values in "$chart"/ci/*.yaml; do
    "$environment/bin/check-jsonschema" --schemafile "$chart/values.schema.json" "$values" \
        > "$work/schema.log" || { cat "$work/schema.log"; fail "$values"; }
done
for wrong in 'replicas: three' 'storage: { size: much }' 'insecur: true' 'config: { LOG: info }'; do
    printf 'insecure: true\n%s\n' "$wrong" > "$work/wrong.yaml"
    "$environment/bin/check-jsonschema" --schemafile "$chart/values.schema.json" \
        "$work/wrong.yaml" > /dev/null && fail "the schema lets through: $wrong"
done
"$environment/bin/check-jsonschema" --check-metaschema "$chart/values.schema.json" > /dev/null
pass 'values.schema.json takes what is right and refuses what is wrong'

say 'render'
printf 'insecure: false\n' > "$work/unsaid.yaml"
render alluvium "$work/unsaid.yaml" > /dev/null 2> "$work/unsaid.log" \
    && fail 'it renders without being told that the network is trusted'
grep --quiet 'set insecure=true' "$work/unsaid.log" || fail 'the message does not say what to do'
printf 'insecure: true\nmonitoring: { serviceMonitor: true, prometheusRule: true }\n' \
    > "$work/monitored.yaml"
render alluvium "$work/monitored.yaml" > "$work/chart.yaml"
for values in "$chart"/ci/*.yaml; do
    render "$(basename "$values" .yaml)" "$values" > "$work/$(basename "$values")"
done
pass "$(find "$chart/ci" -name '*.yaml' | wc -l) sets of values"

say 'kustomize'
if has kubectl && kubectl kustomize "$root/deploy/kustomize/monitoring" > "$work/kustomize.yaml"; then
    objects=$(manifests same "$work/chart.yaml" "$work/kustomize.yaml" \
        "$root/deploy/monitoring/alerts.yaml") || fail 'chart and kustomize base differ'
    pass "chart and kustomize base make the same $objects"
else
    printf 'skipped: kubectl is not here: kustomize was not run\n'
fi

say 'the commands of docs/DEPLOY.md'
# Without a cluster: `helm` renders and `kubectl` builds, and what they would send is checked below.
# What only a cluster answers is looked up in what would have been sent.
helm() {
    case "$1 $2" in
        'install alluvium' | 'upgrade alluvium')
            printf 'insecure: true\n' > "$work/walked-values.yaml"
            case $* in *replicas=5*) printf 'replicas: 5\n' >> "$work/walked-values.yaml" ;; esac
            (cd "$root" && render alluvium "$work/walked-values.yaml") > "$work/walked-$1.yaml"
            [ -d "$3" ]
            ;;
        'test alluvium') grep --quiet 'helm.sh/hook: test' "$work/walked-install.yaml" ;;
        *) return 1 ;;
    esac
}
kubectl() {
    case "$1 $2" in
        'apply --kustomize') command kubectl kustomize "$3" > "$work/walked-apply.yaml" ;;
        'rollout status') grep --quiet 'kind: StatefulSet' "$work/walked-apply.yaml" ;;
        'exec alluvium-0') grep --quiet 'value: alluvium-0.alluvium-peers' "$work/walked-apply.yaml" ;;
        *) return 1 ;;
    esac
}
cd "$root"
walk 'helm install alluvium deploy/helm/alluvium --set insecure=true'
walk 'helm test alluvium'
walk 'helm upgrade alluvium deploy/helm/alluvium --reuse-values --set replicas=5'
seeds() { sed -n '/name: ALLUVIUM_SEEDS/{n;p}' "$work/walked-$1.yaml"; }
[ "$(seeds install)" = "$(seeds upgrade)" ] || fail 'more replicas change the pods that are there'
if [ -s "$work/kustomize.yaml" ]; then
    walk 'kubectl apply --kustomize deploy/kustomize/base'
    walk 'kubectl rollout status statefulset/alluvium'
    walk 'kubectl exec alluvium-0 -- alluvium node list'
fi
pass 'they make what they say; no API server was asked'

say 'schemas'
sed 's/publishNotReadyAddresses/publishNotReadyAdresses/' "$work/chart.yaml" > "$work/broken.yaml"
for version in 1.30 1.34; do
    for rendered in "$work"/{chart,kustomize,least,everything,walked-upgrade}.yaml; do
        [ -s "$rendered" ] || continue
        manifests core "$rendered" > "$work/core.yaml"
        "$environment/bin/kubernetes-validate" --strict -k "$version" "$work/core.yaml" \
            > "$work/validate.log" 2>&1 || { cat "$work/validate.log"; fail "$rendered, $version"; }
    done
    manifests core "$work/broken.yaml" > "$work/core.yaml"
    "$environment/bin/kubernetes-validate" --strict -k "$version" "$work/core.yaml" \
        > /dev/null 2>&1 && fail "Kubernetes $version: a misspelt key passes"
    pass "Kubernetes $version"
done

say 'alerts and dashboard'
if has promtool; then
    promtool check rules "$root/deploy/monitoring/alerts.yaml" > /dev/null
    promtool test rules "$root/deploy/monitoring/alerts_test.yaml" > "$work/rules.log" 2>&1 \
        || { cat "$work/rules.log"; fail 'alerts_test.yaml'; }
    promtool check config --syntax-only "$root/deploy/monitoring/prometheus.yaml" > /dev/null
    "$environment/bin/python" - "$root/deploy/monitoring/grafana/alluvium.json" \
        > "$work/queries.yaml" <<'PYTHON'
import json
import sys

import yaml

# Each query of the dashboard as a rule, with its variables filled in: promtool reads rules only.
panels = json.load(open(sys.argv[1], encoding="utf-8"))["panels"]
queries = [target["expr"] for panel in panels for target in panel["targets"]]
filled = [q.replace("$__rate_interval", "5m").replace("$job", ".*") for q in queries]
rules = [{"record": f"query:{n}", "expr": query} for n, query in enumerate(filled)]
print(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
PYTHON
    promtool check rules "$work/queries.yaml" > "$work/queries.log" 2>&1 \
        || { cat "$work/queries.log"; fail 'a query of the dashboard'; }
    pass "alerts, their tests, $(grep --count expr "$work/queries.yaml") queries of the dashboard"
else
    printf 'skipped: promtool is not here: alerts and dashboard were not checked\n'
fi
finish
