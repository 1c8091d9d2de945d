#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The programs on a real etcd. What stands in ../samples/*.json are values as Calico's clients store them, byte
# by byte: ours read them, and leave the same bytes. Run in a network and a mount namespace of its own
# (tests/apart); BIN names the directory of the programs.

bats_require_minimum_version 1.5.0

setup_file() {
	ip link set lo up
}

setup() {
	cd "$BATS_TEST_TMPDIR" || exit
	export ETCDCTL_API=3 ETCD_ENDPOINTS=http://127.0.0.1:2379 MARGAY_LOG_LEVEL=error NODENAME=node1
	GOLDEN=$BATS_TEST_DIRNAME/../samples FELIX=
	etcd_start
}

teardown() {
	[ -z "$FELIX" ] || kill "$FELIX" || true
	kill "$ETCD" || true
	[ ! -f tls.pid ] || kill "$(cat tls.pid)" || true
	wait
	ip netns del web-0 2>/dev/null || true
}

etcd_start() {
	etcd --data-dir data --heartbeat-interval 20 --election-timeout 200 >>etcd.log 2>&1 &
	ETCD=$!
	until etcdctl endpoint health >/dev/null 2>&1; do sleep 0.05; done
}

readonly IPAM=/calico/ipam/v2 V3=/calico/resources/v3/projectcalico.org

put() { # KEY FILE
	etcdctl put "$1" <"$GOLDEN/$2.json"
}

value() {
	etcdctl get --print-value-only "$1"
}

same() { # KEY FILE
	[ "$(value "$1")" = "$(cat "$GOLDEN/$2.json")" ] || {
		echo "$1 is $(value "$1")"
		false
	}
}

cni() { # VERB
	jq -n --arg e "$ETCD_ENDPOINTS" '{cniVersion: "1.0.0", name: "k8s-pod-network", type: "margay",
		nodename: "node1", datastore_type: "etcdv3", etcd_endpoints: $e, ipam: {type: "margay-ipam"}}' |
		CNI_COMMAND=$1 CNI_CONTAINERID=0f3c1d CNI_NETNS=/run/netns/web-0 CNI_IFNAME=eth0 CNI_PATH=/nowhere \
			CNI_ARGS='K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0' "$BIN/margay"
}

@test "a pod that Calico's plugin gave its address is released, to Calico's bytes" {
	put $IPAM/host/node1/ipv4/block/10.244.66.128-29 affinity
	put $IPAM/assignment/ipv4/block/10.244.66.128-29 block-used
	put $IPAM/handle/k8s-pod-network.0f3c1d handle
	put $IPAM/config config
	put $V3/globalnetworkpolicies/allow-dns policy
	cni DEL
	same $IPAM/assignment/ipv4/block/10.244.66.128-29 block-released
	same $IPAM/host/node1/ipv4/block/10.244.66.128-29 affinity
	same $IPAM/config config
	same $V3/globalnetworkpolicies/allow-dns policy
	[ -z "$(value $IPAM/handle/k8s-pod-network.0f3c1d)" ]
}

