#!/usr/bin/env bash
# Stops what `up.sh DIR` started, also when that was killed half-way. DIR stays, with its logs but without images.
#
# A process is ours when its id stands in DIR and its working directory is DIR; it leads a group. A node is gone with the first process of
# its namespaces; what is left of it is the name of its control group.
set -uo pipefail
dir=$(cd "$1" 2>/dev/null && pwd) || exit 0

ours() { [ -n "${1:-}" ] && [ "$(readlink "/proc/$1/cwd")" = "$dir" ]; }

# stop NAME...: asks each to end, and after ten seconds ends it.
stop() {
  local name pid pids=()
  for name in "$@"; do
    pid=$(cat "$dir/$name.pid" 2>/dev/null)
    rm -f "$dir/$name.pid"
    if ours "$pid" && [ "$pid" != $$ ]; then kill -- "-$pid" && pids+=("$pid"); fi
  done
  for pid in ${pids[@]+"${pids[@]}"}; do
    for _ in $(seq 100); do ours "$pid" || break; sleep 0.1; done
    ! ours "$pid" || kill -KILL -- "-$pid"
  done
}

if [ -f "$dir/address" ]; then
  rm -f "$dir"/{proxy,coredns,kubelet,containerd,scheduler,kcm,apiserver,etcd}.pid # ids of the node's own namespace
  stop owner node
  find /sys/fs/cgroup -depth -type d -path "*/fairlead-$(cat "$dir/address")*" -exec rmdir {} + 2>/dev/null
  rm -rf "$dir/containerd" 2>/dev/null # its images: more than a gigabyte, which the next node is given anew
  rm -f "$dir/address"
else
  stop owner kcm apiserver etcd node
fi
exit 0
