#!/usr/bin/env python3
"""Compares what the chart renders with what kustomize makes, and both with the shipped alerts.

    manifests.py core FILE             prints the documents of Kubernetes' own kinds
    manifests.py same CHART KUSTOMIZE ALERTS

Labels that say which tool has made an object, and Helm's test pod, differ by nature.
"""

import json
import sys

import yaml

TOOLS_LABELS = ["app.kubernetes.io/version", "app.kubernetes.io/managed-by"]


def documents(path):
    with open(path, encoding="utf-8") as file:
        return [document for document in yaml.safe_load_all(file) if document]


def plain(document):
    """A document without what only names its tool."""
    labels = document["metadata"].get("labels", {})
    for label in TOOLS_LABELS:
        labels.pop(label, None)
    pod = document.get("spec", {}).get("template")
    if document["kind"] == "StatefulSet":
        # Kustomize puts the labels into the claims too.
        for claim in document["spec"]["volumeClaimTemplates"]:
            claim["metadata"].pop("labels", None)
        pod["metadata"].pop("creationTimestamp", None)
    return document


def by_name(path):
    found = {}
    for document in documents(path):
        if "helm.sh/hook" in document["metadata"].get("annotations", {}):
            continue
        found[(document["kind"], document["metadata"]["name"])] = plain(document)
    return found


def same(chart_path, kustomize_path, alerts_path):
    chart, kustomize = by_name(chart_path), by_name(kustomize_path)
    differing = [key for key in {*chart, *kustomize} if chart.get(key) != kustomize.get(key)]
    for key in differing:
        print(f"{key} differs", file=sys.stderr)
        for name, side in (("chart", chart), ("kustomize", kustomize)):
            print(name, json.dumps(side.get(key), sort_keys=True), file=sys.stderr)
    rule = chart[("PrometheusRule", "alluvium")]["spec"]
    if rule != documents(alerts_path)[0]:
        differing.append("the alerts are not those of deploy/monitoring/alerts.yaml")
        print(differing[-1], file=sys.stderr)
    print(f"{len(chart)} objects")
    return not differing


def main():
    if sys.argv[1] == "core":
        ours = [d for d in documents(sys.argv[2]) if "monitoring.coreos" not in d["apiVersion"]]
        print(yaml.safe_dump_all(ours))
        return True
    return same(*sys.argv[2:])


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
