#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The datastore is stopped under a running node for AWAY_S seconds: felix, confd with BIRD, whose neighbour is
# another BIRD, and proxy, as far as this kernel goes; a pod has traffic to another and to what the neighbour
# announces. Nothing is removed, no packet is lost, and when the datastore is back each agent lists each kind
# once at most: the servers tell how often they were asked.

bats_require_minimum_version 1.5.0
load servers.bash

setup_file() {
	ip link set lo up
}

setup() {
	cd "$BATS_TEST_TMPDIR" || exit
	export SERVERS=$PWD S=${AWAY_S:-20}
	node_env
	export CALICO_IPV4POOL_IPIP=Never
	neighbour
}

teardown() {
	local pid

	stop felix confd proxy
	for pid in ping.pid monitor.pid monitor-nft.pid bird.pid neighbour.pid api.pid etcd.pid; do
		[ ! -f $pid ] || end "$(cat $pid)" -KILL
	done
	ip link del eth0
	for ns in web-0 web-1 neighbour; do
		ip netns del $ns
	done
	ip route flush proto 80
	nft flush ruleset
}

neighbour() {
	ip netns add neighbour
	ip link add eth0 type veth peer name eth0 netns neighbour
	ip link set eth0 addrgenmode none up
	ip address add 192.0.2.1/24 dev eth0
	ip -n neighbour link set lo up
	ip -n neighbour link set eth0 up
	ip -n neighbour address add 192.0.2.2/24 dev eth0
	ip -n neighbour address add 10.99.0.1/32 dev lo
	cat >neighbour.conf <<-C
		router id 192.0.2.2;
		protocol device {}
		protocol direct { ipv4; }
		protocol static announced { ipv4; route 10.99.0.0/24 blackhole; }
		protocol kernel { ipv4 { export where source = RTS_BGP; }; }
		protocol bgp { local as 64512; neighbor 192.0.2.1 as 64512; passive; ipv4 { import all; export where proto = "announced"; next hop self; }; }
	C
	ip netns exec neighbour bird -f -c neighbour.conf -s neighbour.ctl >neighbour.log 2>&1 3>&- 4>&- &
	echo $! >neighbour.pid
}

cni() { # POD
	CNI_COMMAND=ADD CNI_CONTAINERID=id-$1 CNI_NETNS=/run/netns/$1 CNI_IFNAME=eth0 CNI_PATH=/nowhere \
		CNI_ARGS="K8S_POD_NAMESPACE=default;K8S_POD_NAME=$1" "$BIN/margay" <netconf |
		jq -r '.ips[0].address | sub("/32"; "")'
}

has_route() {
	ip route show proto bird | grep -q '^10.99.0.0/24'
}

reaches() { # ADDRESS
	ip netns exec web-0 ping -c 1 -W 1 "$1" >/dev/null
}

