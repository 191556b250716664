#!/usr/bin/env bash
# Stops what `up.sh DIR` started, by process id, and takes away DIR's mounts. Nothing else is touched.
set -uo pipefail
dir=$(cd "$1" && pwd) || exit 0

stop() { local name; for name in "$@"; do [ -f "$dir/$name.pid" ] && kill "$(cat "$dir/$name.pid")" 2>/dev/null; done; }

stop proxy coredns kubelet scheduler kcm apiserver
if [ -S "$dir/containerd.sock" ]; then
  ctl() { ctr -a "$dir/containerd.sock" -n k8s.io "$@" 2>/dev/null; }
  for task in $(ctl tasks ls -q); do ctl tasks kill -s SIGKILL "$task"; done
  sleep 1
  for task in $(ctl tasks ls -q); do ctl tasks rm -f "$task" >/dev/null; done
fi
stop containerd etcd
awk -v d="$dir/" 'index($2, d) == 1 {print $2}' /proc/mounts | sort -r | while read -r mount; do umount -l "$mount"; done
rm -f "$dir"/*.pid
exit 0
