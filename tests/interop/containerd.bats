#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Real containers with our plugin, by containerd's CRI, in runc and in crun. Run in a network and a mount namespace
# of its own (tests/apart); BIN names the directory of the programs.

bats_require_minimum_version 1.5.0

setup_file() {
	CRICTL=$("$BATS_TEST_DIRNAME/go-program" crictl 2>&1) || skip "$CRICTL"
	export CRICTL CGROUP=margay-test-$$ DB=$BATS_FILE_TMPDIR/db MARGAY_SQLITE_PATH=$BATS_FILE_TMPDIR/db
	cd "$BATS_FILE_TMPDIR" || return
	# crun refuses to begin where both versions have controllers
	! mountpoint -q /sys/fs/cgroup/unified || mount -t tmpfs none /sys/fs/cgroup/unified
	ip link set lo up
	ip address add 192.0.2.1/32 dev lo
	echo 1 >/proc/sys/net/ipv4/ip_forward
	mkdir net.d bin
	jq -n --arg db "$DB" '{cniVersion: "1.0.0", name: "k8s-pod-network", plugins: [{type: "margay", nodename: "node-1",
		datastore_type: "sqlite", sqlite_path: $db, ipam: {type: "margay-ipam"}},
		{type: "portmap", capabilities: {portMappings: true}}]}' >net.d/10-margay.conflist
	cp -s "$BIN/margay" "$BIN/margay-ipam" /usr/lib/cni/* bin
	"$BIN/margayctl" apply -f - >/dev/null <<-Y
		{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: p}, spec: {cidr: 10.244.0.0/24}}
	Y
	"$BATS_TEST_DIRNAME/oci_image.py" image.tar margay.test/busybox:1 sleep 1000000
	cat >containerd.toml <<-T
		version = 2
		root = "$PWD/root"
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
		    conf_dir = "$PWD/net.d"
		  [plugins."io.containerd.grpc.v1.cri".containerd]
		    snapshotter = "native"
		  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
		    runtime_type = "io.containerd.runc.v2"
		  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
		    runtime_type = "io.containerd.runc.v2"
		    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]
		      BinaryName = "/usr/bin/crun"
	T
	export CRI_CONFIG_FILE=$PWD/crictl.yaml
	echo 'runtime-endpoint: unix:///run/containerd.sock' >"$CRI_CONFIG_FILE"
	containerd -c containerd.toml >containerd.log 2>&1 3>&- 4>&- &
	echo $! >containerd.pid
	eventually cri version
	eventually test -S /run/containerd.sock
	ctr -a /run/containerd.sock -n k8s.io images import image.tar
}

teardown_file() {
	[ -f "$BATS_FILE_TMPDIR/containerd.pid" ] || return 0
	cri rmp -a -f || true
	kill "$(cat "$BATS_FILE_TMPDIR/containerd.pid")" 2>/dev/null || true
	for pid in $(pgrep -f '^/usr/bin/containerd-shim-runc-v2 .* -address /run/containerd.sock' || true); do
		[ "$(readlink "/proc/$pid/ns/mnt")" != "$(readlink /proc/self/ns/mnt)" ] || kill "$pid" 2>/dev/null || true
	done
	wait
	! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified
	find /sys/fs/cgroup -depth -type d -path "*/$CGROUP*" -exec rmdir {} +
}

cri() {
	"$CRICTL" "$@"
}

eventually() { # COMMAND...
	for _ in {1..200}; do
		! "$@" >/dev/null 2>&1 || return 0
		sleep 0.1
	done
	echo "never true: $*"
	tail -n 20 "$BATS_FILE_TMPDIR/containerd.log"
	false
}

in_use() {
	sqlite3 "$DB" "SELECT value FROM kv WHERE key LIKE '/calico/ipam/v2/assignment/%' AND value IS NOT NULL" |
		jq -s '[.[].allocations[] | select(. != null)] | length'
}

# pod NAME RUNTIME: with a container; its ID is in pod.NAME, and the container's in container.NAME
pod() {
	cd "$BATS_TEST_TMPDIR" || return
	jq -n --arg n "$1" --arg cg "/$CGROUP" '{metadata: {name: $n, namespace: "ns", uid: $n, attempt: 0},
		log_directory: "/run", linux: {cgroup_parent: $cg}}' >"$1.json"
	jq -n '{metadata: {name: "c"}, image: {image: "margay.test/busybox:1"},
		command: ["sh", "-c", "sleep 1000000"], log_path: "c.log"}' >container.json
	cri runp -r "$2" "$1.json" >"pod.$1"
	cri create "$(cat "pod.$1")" container.json "$1.json" >"container.$1"
	cri start "$(cat "container.$1")"
}

within() { # NAME COMMAND...
	cri exec "$(cat "container.$1")" "${@:2}"
}

address() { # NAME
	cri inspectp "$(cat "pod.$1")" | jq -r .status.network.ip
}

pods_run() { # RUNTIME
	local name other

	for name in a b c; do
		pod $name "$1"
	done
	[ "$(in_use)" = 3 ]
	[ "$(for name in a b c; do address $name; done | sort -u | wc -l)" = 3 ]
	for name in a b c; do
		[[ $(within $name ip -4 -o address show dev eth0) == *" $(address $name)/32 "* ]]
		ping -c1 -W2 -I 192.0.2.1 "$(address $name)"
		within $name ping -c1 -W2 192.0.2.1
		for other in a b c; do
			within $name ping -c1 -W2 "$(address $other)"
		done
	done
	# a pod that ends as runtimes end it; what is stopped may be removed much later
	cri stopp "$(cat pod.a)"
	[ "$(in_use)" = 2 ]
	cri stopp "$(cat pod.a)"
	cri rmp "$(cat pod.a)"
	cri rmp -f "$(cat pod.b)" "$(cat pod.c)"
	[ "$(in_use)" = 0 ]
	[ "$(ip -j link show type veth | jq length)" = 0 ]
	[ -z "$(ip route show proto 80)" ]
	[ "$(sqlite3 "$DB" "SELECT count(*) FROM kv WHERE value IS NOT NULL AND (key LIKE '%/handle/%' OR
		key LIKE '%/workloadendpoints/%')")" = 0 ]
	[ -z "$(ls /run/netns)" ]
}

@test "three pods in runc" {
	pods_run runc
}

@test "three pods in crun" {
	pods_run crun
}