@test "a pod gets an address as Calico's plugin gives it" {
	jq '.spec.cidr = "10.244.66.128/29" | .spec.blockSize = 29' "$GOLDEN/pool.json" | "$BIN/margayctl" apply -f -
	put $IPAM/host/node1/ipv4/block/10.244.66.128-29 affinity
	put $IPAM/assignment/ipv4/block/10.244.66.128-29 block-new
	ip netns add web-0
	cni ADD
	same $IPAM/handle/k8s-pod-network.0f3c1d handle
	same $IPAM/host/node1/ipv4/block/10.244.66.128-29 affinity
	block=$(value $IPAM/assignment/ipv4/block/10.244.66.128-29)
	[[ $block =~ '"timestamp":"'[0-9]{4}-[0-9]{2}-[0-9]{2}\ [0-9:.]+\ '+0000 UTC"' ]]
	want=$(sed 's/"allocations":\[null/"allocations":[0/; s/"unallocated":\[0,/"unallocated":[/
		s/"sequenceNumber":1785585600123456789/"sequenceNumber":1785585600123456790/
		s/"sequenceNumberForAllocation":{}/"sequenceNumberForAllocation":{"0":1785585600123456789}/
		s/"attributes":null/"attributes":[{"handle_id":"k8s-pod-network.0f3c1d","secondary":{"namespace":"default","node":"node1","pod":"web-0","timestamp":"T"}}]/' "$GOLDEN/block-new.json")
	[ "$(sed -E 's/("timestamp":")[^"]*/\1T/' <<<"$block")" = "$want" ] || { echo "$block"; false; }
	cni DEL
	[ -z "$(value $V3/workloadendpoints/default/node1-k8s-web--0-eth0)" ]
}

@test "apply stores Calico's bytes, without what etcd keeps itself" {
	put $V3/globalnetworkpolicies/allow-dns policy
	jq '{spec, metadata: (.metadata + {resourceVersion: "7", selfLink: "/x"}), kind, apiVersion}' "$GOLDEN/pool.json" |
		"$BIN/margayctl" apply -f -
	same $V3/ippools/default-ipv4-ippool pool
	[ "$("$BIN/margayctl" get ippool default-ipv4-ippool -o json | jq -r .metadata.resourceVersion)" = \
		"$(etcdctl get $V3/ippools/default-ipv4-ippool -w json | jq -r '.kvs[0].mod_revision')" ]
	# what Calico's client wrote is read
	etcdctl put $V3/ippools/second <<<"$(jq -c '.metadata.name = "second" | .spec.cidr = "10.9.0.0/16"' "$GOLDEN/pool.json")"
	run "$BIN/margayctl" get ippools
	[[ $output == *"second                10.9.0.0/16     all()"* ]]
	"$BIN/margayctl" delete ippool second
	[ -z "$(value $V3/ippools/second)" ]
}

# A text of the one line that margayctl says, and of what a daemon logs; at debug level, without a secret.
told() { # TEXT
	MARGAY_LOG_LEVEL=debug run -1 "$BIN/margayctl" get ippools
	echo "$output" >ctl.log
	[ "$(grep -c '^margayctl: ' ctl.log)" = 1 ]
	[[ $(grep '^margayctl: ' ctl.log) == *"$1"* ]] || { cat ctl.log; false; }
	MARGAY_LOG_LEVEL=debug "$BIN/margay-felix" --ip 192.0.2.1/24 --margay-nodename-file nodename \
		--margay-mtu-file mtu --margay-run-dir run 2>felix.log 3>&- &
	FELIX=$!
	for _ in {1..300}; do
		! grep -qF "$1" felix.log || break
		sleep 0.05
	done
	grep -F "$1" felix.log
	kill "$FELIX" 2>/dev/null || true
	wait "$FELIX" || true
	FELIX=
	run -1 grep secret-of ctl.log felix.log
}

@test "what goes wrong is told in one line, without a secret" {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tls.key -out tls.pem -days 2 \
		-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 2>/dev/null
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 \
		-subj /CN=ca 2>/dev/null
	etcd --data-dir tls --listen-client-urls https://127.0.0.1:3379 --advertise-client-urls https://127.0.0.1:3379 \
		--listen-peer-urls http://127.0.0.1:3380 --initial-advertise-peer-urls http://127.0.0.1:3380 \
		--initial-cluster default=http://127.0.0.1:3380 --cert-file tls.pem --key-file tls.key >tls.log 2>&1 3>&- &
	echo $! >tls.pid
	until etcdctl --endpoints https://127.0.0.1:3379 --cacert tls.pem endpoint health >/dev/null 2>&1; do sleep 0.05; done
	for user in root:secret-of-root known:secret-of-known nobody:secret-of-nobody; do
		etcdctl user add "$user"
	done
	etcdctl role add all
	etcdctl role grant-permission all readwrite --prefix=true /
	etcdctl user grant-role known all
	etcdctl user grant-role root root
	etcdctl auth enable
	told 'user name is empty: set ETCD_USERNAME and ETCD_PASSWORD'
	export ETCD_USERNAME=known ETCD_PASSWORD=secret-of-nobody
	told 'invalid user ID or password: check ETCD_USERNAME and ETCD_PASSWORD'
	export ETCD_USERNAME=nobody
	told 'permission denied: grant the role of ETCD_USERNAME "readwrite" on the prefixes /calico/ and /margay/'
	export ETCD_USERNAME=known ETCD_PASSWORD=secret-of-known
	MARGAY_LOG_LEVEL=debug "$BIN/margayctl" get ippools >ctl.log 2>&1
	MARGAY_LOG_LEVEL=debug "$BIN/margay-felix" --print-config >print-config 2>&1
	grep ETCD_PASSWORD print-config
	run -1 grep secret-of ctl.log print-config
	export ETCD_ENDPOINTS=https://127.0.0.1:2379
	told 'check that etcd has TLS there (else write http:// in ETCD_ENDPOINTS)'
	export ETCD_ENDPOINTS=http://127.0.0.1:3379
	told 'check ETCD_ENDPOINTS, where etcd has TLS https://'
	export ETCD_ENDPOINTS=https://127.0.0.1:3379 ETCD_CA_CERT_FILE=$PWD/ca.pem
	told 'self-signed certificate: check ETCD_CA_CERT_FILE, ETCD_CERT_FILE and ETCD_KEY_FILE'
	export ETCD_CA_CERT_FILE=$PWD/none.pem
	told "$PWD/none.pem: check ETCD_CA_CERT_FILE"
	export ETCD_CA_CERT_FILE=$PWD/ca.pem ETCD_CERT_FILE=$PWD/ca.pem ETCD_KEY_FILE=$PWD/locked.key
	openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes128 -pass pass:x -out locked.key
	told 'check that ETCD_KEY_FILE is readable, the key of ETCD_CERT_FILE and not encrypted'
	export ETCD_KEY_FILE=$PWD/none.key
	told 'check that ETCD_KEY_FILE is readable'
	unset ETCD_CA_CERT_FILE ETCD_CERT_FILE ETCD_KEY_FILE
	export ETCD_ENDPOINTS=http://127.0.0.1:9
	told "Couldn't connect to server: check ETCD_ENDPOINTS, and that etcd runs there"
	export ETCD_ENDPOINTS=http://known:secret-of-known@127.0.0.1:2379
	told 'ETCD_ENDPOINTS: a user in an address: set ETCD_USERNAME and ETCD_PASSWORD'
	export ETCD_ENDPOINTS=known:secret-of-known@127.0.0.1:2379
	told 'ETCD_ENDPOINTS: a user in an address: set ETCD_USERNAME and ETCD_PASSWORD'
	"$BIN/margayctl" --print-config >print-config
	grep -F 'ETCD_ENDPOINTS = (secret)' print-config
}

start_felix() {
	export IP=192.0.2.1/24 NO_DEFAULT_POOLS=true FELIX_ROUTEREFRESHINTERVAL=0
	export MARGAY_LOG_LEVEL=warn
	export MARGAY_NODENAME_FILE=$PWD/nodename MARGAY_MTU_FILE=$PWD/mtu MARGAY_RUN_DIR=$PWD/run
	ip address replace 192.0.2.1/24 dev lo
	"$BIN/margay-felix" 2>felix.log &
	FELIX=$!
}

eventually() { # COMMAND...
	for _ in {1..300}; do
		! "$@" || return 0
		sleep 0.05
	done
	echo "never true: $*"
	cat felix.log
	false
}

has() { # KEY
	[ -n "$(value "$1")" ]
}

# In the words of Calico's own start-up.
cluster_is_made() {
	eventually has $V3/tiers/kube-baseline
	[[ $(value $V3/clusterinformations/default | jq -r .spec.clusterGUID) =~ ^[0-9a-f]{32}$ ]]
	[ "$(value $V3/clusterinformations/default | jq -c '[.spec.clusterType, .spec.datastoreReady]')" = '["bgp",true]' ]
	[ "$(value $V3/ipamconfigurations/default | jq -c .spec)" = '{"strictAffinity":false,"autoAllocateBlocks":true}' ]
	[ "$(value $V3/felixconfigurations/default | jq -r .spec.logSeverityScreen)" = Info ]
	[ "$(value $V3/felixconfigurations/node.node1 | jq -r .spec.defaultEndpointToHostAction)" = Return ]
	[ "$(value $V3/tiers/default | jq -c .spec)" = '{"order":1000000,"defaultAction":"Deny"}' ]
	[ "$(cat nodename)" = node1 ]
}

@test "a node whose address another has is refused" {
	etcdctl put $V3/nodes/node2 '{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"node2"},"spec":{"bgp":{"ipv4Address":"192.0.2.1/24"}}}'
	start_felix
	eventually grep -q "node node1: its address 192.0.2.1 is node node2's already" felix.log
	run -1 has $V3/nodes/node1
	etcdctl del $V3/nodes/node2
	eventually has $V3/nodes/node1
}

@test "felix follows etcd, over its restart" {
	start_felix
	for _ in {1..200}; do
		value=$(value $V3/nodes/node1)
		[ -z "$value" ] || break
		sleep 0.05
	done
	[ "$(jq -r .spec.bgp.ipv4Address <<<"$value")" = 192.0.2.1/24 ]
	cluster_is_made
	kill "$ETCD"
	wait "$ETCD" || true
	etcd_start
	put $IPAM/host/node1/ipv4/block/10.244.66.128-29 affinity
	jq '.spec.ipipMode = "Never"' "$GOLDEN/pool.json" | "$BIN/margayctl" apply -f -
	for _ in {1..200}; do
		[ -z "$(ip route show type blackhole 10.244.66.128/29)" ] || break
		sleep 0.05
	done
	ip route show type blackhole 10.244.66.128/29 | grep 10.244.66.128
}

# What the verbs print is in golden/ipam.bats; here is that they write what etcd, and Calico's client, takes.
@test "addresses are checked, mended, released and split" {
	put $IPAM/host/node1/ipv4/block/10.244.66.128-29 affinity
	put $IPAM/assignment/ipv4/block/10.244.66.128-29 block-used
	put $IPAM/handle/k8s-pod-network.0f3c1d handle
	etcdctl put $IPAM/handle/ipip-tunnel-addr-node1 '{"block":{"10.244.66.128/29":1},"deleted":false}'
	etcdctl put $IPAM/handle/margay-reserve-node1 '{"block":{"10.244.66.128/29":1},"deleted":false}'
	etcdctl put $IPAM/host/node2/ipv4/block/10.244.66.128-29 '{"state":"confirmed","deleted":false}'
	etcdctl put $V3/nodes/node1 '{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"node1"},
		"spec":{"bgp":{"ipv4IPIPTunnelAddr":"10.244.66.128"}}}'
	etcdctl put $V3/clusterinformations/default '{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3",
		"metadata":{"name":"default"},"spec":{"clusterGUID":"d5c2","datastoreReady":true}}'
	jq '.spec.blockSize = 29' "$GOLDEN/pool.json" | "$BIN/margayctl" apply -f -
	# The pod's container ended, and nobody said so; a handle has nothing; an affinity is stale.
	run -2 "$BIN/margayctl" ipam check --repair --quarantine 0
	echo "$output"
	[[ $output == *"(no endpoints of its network on node node1 are "* ]]
	[[ $output == *"deleted handle margay-reserve-node1"* ]]
	[[ $output == *"deleted the affinity of node node2 for block 10.244.66.128/29"* ]]
	[ -z "$(value $IPAM/handle/margay-reserve-node1)$(value $IPAM/host/node2/ipv4/block/10.244.66.128-29)" ]
	same $IPAM/host/node1/ipv4/block/10.244.66.128-29 affinity
	run -0 "$BIN/margayctl" ipam configure --strictaffinity=true --max-blocks-per-host=4
	[ "$(value $IPAM/config)" = '{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":4,"kubeVirtVMAddressPersistence":"Enabled"}' ]
	etcdctl del $IPAM/config
	"$BIN/margayctl" datastore lock
	run -2 "$BIN/margayctl" ipam check -o report
	run -0 "$BIN/margayctl" ipam release --from-report report
	[[ $output == *"Released 1 IPs successfully"* ]]
	[ "$(value $IPAM/assignment/ipv4/block/10.244.66.128-29 | jq '[.allocations[] | values] | length')" = 1 ]
	[ -z "$(value $IPAM/handle/k8s-pod-network.0f3c1d)" ]
	run -0 "$BIN/margayctl" ipam split 2 --name "$(jq -r .metadata.name "$GOLDEN/pool.json")"
	"$BIN/margayctl" datastore unlock
	run -0 "$BIN/margayctl" ipam check
	run -0 "$BIN/margayctl" ipam release --ip=10.244.66.128
	[ -z "$(value $IPAM/handle/ipip-tunnel-addr-node1)" ]
}

@test "what is wrong is said in one line" {
	run -1 "$BIN/margayctl" get nodes --etcd-endpoints http://127.0.0.1:1
	[[ $output == "margayctl: "*"datastore http://127.0.0.1:1: Failed to connect to 127.0.0.1 port 1"*": check ETCD_ENDPOINTS, and that etcd runs there" ]]
	[ "${#lines[@]}" = 1 ]
	run -1 "$BIN/margayctl" get nodes --etcd-discovery-srv example.org --etcd-endpoints ''
	[[ $output == "margayctl: ETCD_DISCOVERY_SRV is set: "* ]]
	export ETCD_ENDPOINTS=http://127.0.0.1:1
	ip netns add web-0
	run -1 cni ADD
	[[ $output == *"check ETCD_ENDPOINTS"* ]]
}