# What must not change: BIRD's timers and counters are none of it.
installed() {
	ip route show table all | grep -v linkdown | sort
	nft -n list ruleset
	cat bird/*.conf
	birdc -s bird.ctl show protocols | awk '/^margay|^Mesh|^Node|BGP/ { print $1, $4 }'
}

upset() { # what the kernel told of deletions
	grep -h -E '^Deleted|^delete' monitor.log monitor-nft.log
}

all_in_sync() {
	local d

	for d in felix confd proxy; do
		says $d 'ok  datastore' || return
	done
}

a_node_goes_on() { # STOP-SERVER START-SERVER LISTS-SERVED
	local d away=$1 back=$2 served=$3 web1

	"$BIN/margayctl" apply -f - <<-Y
		{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: pool}, spec: {cidr: 10.244.0.0/24, blockSize: 26}}
		---
		{kind: BGPPeer, apiVersion: projectcalico.org/v3, metadata: {name: neighbour}, spec: {peerIP: 192.0.2.2, asNumber: 64512}}
	Y
	for d in felix confd proxy; do
		start $d
	done
	within 20 test -s bird/bird.conf
	bird -f -c bird/bird.conf -s bird.ctl >bird.log 2>&1 3>&- 4>&- &
	echo $! >bird.pid
	ip netns add web-0
	ip netns add web-1
	cni web-0
	web1=$(cni web-1)
	within 60 has_route
	within 20 reaches "$web1"
	within 20 reaches 10.99.0.1
	within 20 all_in_sync
	within 20 says confd 'ok  bird'
	installed >before.txt
	for d in felix confd proxy; do
		lists[${#lists[@]}]=$(metric $d 'requests_total{verb="list"}')
	done

	$away
	stdbuf -oL ip monitor route >monitor.log 3>&- 4>&- &
	echo $! >monitor.pid
	stdbuf -oL nft monitor destroy >monitor-nft.log 3>&- 4>&- &
	echo $! >monitor-nft.pid
	ip netns exec web-0 ping -i 0.2 "$web1" >ping.log 3>&- 4>&- &
	echo $! >ping.pid
	sleep "$S"
	for d in felix confd proxy; do
		within 30 says $d 'BAD datastore' # a watch is begun anew for 20 s before
		alive $d
	done
	reaches 10.99.0.1
	diff before.txt <(installed)

	$back
	within 90 all_in_sync
	within 10 says confd 'ok  bird'
	end "$(cat ping.pid)" -INT
	grep ' 0% packet loss' ping.log
	reaches 10.99.0.1
	diff before.txt <(installed)
	run -1 upset
	# which it would have told
	ip route add 198.51.100.0/24 dev lo
	ip route del 198.51.100.0/24 dev lo
	nft add table ip probe
	nft delete table ip probe
	within 5 grep -q '^Deleted' monitor.log
	within 5 grep -q '^delete' monitor-nft.log
	for d in felix confd proxy; do
		now=$(metric $d 'requests_total{verb="list"}')
		echo "# $d: $now lists, ${lists[0]} before" >&3
		lists=("${lists[@]:1}")
	done
	$served
	# and it hears of what comes
	"$BIN/margayctl" delete bgppeer neighbour
	within 20 no_route
}

no_route() {
	! has_route
}

etcd_away() {
	end "$ETCD" -KILL
	mv etcd.log etcd-before.log
}

etcd_back() {
	etcd_start --log-level debug --logger zap
}

# Three agents: who lists a key more often has listed it twice.
etcd_served() {
	local worst

	worst=$(grep 'KV/Range' etcd.log | grep -o 'range_end:[^ ]*' | sort | uniq -c | sort -rn | head -n 1)
	echo "# the prefix that was read most often: $worst" >&3
	[ "$(awk '{ print $1 }' <<<"$worst")" -le 3 ]
}

@test "etcd: stopped, and nothing is removed" {
	export DATASTORE_TYPE=etcdv3 ETCD_ENDPOINTS=http://127.0.0.1:2379
	etcd_start
	jq -n '{cniVersion: "1.0.0", name: "net", type: "margay", nodename: "node-1", datastore_type: "etcdv3",
		etcd_endpoints: "http://127.0.0.1:2379", ipam: {type: "margay-ipam"}}' >netconf
	a_node_goes_on etcd_away etcd_back etcd_served
}

kube_away() {
	end "$(cat api.pid)" -KILL
	end "$ETCD" -KILL
	mv audit.log audit-before.log
}

kube_serve() {
	etcd_start
	echo '{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"],
		"rules": [{"level": "Metadata"}]}' >audit.yaml
	api_start --disable-admission-plugins=ServiceAccount --audit-policy-file="$PWD/audit.yaml" \
		--audit-log-path="$PWD/audit.log" --audit-log-mode=blocking
}

# Each agent is a user of its own. The affinities of both families are one kind there.
kube_served() {
	jq -r 'select(.verb == "list" and .responseStatus.code == 200 and .user.username != "admin" and
		(.userAgent | startswith("margay/"))) | "\(.user.username) \(.requestURI)"' audit.log |
		sed 's/[?].*labelSelector=/ /; s/[?].*//' | sort | uniq -c >served
	echo "# the server counts $(awk '{ n += $1 } END { print n }' served) lists of $(wc -l <served) kinds" >&3
	[ -s served ]
	[ -z "$(awk '$1 > ($3 ~ /blockaffinities/ && $2 == "felix" ? 2 : 1)' served)" ] || {
		cat served
		false
	}
}

@test "Kubernetes: stopped, and nothing is removed" {
	APISERVER=$("$BATS_TEST_DIRNAME/kube-apiserver" 2>&1) || skip "$APISERVER"
	export DATASTORE_TYPE=kubernetes KUBECONFIG=$PWD/kubeconfig
	api_prepare
	for d in felix confd proxy; do
		echo "secret-of-$d,$d,$d,system:masters" >>tokens
	done
	kube_serve
	crds_make
	node_make
	for d in web-0 web-1; do
		post /api/v1/namespaces/default/pods '{"kind":"Pod","apiVersion":"v1","metadata":{"name":"'$d'"},
			"spec":{"nodeName":"node-1","containers":[{"name":"c","image":"i"}]}}'
	done
	for d in felix confd proxy admin; do
		kubeconfig https://127.0.0.1:6443 "$PWD/pki/apiserver.crt" "{token: secret-of-$d}"
		cp kubeconfig "kubeconfig-$d"
	done
	jq -n --arg k "$KUBECONFIG" '{cniVersion: "1.0.0", name: "net", type: "margay", nodename: "node-1",
		datastore_type: "kubernetes", kubernetes: {kubeconfig: $k}, ipam: {type: "margay-ipam"}}' >netconf
	a_node_goes_on kube_away kube_serve kube_served
}
