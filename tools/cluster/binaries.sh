#!/usr/bin/env bash
# Prints the folder that holds the asked-for binaries, and builds what is missing.
#
#   binaries.sh api    kube-apiserver, kube-controller-manager, etcd: objects are real, no pod runs
#   binaries.sh node   all of it, and scheduler, kubelet, kube-proxy, CoreDNS and helm: pods run
#   binaries.sh helm   helm alone
#
# KUBEBUILDER_ASSETS is used when it has all, then what setup-envtest has, else they are built from their Go modules:
# on two cores five minutes for `api` and sixteen for `node`, once for each set of versions.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=versions.env
source "$here/versions.env"

case ${1:-} in
  api) wanted=(etcd kube-apiserver kube-controller-manager) ;;
  node) wanted=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy coredns helm) ;;
  helm) wanted=(helm) ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
[ "$1" = helm ] || command -v kubectl >/dev/null || wanted+=(kubectl)

lacking() { local name; for name in "${wanted[@]}"; do [ -x "$1/$name" ] || printf ' %s' "$name"; done; }

# Ends with a folder that has all of it, else says why it is passed over.
use_whole() {
  local lacks; lacks=$(lacking "$2")
  [ -n "$lacks" ] || { echo "$2"; exit; }
  case $lacks in *kube-controller-manager*) lacks+=" (envtest's archives have no kube-controller-manager)" ;; esac
  echo "binaries.sh: $2, which $1 names, is not used: it lacks$lacks" >&2
}

[ -z "${KUBEBUILDER_ASSETS:-}" ] || use_whole KUBEBUILDER_ASSETS "$KUBEBUILDER_ASSETS"
if command -v setup-envtest >/dev/null; then
  assets=$(setup-envtest use -i -p path 2>/dev/null || setup-envtest use -p path 2>/dev/null || true)
  [ -z "$assets" ] || use_whole setup-envtest "$assets"
fi

out=${XDG_CACHE_HOME:-$HOME/.cache}/fairlead/k8s-$KUBERNETES-etcd-$ETCD-helm-$HELM-coredns-$COREDNS
mkdir -p "$out"
exec 9>"$out/.lock"; flock 9  # two test runs must not build the same twice
if [ -z "$(lacking "$out")" ]; then echo "$out"; exit; fi
command -v go >/dev/null || {
  echo "binaries.sh: install Go to build them, or point KUBEBUILDER_ASSETS at a folder that has ${wanted[*]}" >&2
  exit 1
}

work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
progress() { printf '%s  %s\n' "$(date +%T)" "$*" >&2; }

# k8s.io/kubernetes names its staging modules with relative replaces, which a dependent must restate.
kubernetes_module() {
  mkdir "$work/k8s"; cd "$work/k8s"; go mod init cluster 2>/dev/null
  local gomod; gomod=$(go mod download -json "k8s.io/kubernetes@v$KUBERNETES" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
  { echo "module cluster"; grep -m1 '^go ' "$gomod"; echo "require k8s.io/kubernetes v$KUBERNETES"
    sed -nE "s#^[[:space:]]*(k8s\.io/[^ ]+) => \./staging.*#replace \1 => \1 v0.${KUBERNETES#1.}#p" "$gomod"; } >go.mod
  { echo 'package cluster'; echo 'import ('; printf '_ "k8s.io/kubernetes/cmd/%s"\n' "$@"; echo ')'; } >tools.go
  sed -i '1i //go:build tools\n' tools.go
  go mod tidy -e >/dev/null 2>&1
}

build_kubernetes() {
  local version=k8s.io/component-base/version minor=${KUBERNETES#1.} name
  kubernetes_module "$@"
  for name in "$@"; do
    progress "building $name $KUBERNETES"
    CGO_ENABLED=$([ "$name" = kubelet ] && echo 1 || echo 0) go build -o "$out/$name" -ldflags \
      "-s -w -X $version.gitVersion=v$KUBERNETES -X $version.gitMajor=1 -X $version.gitMinor=${minor%%.*}" \
      "k8s.io/kubernetes/cmd/$name"
  done
}

# A main package whose go.mod has replaces cannot be `go install`ed, but it can be a tool of another module.
build_tool() {
  progress "building $1 $3"
  mkdir "$work/$1"; cd "$work/$1"; go mod init tool 2>/dev/null
  go get -tool "$2@v$3" >/dev/null 2>&1
  CGO_ENABLED=0 go build -ldflags "-s -w" -o "$out/$1" "$2"
}

missing=()
for name in "${wanted[@]}"; do
  [ -x "$out/$name" ] || case $name in
    etcd) build_tool etcd go.etcd.io/etcd/server/v3 "$ETCD" ;;
    helm) build_tool helm helm.sh/helm/v4/cmd/helm "$HELM" ;;
    coredns) build_tool coredns github.com/coredns/coredns "$COREDNS" ;;
    *) missing+=("$name") ;;
  esac
done
[ ${#missing[@]} -eq 0 ] || build_kubernetes "${missing[@]}"
echo "$out"
