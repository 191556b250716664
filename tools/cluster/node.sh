# What `up.sh DIR node` adds: a machine within this machine, on which pods run. Sourced by up.sh.
#
# Everything runs in process, mount and network namespaces of its own. So a node meets neither the host's interfaces,
# ports, mounts and packet filter nor another node, and all of it is gone with the namespaces' first process, whatever
# way that ended. The host reaches it by one cable, 10.199.N.1 to 10.199.N.2; pods reach nothing beyond the node.
# shellcheck shell=bash disable=SC2154  # dir, bin and here are up.sh's

pods=10.244.0 # the first 24 bits of the pods' addresses; .1 is the node

# isolated COMMAND...: makes the namespaces and runs the command in them. Their first process keeps them.
isolated() {
  local first link
  mkdir -p pause; pause_program
  start node unshare --fork --kill-child=KILL --pid --mount --mount-proc --net "$dir/pause/pause"
  until_true 10 node pgrep -P "$(cat node.pid)"
  first=$(pgrep -P "$(cat node.pid)")
  for link in $(seq 1 254) none; do
    ip link add "fl$link" type veth peer name eth0 netns "$first" 2>/dev/null && break
  done
  ip addr add "10.199.$link.1/30" dev "fl$link"
  ip link set "fl$link" up
  echo "10.199.$link.2" >address
  nsenter --target "$first" --pid --mount --net "$@"
}

node() {
  host_of_pods
  control_plane "$(cat address)" --bind-address=0.0.0.0 --advertise-address=$pods.1 --endpoint-reconciler-type=lease \
    --kubelet-preferred-address-types=InternalIP
  start scheduler "$bin/kube-scheduler" --kubeconfig kubeconfig --leader-elect=false --secure-port=0
  container_runtime
  kubelet
  printf '.:53 {\n bind %s.1\n errors\n kubernetes cluster.local in-addr.arpa {\n kubeconfig %s/kubeconfig\n }\n}\n' \
    $pods "$dir" >Corefile
  start coredns "$bin/coredns" -conf Corefile
  start proxy "$bin/kube-proxy" --kubeconfig kubeconfig --proxy-mode=iptables --hostname-override=node1 \
    --conntrack-max-per-core=0 --healthz-bind-address=127.0.0.1:10256 --metrics-bind-address=127.0.0.1:10249
  until_true 90 kubelet kubectl wait node/node1 --for=condition=Ready --timeout=2s
  volumes
}

# Interfaces, and folders that would else be shared with the host.
host_of_pods() {
  local folder
  ip link set lo up
  ip addr add "$(cat address)/30" dev eth0
  ip link set eth0 up
  ip link add fl0 type bridge
  ip addr add $pods.1/24 dev fl0
  ip link set fl0 up
  sysctl -qw net.ipv4.ip_forward=1
  sysctl -qw net.bridge.bridge-nf-call-iptables=1 2>/dev/null || true # a kernel with the module not loaded
  mount --make-rshared /
  for folder in /var/log /var/lib/cni /run/containerd /run/netns; do
    mkdir -p "$folder" "host$folder"; mount --bind "host$folder" "$folder"
  done
  for folder in $(cgroup_roots); do mkdir -p "$folder/$(cgroup)"; done
}

container_runtime() {
  mkdir -p cni
  cat >cni/10-bridge.conflist <<K
{"cniVersion": "0.4.0", "name": "real", "plugins": [{"type": "bridge", "bridge": "fl0", "isGateway": true, "hairpinMode": true,
"ipam": {"type": "host-local", "ranges": [[{"subnet": "$pods.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
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
  tar -C pause -cf pause/layer.tar pause
  python3 "$here/mkimage.py" local/pause:1 pause/image.tar --layer pause/layer.tar --entrypoint /pause
  ctr -a containerd.sock -n k8s.io images import pause/image.tar >/dev/null
}

kubelet() {
  cat >kubelet.yaml <<K
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failSwapOn: false
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /$(cgroup)
enforceNodeAllocatable: []
makeIPTablesUtilChains: false
syncFrequency: 5s
volumePluginDir: $dir/kubelet/plugins
containerRuntimeEndpoint: unix://$dir/containerd.sock
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
address: $pods.1
evictionHard: {memory.available: "100Mi", nodefs.available: "1%", imagefs.available: "1%"}
resolvConf: ""
clusterDNS: [$pods.1]
clusterDomain: cluster.local
K
  start kubelet "$bin/kubelet" --kubeconfig kubeconfig --config kubelet.yaml --hostname-override=node1 \
    --node-ip=$pods.1 --root-dir="$dir/kubelet"
}

# There is no provisioner: a default class and a few volumes on this machine, writable by the workers' user.
volumes() {
  local n
  {
    printf '%s\n' 'apiVersion: storage.k8s.io/v1' 'kind: StorageClass' 'provisioner: kubernetes.io/no-provisioner' \
      'metadata: {name: local, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}'
    for n in $(seq 12); do
      mkdir -p "volumes/$n"; chown 65532:65532 "volumes/$n"
      printf '%s\n' --- 'apiVersion: v1' 'kind: PersistentVolume' "metadata: {name: local-$n}" 'spec:' \
        '  capacity: {storage: 2Gi}' '  accessModes: [ReadWriteOnce]' '  storageClassName: local' \
        "  hostPath: {path: $dir/volumes/$n}"
    done
  } | kubectl apply -f - >/dev/null
}

# The control groups of the pods: the only thing of a node that has no namespace here, so it gets a name of its own.
cgroup() { echo "fairlead-$(cat "$dir/address")"; }
cgroup_roots() {
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo /sys/fs/cgroup; else awk '$3 == "cgroup" {print $2}' /proc/mounts; fi
}

# What keeps the namespaces of the node, and of each pod: it waits, and buries orphans.
pause_program() {
  cat >pause/pause.c <<'C'
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void quit(int s) { _exit(0); }
static void reap(int s) { while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) { signal(SIGINT, quit); signal(SIGTERM, quit); signal(SIGCHLD, reap); for (;;) pause(); }
C
  gcc -static -O2 -o pause/pause pause/pause.c
}
