#!/usr/bin/env bash
# Every command of docs/DEPLOY.md is walked by a script of this folder, each way is at most ten of
# them, and every script is sound.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

say 'docs/DEPLOY.md'
document=$root/docs/DEPLOY.md
count=0
while IFS= read -r command; do
    count=$((count + 1))
    grep --quiet --fixed-strings -- "walk '$command'" "$root"/deploy/test/*.sh \
        || fail "no script walks: $command"
done < <(awk '/^```sh$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$document")
[ "$count" -gt 20 ] || fail "only $count commands were found"
awk '/^```sh$/ { inside = 1; n = 0; next }
    /^```$/ { if (inside && n > 10) { print "more than ten commands before line " NR; exit 1 }
        inside = 0 }
    inside { n++ }' "$document" || fail 'a way is too long'
pass "each of its $count commands is walked by a script"

say 'scripts'
if has shellcheck; then
    (cd "$root" && shellcheck --external-sources deploy/*.sh deploy/*/*.sh deploy/debian/p[or]*) \
        || fail shellcheck
    pass shellcheck
else
    printf 'skipped: shellcheck is not here\n'
fi
for script in "$root"/deploy/*/*.py "$root"/deploy/*/*/*.py; do
    python3 -c 'import ast, sys; ast.parse(open(sys.argv[1], encoding="utf-8").read())' "$script"
done
pass 'the Python of them can be read'
finish
