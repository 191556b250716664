#!/usr/bin/env bash
# Prints the path of an image's tar, and builds what is missing, for machines that reach no image registry.
#
#   image.sh fairlead   fairlead:VERSION, what the Containerfile builds, on a Debian root filesystem
#   image.sh postgres   postgres:15, with the variables and the folder of SQL files of the official image
#
# Needs root and the packages of packages.sh. Layers are kept in the cache: the root filesystem (a minute or two, once),
# the dependencies (a minute, once for each change of them), the project (seconds, once for each change of it).
set -euo pipefail
usage() { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
[ $# = 1 ] || usage
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
kind=$1
host_python=${PYTHON:-$root/.venv/bin/python}
suite=bookworm python=3.11
machine=$(uname -m)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/fairlead/images
mkdir -p "$cache"
exec 9>"$cache/.lock"; flock 9  # two runs must not build the same twice
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT

say() { printf '%s  %s\n' "$(date +%T)" "$*" >&2; }

# key FILE-OR-FOLDER...: one word for their contents, and for this script's.
key() {
  (cd "$root" && find "$@" "$here/image.sh" -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 cat) \
    | sha256sum | cut -c1-16
}

# keep PREFIX FILE NAME: moves a finished file into the cache, in place of its forerunners.
keep() { rm -f "$cache/$1"-*; mv "$2" "$cache/$3"; }

# base NAME PACKAGE,...: makes the layer of a Debian with these packages, and of the user that pods run as.
base() {
  local file tree=$work/$1; file=$(base_layer "$1")
  [ ! -f "$file" ] || return 0
  say "making a Debian $suite with $2, once"
  debootstrap --variant=minbase --include="$2" "$suite" "$tree" >"$work/debootstrap.log" 2>&1 \
    || { tail -n 15 "$work/debootstrap.log" >&2; exit 1; }
  echo 'fairlead:x:65532:65532::/var/lib/fairlead:/usr/sbin/nologin' >>"$tree/etc/passwd"
  echo 'fairlead:x:65532:' >>"$tree/etc/group"
  mkdir -p "$tree/var/lib/fairlead"; chown 65532:65532 "$tree/var/lib/fairlead"
  rm -rf "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/* "$tree"/var/lib/postgresql/* "$tree"/var/log/* \
    "$tree"/usr/share/{doc,man,locale,info,i18n}
  # PostgreSQL compiles queries with LLVM where it is there; it takes half of the layer
  rm -rf "$tree"/usr/lib/*/lib{LLVM,z3}* "$tree"/usr/lib/postgresql/*/lib/{bitcode,llvmjit*}
  tar -C "$tree" --exclude='./proc/*' --exclude='./sys/*' --exclude='./dev/*' -cf "$work/base.tar" .
  keep "base-$1" "$work/base.tar" "${file##*/}"
}
base_layer() { echo "$cache/base-$1-$suite-$machine-$(declare -f base | sha256sum | cut -c1-8).tar"; }

# packages LAYER PIP-ARGUMENT...: a layer of Python packages in /opt/fairlead, compiled by the image's own Python.
packages() {
  local file=$1 tree=$work/packages minor platforms=(); shift
  for minor in $(seq 36 -1 17); do platforms+=(--platform "manylinux_2_${minor}_$machine"); done
  rm -rf "$tree"; mkdir "$tree"
  tar -C "$tree" -xf "$(base_layer python)"
  "$host_python" -m pip install -q --disable-pip-version-check --no-compile --target "$tree/opt/fairlead" \
    --python-version $python --implementation cp --only-binary=:all: --platform "manylinux2014_$machine" \
    "${platforms[@]}" "$@" >&2
  rm -rf "$tree/opt/fairlead/bin"
  chroot "$tree" /usr/bin/python3 -m compileall -q /opt/fairlead >&2
  tar -C "$tree" --owner=0 --group=0 -cf "$file" opt/fairlead
}

fairlead() {
  local dependencies app image
  image=fairlead-$(key pyproject.toml README.md LICENSE operator crds).tar
  if [ ! -f "$cache/$image" ]; then
    base python python3-minimal,libpython3-stdlib,ca-certificates
    "$host_python" -c 'import sys, tomllib; print(*tomllib.load(sys.stdin.buffer)["project"]["dependencies"], sep="\n")' \
      <"$root/pyproject.toml" >"$work/requirements.txt"
    dependencies=dependencies-$(key "$work/requirements.txt").tar
    if [ ! -f "$cache/$dependencies" ]; then
      say "installing the dependencies into their layer"
      packages "$work/dependencies.tar" -r "$work/requirements.txt"
      keep dependencies "$work/dependencies.tar" "$dependencies"
    fi
    say "installing the project into its layer"
    app=$work/app; mkdir -p "$app/usr/bin"
    "$host_python" -m pip wheel -q --disable-pip-version-check --no-deps --wheel-dir "$work" "$root" >&2
    packages "$work/project.tar" --no-deps "$work"/fairlead-*.whl
    printf '#!/bin/sh\nexec /usr/bin/python3 -m fairlead "$@"\n' >"$app/usr/bin/fairlead"; chmod 755 "$app/usr/bin/fairlead"
    tar -C "$app" --owner=0 --group=0 -rf "$work/project.tar" usr
    wrap "fairlead:$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/pyproject.toml")" "$work/image.tar" \
      --layer "$(base_layer python)" --layer "$cache/$dependencies" \
      --layer "$work/project.tar" --env PYTHONPATH=/opt/fairlead --env PYTHONUNBUFFERED=1 --entrypoint /usr/bin/fairlead
    keep fairlead "$work/image.tar" "$image"
  fi
  echo "$cache/$image"
}

postgres() {
  local image; image=postgres-$(key tools/cluster/postgres.sh).tar
  if [ ! -f "$cache/$image" ]; then
    base postgresql postgresql
    mkdir -p "$work/app/usr/local/bin"
    install -m 755 "$here/postgres.sh" "$work/app/usr/local/bin/docker-entrypoint.sh"
    tar -C "$work/app" --owner=0 --group=0 -cf "$work/app.tar" .
    wrap postgres:15 "$work/image.tar" --layer "$(base_layer postgresql)" --layer "$work/app.tar" \
      --env LANG=C.UTF-8 --entrypoint /usr/local/bin/docker-entrypoint.sh
    keep postgres "$work/image.tar" "$image"
  fi
  echo "$cache/$image"
}

wrap() { "$host_python" "$here/mkimage.py" "$@" --user 65532:65532; }

case $kind in fairlead | postgres) "$kind" ;; *) usage ;; esac
