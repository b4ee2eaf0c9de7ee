# Shared by the scripts of this folder; sourced, not run.
#
# Everything that takes long to make (environments, a Debian to boot) is kept in a cache outside
# the repository, and everything else below a scratch folder that goes away at the end.
# shellcheck shell=bash

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${ALLUVIUM_DEPLOY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/alluvium/deploy}
started=$SECONDS
passed=0
mkdir -p "$cache"

say() { printf '\n-- %s [%s s]\n' "$*" "$((SECONDS - started))"; }

# One thing that was asserted and held.
pass() {
    passed=$((passed + 1))
    printf 'ok    %s\n' "$*"
}

fail() {
    printf 'FAIL  %s\n' "$*" >&2
    exit 1
}

# What cannot be checked on this machine: counted by whoever reads the output, and no failure.
skip_all() {
    printf 'skipped: %s\n' "$*"
    finish
    exit 0
}

# The closing line, in the form of Rust's tests: `cargo xtask test` counts it.
finish() {
    printf 'test result: ok. %s passed; 0 failed; 0 ignored; finished in %s s\n' \
        "$passed" "$((SECONDS - started))"
}

has() { command -v "$1" > /dev/null; }

# Runs a command until it succeeds: eventually SECONDS COMMAND…
eventually() {
    local end=$((SECONDS + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "never: $*"
        sleep 0.3
    done
}

# A virtual environment with the packages that requirements-NAME.txt pins; prints its folder.
venv() {
    local name=$1 wanted
    wanted=$root/deploy/test/requirements-$name.txt
    local dir=$cache/venv-$name
    if ! cmp -s "$wanted" "$dir/installed.txt"; then
        rm -rf "$dir"
        python3 -m venv "$dir" 1>&2
        "$dir/bin/pip" install --quiet --disable-pip-version-check --prefer-binary \
            -r "$wanted" 1>&2 || return 1
        cp "$wanted" "$dir/installed.txt"
    fi
    printf '%s\n' "$dir"
}

# The program under test: ALLUVIUM_PROGRAM, else the newest that cargo has built. Stripped, because
# a debug build's symbols are two thirds of an image or a package.
program() {
    local found=${ALLUVIUM_PROGRAM:-} built
    local caches=${XDG_CACHE_HOME:-$HOME/.cache}
    if [ -z "$found" ]; then
        for built in {"${CARGO_TARGET_DIR:-$root/target}","$root/target","$caches/alluvium/target"}/{release,debug}/alluvium; do
            if [ -x "$built" ] && { [ -z "$found" ] || [ "$built" -nt "$found" ]; }; then
                found=$built
            fi
        done
    fi
    [ -n "$found" ] || return 1
    local kept=$cache/program/alluvium
    if [ "$(stat --format '%n %Y %s' "$found")" != "$(cat "$kept.from" 2> /dev/null)" ]; then
        mkdir -p "$cache/program"
        strip -o "$kept.new" "$found"
        mv "$kept.new" "$kept"
        stat --format '%n %Y %s' "$found" > "$kept.from"
    fi
    printf '%s\n' "$kept"
}

# The version that the program says it has.
version_of() { "$1" version | sed -n 's/^alluvium \([0-9][^ ]*\).*/\1/p'; }

# Runs a command of docs/DEPLOY.md as it stands there, in the present folder. Written in one line and
# with single quotes: documents.sh looks for it.
walk() {
    grep --quiet --fixed-strings --line-regexp -- "$1" "$root/docs/DEPLOY.md" \
        || fail "docs/DEPLOY.md does not say: $1"
    printf '+ %s\n' "$1"
    eval "$1"
}
