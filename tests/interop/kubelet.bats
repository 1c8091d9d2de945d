#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Two nodes of Kubernetes, each a real kubelet and containerd in namespaces of their own, and 60 pods that they start
# and delete, on etcd and on Kubernetes as the plugin's datastore. Pods name their node: there is no scheduler. Run
# in a network and a mount namespace of its own (tests/apart); BIN names the directory of the programs.

bats_require_minimum_version 1.5.0

load servers.bash

readonly SELF=10.130.0.10 PODS=${KUBELET_PODS:-60} PRIVATE="/run /var/lib/cni"

setup_file() {
	paths=$("$BATS_TEST_DIRNAME/go-program" kube-apiserver kubelet 2>&1) || {
		echo "$paths" >"$BATS_FILE_TMPDIR/skip"
		return 0
	}
	export SERVERS=$BATS_FILE_TMPDIR APISERVER=${paths%$'\n'*} KUBELET=${paths#*$'\n'} CGROUP=margay-kubelet-$$
	mkdir -p /var/lib/cni
	! mountpoint -q /sys/fs/cgroup/unified || mount -t tmpfs none /sys/fs/cgroup/unified
	ip link set lo up
	ip link add br0 type bridge
	ip address add $SELF/24 dev br0
	ip link set br0 up
	api_prepare
	echo "secret-of-n1,system:node:n1,n1,system:nodes" >>tokens
	echo "secret-of-n2,system:node:n2,n2,system:nodes" >>tokens
	etcd_start --listen-client-urls "http://127.0.0.1:2379,http://$SELF:2379" \
		--advertise-client-urls "http://$SELF:2379" --unsafe-no-fsync
	api_start --bind-address=$SELF --advertise-address=$SELF --authorization-mode=Node \
		--disable-admission-plugins=ServiceAccount
	crds_make
	kubeconfig "https://$SELF:6443" "$SERVERS/pki/apiserver.crt" '{token: secret-of-admin}'
	mv kubeconfig admin.kubeconfig
	post /api/v1/namespaces '{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"ns"}}'
	"$BATS_TEST_DIRNAME/oci_image.py" image.tar margay.test/busybox:1 sleep 1000000
	for n in 1 2; do
		node $n
	done
	for n in 1 2; do
		within 60 kubelet_is_there $n
	done
}

setup() {
	[ ! -f "$BATS_FILE_TMPDIR/skip" ] || skip "$(cat "$BATS_FILE_TMPDIR/skip")"
	cd "$SERVERS" || return
}

teardown_file() {
	[ -f "$SERVERS/api.pid" ] || return 0
	cd "$SERVERS" || return
	for n in 1 2; do
		[ -f holder-$n.pid ] || continue
		[ ! -f kubelet-$n.pid ] || end "$(cat kubelet-$n.pid)"
		# what a test that failed has left
		for task in $(inside $n ctr -a /run/containerd.sock -n k8s.io tasks ls -q); do
			inside $n ctr -a /run/containerd.sock -n k8s.io tasks rm -f "$task" || true
		done
		[ ! -f containerd-$n.pid ] || end "$(cat containerd-$n.pid)"
		shims_end $n
	done
	end "$(cat api.pid)"
	end "$(cat etcd.pid)"
	! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified
	find /sys/fs/cgroup -depth -type d -path "*/$CGROUP-*" -exec rmdir {} +
}

shims_end() { # NODE: and what else is left in its mount namespace
	local pid own

	own=$(readlink "/proc/$(cat holder-"$1".pid)/ns/mnt")
	for pid in /proc/[0-9]*; do
		[ "$(readlink "$pid/ns/mnt")" != "$own" ] || kill -KILL "${pid#/proc/}" 2>/dev/null || true
	done
}

# The server's address is not that of the other tests.
api() { # CURL'S ARGUMENTS... PATH
	curl -sS --cacert "$SERVERS/pki/apiserver.crt" -H 'Authorization: Bearer secret-of-admin' \
		"${@:1:$#-1}" "https://$SELF:6443${*: -1}"
}

inside() { # NODE COMMAND... : nsenter, since `ip netns exec` hides /sys/fs/cgroup
	nsenter -t "$(cat "$SERVERS/holder-$1.pid")" -m -n "${@:2}"
}

kubelet_is_there() { # NODE
	api "/api/v1/nodes/n$1" | jq -e '.status.addresses | length > 0' >/dev/null
}

cgroup() { # NAME
	local c f

	if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
		mkdir -p "/sys/fs/cgroup/$1"
		return
	fi
	for c in /sys/fs/cgroup/*/; do
		mkdir -p "$c$1" 2>/dev/null || true
	done
	for f in cpuset.cpus cpuset.mems; do
		cat /sys/fs/cgroup/cpuset/$f >"/sys/fs/cgroup/cpuset/$1/$f"
	done
}

node() { # NUMBER
	local n=$1 pid

	ip netns add n"$n"
	ip link add e"$n" type veth peer name eth0 netns n"$n"
	ip link set e"$n" master br0 up
	ip -n n"$n" link set lo up
	ip -n n"$n" link set eth0 up
	ip -n n"$n" address add "10.130.0.1$n/24" dev eth0
	ip -n n"$n" route add default via $SELF
	mkdir -p net.d-"$n" bin
	cp -sf "$BIN/margay" "$BIN/margay-ipam" /usr/lib/cni/* bin
	# shellcheck disable=SC2016
	nsenter --net=/run/netns/n"$n" unshare -m sh -c '
		mount --make-rshared /
		for d in $0; do mount -t tmpfs none $d; done
		mkdir /run/netns
		echo 1 >/proc/sys/net/ipv4/ip_forward
		touch /run/ready
		exec sleep infinity' "$PRIVATE" 3>&- 4>&- &
	pid=$!
	echo $pid >holder-"$n".pid
	within 10 inside "$n" test -e /run/ready
	cgroup "$CGROUP-$n"
	cat >containerd-"$n".toml <<-T
		version = 2
		root = "$PWD/root-$n"
		state = "/run/containerd"
		[grpc]
		  address = "/run/containerd.sock"
		[plugins."io.containerd.grpc.v1.cri"]
		  sandbox_image = "margay.test/busybox:1"
		  # without CAP_SYS_RESOURCE runc cannot lower it
		  restrict_oom_score_adj = true
		  disable_apparmor = true
		  [plugins."io.containerd.grpc.v1.cri".cni]
		    bin_dir = "$PWD/bin"
		    conf_dir = "$PWD/net.d-$n"
		  [plugins."io.containerd.grpc.v1.cri".containerd]
		    snapshotter = "native"
	T
	kubeconfig "https://$SELF:6443" "$SERVERS/pki/apiserver.crt" "{token: secret-of-n$n}"
	mv kubeconfig kubeconfig-n"$n"
	cat >kubelet-"$n".yaml <<-K
		apiVersion: kubelet.config.k8s.io/v1beta1
		kind: KubeletConfiguration
		enableServer: false
		cgroupDriver: cgroupfs
		cgroupRoot: /$CGROUP-$n
		enforceNodeAllocatable: []
		failSwapOn: false
		failCgroupV1: false
		localStorageCapacityIsolation: false
		evictionHard: {memory.available: 1Mi}
		maxPods: 300
		containerRuntimeEndpoint: unix:///run/containerd.sock
		resolvConf: ""
	K
	inside "$n" containerd -c "$PWD/containerd-$n.toml" >>containerd-"$n".log 2>&1 3>&- 4>&- &
	echo $! >containerd-"$n".pid
	within 20 inside "$n" ctr -a /run/containerd.sock version >/dev/null
	inside "$n" ctr -a /run/containerd.sock -n k8s.io images import "$SERVERS/image.tar" >/dev/null
	inside "$n" "$KUBELET" --config "$PWD/kubelet-$n.yaml" --kubeconfig "$PWD/kubeconfig-n$n" --hostname-override "n$n" \
		--node-ip "10.130.0.1$n" --root-dir "$PWD/kubelet-$n" >>kubelet-"$n".log 2>&1 3>&- 4>&- &
	echo $! >kubelet-"$n".pid
}

network() { # THE-DATASTORE'S-KEYS
	local n

	for n in 1 2; do
		jq -n --arg n n$n --argjson s "$1" '{cniVersion: "1.0.0", name: "k8s-pod-network", plugins: [{type: "margay",
			nodename: $n, ipam: {type: "margay-ipam"}} + $s, {type: "portmap", capabilities: {portMappings: true}}]}' \
			>net.d-$n/new
		# containerd 1.6 hears of what is written or renamed in this directory, and not of what comes to it
		mv net.d-$n/new net.d-$n/10-margay.conflist
	done
	"$BIN/margayctl" apply -f - <<-Y
		{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: p}, spec: {cidr: 10.244.0.0/16}}
	Y
}

is_ready() { # NODE
	api "/api/v1/nodes/n$1" | jq -e '[.status.conditions[] | select(.type == "Ready" and .status == "True")] |
		length == 1' >/dev/null
}

pods() { # JQ-EXPRESSION
	api /api/v1/namespaces/ns/pods | jq -r "[.items[]] | $1"
}

running() { # NUMBER
	[ "$(pods '[.[] | select(.status.phase == "Running" and .status.podIP)] | length')" = "$1" ]
}

is_empty() { # NODE
	[ "$(inside "$1" ip -j link show type veth | jq -r '.[].ifname')" = eth0 ] &&
		[ -z "$(inside "$1" ip route show proto 80)" ] && [ -z "$(inside "$1" ls /run/netns)" ]
}

in_use_are() { # NUMBER
	[ "$(in_use)" = "$1" ]
}

pods_are() { # NUMBER
	[ "$(pods length)" = "$1" ]
}

pods_come_and_go() {
	local i n start=$SECONDS

	for n in 1 2; do
		within 60 is_ready $n
	done
	for ((i = 0; i < PODS; i++)); do
		post /api/v1/namespaces/ns/pods "$(jq -n --arg name "p$i" --arg node "n$((i % 2 + 1))" '{kind: "Pod",
			apiVersion: "v1", metadata: {name: $name}, spec: {nodeName: $node, terminationGracePeriodSeconds: 1,
			automountServiceAccountToken: false, enableServiceLinks: false, containers: [{name: "c",
			image: "margay.test/busybox:1", imagePullPolicy: "Never", command: ["sleep", "1000000"]}]}}')"
	done
	within 150 running "$PODS"
	echo "# $PODS pods run after $((SECONDS - start)) s" >&3
	[ "$(pods 'map(.status.podIP) | unique | length')" = "$PODS" ]
	for n in 1 2; do
		for i in $(pods ".[] | select(.spec.nodeName == \"n$n\") | .status.podIP"); do
			inside $n ping -q -c1 -W2 "$i" >/dev/null
		done
	done
	[ "$(in_use)" = "$PODS" ]
	start=$SECONDS
	api -X DELETE /api/v1/namespaces/ns/pods >/dev/null
	within 150 pods_are 0
	echo "# and are gone after $((SECONDS - start)) s" >&3
	for n in 1 2; do
		within 60 is_empty $n
	done
	within 10 in_use_are 0
	[ "$("$BIN/margayctl" get workloadendpoints -A -o json | jq '.items | length')" = 0 ]
}

@test "60 pods on two nodes, on etcd" {
	export DATASTORE_TYPE=etcdv3 ETCD_ENDPOINTS=http://127.0.0.1:2379
	in_use() {
		etcdctl get --prefix "$IPAM/assignment/" --print-value-only | jq -s '[.[].allocations[] | select(. != null)] | length'
	}
	network '{"datastore_type": "etcdv3", "etcd_endpoints": "http://10.130.0.10:2379"}'
	pods_come_and_go
}

@test "60 pods on two nodes, on Kubernetes" {
	export DATASTORE_TYPE=kubernetes KUBECONFIG=$SERVERS/admin.kubeconfig
	in_use() {
		api /apis/crd.projectcalico.org/v1/ipamblocks | jq '[.items[].spec.allocations[] | select(. != null)] | length'
	}
	network "{\"datastore_type\": \"kubernetes\", \"kubernetes\": {\"kubeconfig\": \"$KUBECONFIG\"}}"
	pods_come_and_go
}
