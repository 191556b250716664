#!/usr/bin/env bash
# Installs what a node and its images need from Debian, and nothing when it is all there.
#
# Exit code 0: all is there. Else standard error says what to install, and nothing was changed.
set -euo pipefail
declare -A package_of=(
  [containerd]=containerd [runc]=runc [iptables]=iptables [conntrack]=conntrack [ip]=iproute2 [mount]=mount
  [/usr/lib/cni/bridge]=containernetworking-plugins [debootstrap]=debootstrap
  [/usr/share/keyrings/debian-archive-keyring.gpg]=debian-archive-keyring
  [gcc]=gcc [/usr/include/stdlib.h]=libc6-dev [openssl]=openssl
)
PATH=$PATH:/usr/sbin:/sbin

there() { case $1 in /*) [ -e "$1" ] ;; *) command -v "$1" >/dev/null ;; esac; }

missing=()
for file in "${!package_of[@]}"; do there "$file" || missing+=("${package_of[$file]}"); done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "a node needs root and: ${missing[*]} (names of Debian packages)" >&2; exit 1
fi

echo "$(date +%T)  installing ${missing[*]}" >&2
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -q && apt-get install -qy --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 15 "$log" >&2
  echo "apt-get could not install ${missing[*]}; all it said is in $log" >&2; exit 1
fi
rm -f "$log"
