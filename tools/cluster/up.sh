#!/usr/bin/env bash
# Starts a real Kubernetes on this machine and returns once it is ready: `up.sh DIR [node]` writes DIR/kubeconfig.
#
# Without `node`: etcd, API server, controller manager. Objects are real, Deployments make ReplicaSets, no pod runs.
# With `node`: scheduler, containerd, kubelet, kube-proxy and CoreDNS too, so pods run and Services resolve. That needs
# root and the packages of packages.sh; see node.sh for how it keeps to itself.
#
# KUBE_BIN names the folder of the binaries (default: what binaries.sh prints). OWNER is the id of a process that the
# cluster is not to outlive. Stop it with `down.sh DIR`; the logs stay in DIR.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mode=${2:-api}
PATH=$PATH:/usr/sbin:/sbin
bin=${KUBE_BIN:-$("$here/binaries.sh" "${mode/inside/node}")}
mkdir -p "$1/certs"; dir=$(cd "$1" && pwd); cd "$dir"
export KUBE_BIN=$bin KUBECONFIG=$dir/kubeconfig
[ ! -x "$bin/kubectl" ] || PATH=$bin:$PATH
# shellcheck source=node.sh
[ "$mode" = api ] || source "$here/node.sh"

# What did not come up whole is taken down again.
trap '[ $? = 0 ] || [ "$mode" = inside ] || "$here/down.sh" "$dir"' EXIT

start() { local name=$1; shift; setsid nohup "$@" >"$name.log" 2>&1 </dev/null & echo $! >"$name.pid"; }

# until_true SECONDS WHAT COMMAND...: waits, or says what did not come and shows the end of its log.
until_true() {
  local deadline=$((SECONDS + $1)) what=$2; shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || { echo "up.sh: $what did not become ready" >&2; tail -n 15 "$what.log" >&2 || true; exit 1; }
    sleep 0.2
  done
}

# Ports that were free a moment ago, of those that the kernel gives to nobody by itself: an API server that is started
# again must find its own free. In a namespace of its own a node can have the usual ones.
ports() {
  [ "$mode" = api ] || { echo 6443 2379 2380; return; }
  python3 -c 'import random, socket
first = int(open("/proc/sys/net/ipv4/ip_local_port_range").read().split()[0])
free = []
while len(free) < 3:
    port = random.randrange(10000, first) if first > 11000 else 0
    try:
        free.append(socket.create_server(("127.0.0.1", port)))
    except OSError:
        pass
print(*(each.getsockname()[1] for each in free))'
}

# control_plane ADDRESS FLAG...: ADDRESS is where clients reach the API server.
control_plane() {
  local address=$1 token api etcd peer; shift
  read -r api etcd peer < <(ports)
  openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=kubernetes -keyout certs/apiserver.key \
    -out certs/apiserver.crt -addext \
    "subjectAltName=IP:$address,IP:127.0.0.1,IP:10.96.0.1,DNS:localhost,DNS:kubernetes.default.svc" 2>/dev/null
  { openssl genrsa -out sa.key 2048; openssl rsa -in sa.key -pubout -out sa.pub; } 2>/dev/null
  token=$(openssl rand -hex 16)
  (umask 077; echo "$token,admin,admin,\"system:masters\"" >tokens.csv)
  start etcd "$bin/etcd" --data-dir etcd --unsafe-no-fsync --listen-client-urls "http://127.0.0.1:$etcd" \
    --advertise-client-urls "http://127.0.0.1:$etcd" --listen-peer-urls "http://127.0.0.1:$peer"
  start apiserver "$bin/kube-apiserver" --etcd-servers="http://127.0.0.1:$etcd" --secure-port="$api" "$@" \
    --cert-dir=certs --tls-cert-file=certs/apiserver.crt --tls-private-key-file=certs/apiserver.key \
    --token-auth-file=tokens.csv --authorization-mode=Node,RBAC --service-cluster-ip-range=10.96.0.0/16 \
    --service-account-key-file=sa.pub --service-account-signing-key-file=sa.key \
    --service-account-issuer=https://kubernetes.default.svc --allow-privileged=true
  (umask 077; cat >kubeconfig) <<K
apiVersion: v1
kind: Config
clusters: [{name: real, cluster: {server: "https://$address:$api", certificate-authority-data: $(base64 -w0 certs/apiserver.crt)}}]
users: [{name: admin, user: {token: $token}}]
contexts: [{name: real, context: {cluster: real, user: admin}}]
current-context: real
K
  until_true 60 apiserver kubectl get --raw /readyz
  start kcm "$bin/kube-controller-manager" --kubeconfig kubeconfig --service-account-private-key-file=sa.key \
    --root-ca-file=certs/apiserver.crt --use-service-account-credentials=true --leader-elect=false --secure-port=0
}

case $mode in
  api) control_plane 127.0.0.1 --bind-address=127.0.0.1 --advertise-address=10.200.0.1 --endpoint-reconciler-type=none ;;
  node) isolated "$here/up.sh" "$dir" inside ;;
  inside) node ;;
esac
[ "$mode" != inside ] || exit 0
if [ -n "${OWNER:-}" ]; then start owner sh -c "tail --pid=$OWNER -f /dev/null; exec '$here/down.sh' '$dir'"; fi
until_true 30 kcm kubectl get serviceaccount default
echo "KUBECONFIG=$dir/kubeconfig"
