#!/usr/bin/env bash
# Starts a real Kubernetes on this machine and returns once it is ready: `up.sh DIR [node]` writes DIR/kubeconfig.
#
# Without `node`: etcd, API server, controller manager. Objects are real, Deployments make ReplicaSets, no pod runs.
# With `node`: scheduler, containerd, kubelet, kube-proxy and CoreDNS too, so pods run and Services resolve. That needs
# root and the packages containerd, runc, iptables, conntrack, containernetworking-plugins and gcc.
# KUBE_BIN names the folder of the binaries (default: what binaries.sh prints). Stop it with `down.sh DIR`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mode=${2:-api}
bin=${KUBE_BIN:-$("$here/binaries.sh" "$mode")}
mkdir -p "$1/certs"; dir=$(cd "$1" && pwd); cd "$dir"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
start() { local name=$1; shift; nohup "$@" >"$name.log" 2>&1 9>&- & echo $! >"$name.pid"; }

# until_true SECONDS WHAT COMMAND...: waits, or says what did not come and shows the end of its log.
until_true() {
  local deadline=$((SECONDS + $1)) what=$2; shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || { echo "up.sh: $what did not become ready" >&2; tail -n 15 "$what.log" >&2 || true; exit 1; }
    sleep 0.2
  done
}

api=${API_PORT:-$(free_port)} etcd=${ETCD_PORT:-$(free_port)} peer=$(free_port)
bind=127.0.0.1 advertise=10.200.0.1 reconciler=none
if [ "$mode" = node ]; then  # pods live in their own network namespaces, behind this bridge
  ip link show fl0 >/dev/null 2>&1 || { ip link add fl0 type bridge; ip addr add 10.244.0.1/24 dev fl0; ip link set fl0 up; }
  bind=0.0.0.0 advertise=10.244.0.1 reconciler=lease
fi

control_plane() {
  openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=kubernetes -keyout certs/apiserver.key \
    -out certs/apiserver.crt -addext \
    "subjectAltName=IP:127.0.0.1,IP:10.244.0.1,IP:10.96.0.1,DNS:localhost,DNS:kubernetes.default.svc" 2>/dev/null
  { openssl genrsa -out sa.key 2048; openssl rsa -in sa.key -pubout -out sa.pub; } 2>/dev/null
  local token; token=$(openssl rand -hex 16)
  (umask 077; echo "$token,admin,admin,\"system:masters\"" >tokens.csv)
  start etcd "$bin/etcd" --data-dir etcd --unsafe-no-fsync --listen-client-urls "http://127.0.0.1:$etcd" \
    --advertise-client-urls "http://127.0.0.1:$etcd" --listen-peer-urls "http://127.0.0.1:$peer"
  start apiserver "$bin/kube-apiserver" --etcd-servers="http://127.0.0.1:$etcd" --secure-port="$api" \
    --bind-address=$bind --advertise-address=$advertise --endpoint-reconciler-type=$reconciler --cert-dir=certs \
    --tls-cert-file=certs/apiserver.crt --tls-private-key-file=certs/apiserver.key --token-auth-file=tokens.csv \
    --service-account-key-file=sa.pub --service-account-signing-key-file=sa.key \
    --service-account-issuer=https://kubernetes.default.svc --authorization-mode=Node,RBAC \
    --service-cluster-ip-range=10.96.0.0/16 --allow-privileged=true --kubelet-preferred-address-types=InternalIP
  (umask 077; cat >kubeconfig) <<K
apiVersion: v1
kind: Config
clusters: [{name: real, cluster: {server: "https://127.0.0.1:$api", certificate-authority-data: $(base64 -w0 certs/apiserver.crt)}}]
users: [{name: admin, user: {token: $token}}]
contexts: [{name: real, context: {cluster: real, user: admin}}]
current-context: real
K
  until_true 60 apiserver kubectl get --raw /readyz
  start kcm "$bin/kube-controller-manager" --kubeconfig kubeconfig --service-account-private-key-file=sa.key \
    --root-ca-file=certs/apiserver.crt --use-service-account-credentials=true --leader-elect=false --secure-port=0
}

