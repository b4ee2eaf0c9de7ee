#!/usr/bin/env bash
# Packs a program that is built already into an image: what deploy/Dockerfile compiles, without
# the compiling.
#
#   deploy/image.sh PROGRAM TAG [BASE]
#
# Uses `docker`, else `buildah`; CONTAINER_BUILD names another command that takes the arguments of
# `docker build`.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
program=${1:?a program, such as target/release/alluvium}
tag=${2:?a tag, such as alluvium:dev}
base=${3:-${BASE:-gcr.io/distroless/cc-debian12:nonroot}}

if [ -z "${CONTAINER_BUILD:-}" ]; then
    if docker info > /dev/null 2>&1; then
        CONTAINER_BUILD='docker build'
    elif command -v buildah > /dev/null; then
        CONTAINER_BUILD='buildah bud --format docker'
    else
        echo 'neither a Docker engine nor buildah is here' >&2
        exit 1
    fi
fi

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
mkdir -p "$context/image/usr/bin" "$context/image/var/lib/alluvium"
install -m 0755 "$program" "$context/image/usr/bin/alluvium"
version=$("$program" version | sed -n 's/^alluvium \([0-9][^ ]*\).*/\1/p')

# The end of deploy/Dockerfile is the one description of the image; only where the files come from
# differs.
# shellcheck disable=SC2016
sed -e '/^FROM \${RUST}/,/^$/d' -e 's/ --from=build / /' "$here/Dockerfile" > "$context/Dockerfile"
# shellcheck disable=SC2086
$CONTAINER_BUILD --build-arg "BASE=$base" --build-arg "VERSION=$version" \
    --file "$context/Dockerfile" --tag "$tag" "$context"
