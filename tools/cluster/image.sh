#!/usr/bin/env bash
# Builds what the Containerfile builds, from a Debian root filesystem: for machines that reach no image registry.
#
#   image.sh NAME:TAG OUT.tar
#
# Needs root and debootstrap. The root filesystem is kept in the cache and is the image's first layer; the project and
# its dependencies are the second, so a change of the project is rebuilt in seconds.
set -euo pipefail
[ $# = 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
name=$1 out=$(realpath -m "$2")
suite=bookworm python=3.11
cache=${XDG_CACHE_HOME:-$HOME/.cache}/fairlead
base=$cache/$suite-python.tar
mkdir -p "$cache"
exec 9>"$cache/.image-lock"; flock 9

if [ ! -f "$base" ]; then
  echo "$(date +%T)  making the base layer ($suite), once" >&2
  command -v debootstrap >/dev/null || { echo "image.sh: install debootstrap" >&2; exit 1; }
  tree=$(mktemp -d); trap 'rm -rf "$tree"' EXIT
  debootstrap --variant=minbase --include=python3-minimal,libpython3-stdlib,ca-certificates "$suite" "$tree" >&2
  rm -rf "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/* "$tree"/usr/share/{doc,man,locale,info} "$tree"/var/log/*
  mkdir -p "$tree/var/lib/fairlead"; chown 65532:65532 "$tree/var/lib/fairlead"
  tar -C "$tree" --exclude=./proc/* --exclude=./sys/* --exclude=./dev/* -cf "$base.part" .
  mv "$base.part" "$base"
fi

app=$(mktemp -d); trap 'rm -rf "$app" ${tree:+"$tree"}' EXIT
echo "$(date +%T)  installing the project" >&2
wheels=$app/wheels; mkdir -p "$wheels"
"${PYTHON:-$root/.venv/bin/python}" -m pip wheel -q --no-deps --wheel-dir "$wheels" "$root" >&2
"${PYTHON:-$root/.venv/bin/python}" -m pip install -q --no-compile --target "$app/tree/opt/fairlead" --python-version $python \
  --implementation cp --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
  --only-binary=:all: "$wheels"/fairlead-*.whl >&2
mkdir -p "$app/tree/usr/bin"
printf '#!/bin/sh\nexec /usr/bin/python3 -m fairlead "$@"\n' >"$app/tree/usr/bin/fairlead"
chmod 755 "$app/tree/usr/bin/fairlead"
tar -C "$app/tree" --owner=0 --group=0 -cf "$app/layer.tar" .
python3 "$here/mkimage.py" "$name" "$out" --layer "$base" --layer "$app/layer.tar" --user 65532:65532 \
  --env PYTHONPATH=/opt/fairlead --env PYTHONDONTWRITEBYTECODE=1 --env PYTHONUNBUFFERED=1 --entrypoint /usr/bin/fairlead
echo "$(date +%T)  $name is in $out ($(du -h "$out" | cut -f1))" >&2
