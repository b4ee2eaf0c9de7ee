#!/usr/bin/env python3
"""Load on a cluster through the program that users run, and an account of every answer.

    load.py PROGRAM STREAM SECONDS ADDRESS…      SIGTERM ends it before its time

Each request appends a few events under a producer of its own, so that a retry at another node can
add nothing twice. A request that no node has acknowledged within PATIENCE seconds has failed. Every
QUERY_EVERY requests the events are counted: an answer may never show fewer than were acknowledged
before it was asked. At the end what was acknowledged is compared with what is there, event by
event. Prints one JSON object; exits 1 if a request failed, or an event is missing or there twice.
"""

import collections
import itertools
import json
import signal
import subprocess
import sys
import time

PATIENCE = 30.0
EVENTS_PER_REQUEST = 5
QUERY_EVERY = 5


class Cluster:
    """The nodes by their addresses; a request goes to the next one when one does not answer."""

    def __init__(self, program, addresses):
        self.program = program
        self.addresses = itertools.cycle(addresses)
        self.retries = 0
        self.slowest = 0.0

    def ask(self, arguments, given=""):
        """The output of one command, or None when no node has carried it out in time."""
        begun = time.monotonic()
        while time.monotonic() - begun < PATIENCE:
            command = [self.program, *arguments, "--addr", next(self.addresses)]
            try:
                done = subprocess.run(
                    command, input=given, text=True, capture_output=True, timeout=PATIENCE
                )
            except subprocess.TimeoutExpired:
                self.retries += 1
                continue
            if done.returncode == 0:
                self.slowest = max(self.slowest, time.monotonic() - begun)
                return done.stdout
            self.last_error = done.stderr.strip()
            self.retries += 1
            time.sleep(0.2)
        print(f"failed: {' '.join(arguments)}: {self.last_error}", file=sys.stderr)
        return None

    def sql(self, statement):
        answer = self.ask(["sql", "--format", "json", "-e", statement])
        return None if answer is None else json.loads(answer)


def main():
    program, stream, seconds, addresses = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:]
    cluster = Cluster(program, addresses)
    run = time.time_ns()
    acknowledged, failed, behind, queries = [], 0, 0, 0
    end = time.monotonic() + seconds
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    for request in itertools.count():
        if stopped or end <= time.monotonic():
            break
        events = [run + request * EVENTS_PER_REQUEST + n for n in range(EVENTS_PER_REQUEST)]
        given = "".join(json.dumps({"n": n}) + "\n" for n in events)
        arguments = ["ingest", "--quiet", "--file-format", "ndjson"]
        arguments += ["--producer", f"load-{run}-{request}", stream, "-"]
        if cluster.ask(arguments, given) is None:
            failed += 1
        else:
            acknowledged += events
        if request % QUERY_EVERY == 0:
            queries += 1
            answer = cluster.sql(f"SELECT count(*) AS c FROM {stream} WHERE n >= {run}")
            if answer is None:
                failed += 1
            elif answer[0]["c"] < len(acknowledged):
                behind += 1
    there = cluster.sql(f"SELECT n FROM {stream} WHERE n >= {run}") or []
    counts = collections.Counter(row["n"] for row in there)
    account = {
        "requests": request,
        "queries": queries,
        "acknowledged_events": len(acknowledged),
        "failed_requests": failed,
        "answers_behind": behind,
        "missing_events": sum(1 for n in acknowledged if n not in counts),
        "doubled_events": sum(1 for count in counts.values() if 1 < count),
        "retries": cluster.retries,
        "slowest_seconds": round(cluster.slowest, 2),
    }
    print(json.dumps(account))
    wrong = ["failed_requests", "answers_behind", "missing_events", "doubled_events"]
    sys.exit(1 if any(account[what] for what in wrong) or not acknowledged else 0)


if __name__ == "__main__":
    main()