container_runtime() {
  mkdir -p cni pause
  cat >cni/10-bridge.conflist <<'K'
{"cniVersion":"0.4.0","name":"real","plugins":[{"type":"bridge","bridge":"fl0","isGateway":true,"ipMasq":true,"hairpinMode":true,
"ipam":{"type":"host-local","ranges":[[{"subnet":"10.244.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},{"type":"portmap","capabilities":{"portMappings":true}}]}
K
  cat >containerd.toml <<K
version = 2
root = "$dir/containerd"
state = "$dir/containerd-state"
[grpc]
  address = "$dir/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "local/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
K
  start containerd containerd -c containerd.toml
  until_true 20 containerd ctr -a containerd.sock version
  cat >pause/pause.c <<'C'
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void quit(int s) { _exit(0); }
static void reap(int s) { while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) { signal(SIGINT, quit); signal(SIGTERM, quit); signal(SIGCHLD, reap); for (;;) pause(); }
C
  gcc -static -O2 -o pause/pause pause/pause.c
  tar -C pause -cf pause/layer.tar pause
  python3 "$here/mkimage.py" local/pause:1 pause/image.tar --layer pause/layer.tar --entrypoint /pause
  ctr -a containerd.sock -n k8s.io images import pause/image.tar >/dev/null
}

node() {
  start scheduler "$bin/kube-scheduler" --kubeconfig kubeconfig --leader-elect=false --secure-port=0
  container_runtime
  cat >kubelet.yaml <<K
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failSwapOn: false
failCgroupV1: false
cgroupDriver: cgroupfs
enforceNodeAllocatable: []
containerRuntimeEndpoint: unix://$dir/containerd.sock
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
address: 10.244.0.1
evictionHard: {memory.available: "100Mi", nodefs.available: "1%", imagefs.available: "1%"}
resolvConf: ""
clusterDNS: [10.244.0.1]
clusterDomain: cluster.local
K
  printf '.:53 {\n bind 10.244.0.1\n errors\n kubernetes cluster.local in-addr.arpa {\n kubeconfig %s/kubeconfig\n }\n}\n' "$dir" >Corefile
  start coredns "$bin/coredns" -conf Corefile
  start kubelet "$bin/kubelet" --kubeconfig kubeconfig --config kubelet.yaml --hostname-override=node1 \
    --node-ip=10.244.0.1 --root-dir="$dir/kubelet"
  start proxy "$bin/kube-proxy" --kubeconfig kubeconfig --proxy-mode=iptables --hostname-override=node1 \
    --conntrack-max-per-core=0 --healthz-bind-address=127.0.0.1:10256 --metrics-bind-address=127.0.0.1:10249
  until_true 90 kubelet kubectl wait node/node1 --for=condition=Ready --timeout=2s
  volumes
}

# There is no provisioner: a default class and a few volumes on this machine, writable by the workers' user.
volumes() {
  local n
  {
    printf '%s\n' 'apiVersion: storage.k8s.io/v1' 'kind: StorageClass' 'provisioner: kubernetes.io/no-provisioner' \
      'metadata: {name: local, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}'
    for n in $(seq 8); do
      mkdir -p "volumes/$n"; chown 65532:65532 "volumes/$n"
      printf '%s\n' --- 'apiVersion: v1' 'kind: PersistentVolume' "metadata: {name: local-$n}" 'spec:' \
        '  capacity: {storage: 2Gi}' '  accessModes: [ReadWriteOnce]' '  storageClassName: local' \
        "  hostPath: {path: $dir/volumes/$n}"
    done
  } | kubectl apply -f - >/dev/null
}

export KUBECONFIG=$dir/kubeconfig
[ -x "$bin/kubectl" ] && PATH=$bin:$PATH
control_plane
[ "$mode" != node ] || node
until_true 30 kcm kubectl get serviceaccount default
echo "KUBECONFIG=$dir/kubeconfig"
