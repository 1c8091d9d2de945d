#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# margay-cni serve on a real API server: pods start and stop by the node's reserve and journal, which is
# carried out there a moment later, or when it is there again.

bats_require_minimum_version 1.5.0
load servers.bash
load journal.bash
load ../netns/pods.bash

setup_file() {
	ip link set lo up
	ip address add 192.0.2.1/24 dev lo
}

setup() {
	export APISERVER
	APISERVER=$("$BATS_TEST_DIRNAME/kube-apiserver" 2>&1)
	cd "$BATS_TEST_TMPDIR" || exit
	export SERVERS=$PWD CNI_PATH=/nowhere DATASTORE_TYPE=kubernetes KUBECONFIG=$PWD/kubeconfig
	node_env
	export MARGAY_CNI_STATE_DIR=$PWD/state MARGAY_CNI_RESERVE=3 MARGAY_CNI_GARBAGE_AFTER=60
	echo '{"apiVersion":"audit.k8s.io/v1","kind":"Policy","rules":[{"level":"Metadata","users":["admin"]}]}' >audit.json
	etcd_start
	api_prepare
	api_up
	crds_make
	node_make
	kubeconfig https://127.0.0.1:6443 "$SERVERS/pki/apiserver.crt" '{token: secret-of-admin}'
	"$BIN/margayctl" apply -f - >/dev/null <<-Y
		{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: p}, spec: {cidr: 10.244.0.0/22, blockSize: 26}}
	Y
	echo '{"cniVersion":"1.1.0","name":"net","type":"margay","nodename":"node-1","ipam":{"type":"margay-ipam"}}' >conf
	serve
	within 20 held 3
	for p in a b c d; do pod $p; done
}

teardown() {
	unserve
	for pid in api.pid etcd.pid; do
		[ ! -f $pid ] || end "$(cat $pid)" -KILL
	done
	pods_remove
}

serve_other() { # node-2
	post /api/v1/nodes '{"kind":"Node","apiVersion":"v1","metadata":{"name":"node-2"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.2"}]}}'
	NODENAME=node-2 MARGAY_RUN_DIR=$PWD/run-2 MARGAY_CNI_STATE_DIR=$PWD/state-2 MARGAY_CNI_HEALTH_PORT=9098 \
		"$BIN/margay-cni" serve 2>serve-2.log 3>&- 4>&- &
	other=$!
}

api_up() {
	api_start --disable-admission-plugins=ServiceAccount --audit-policy-file=audit.json --audit-log-path=audit.log
}

pod() { # which kubelets are told of
	ip netns add "$1"
	ip -n "$1" link set lo up
	post /api/v1/namespaces/default/pods '{"metadata":{"name":"'"$1"'"},"spec":{"nodeName":"node-1","containers":[{"name":"c","image":"i"}]}}'
}

cni() { # VERB POD [ADDRESS]
	CNI_COMMAND=$1 CNI_CONTAINERID=c-$2 CNI_NETNS=/run/netns/$2 CNI_IFNAME=eth0 \
		CNI_ARGS="K8S_POD_NAMESPACE=default;K8S_POD_NAME=$2${3:+;IP=$3}" "$BIN/margay" <"${CONF:-conf}"
}

owned() { # HANDLE: how many addresses
	api /apis/crd.projectcalico.org/v1/ipamblocks | jq --arg h "$1" '[.items[].spec | .attributes as $a
		| .allocations[] | select(. != null) | $a[.].handle_id | select(. == $h)] | length'
}

holds() { # N: node-2, ahead
	[ "$(owned margay-reserve-node-2)" = "$1" ]
}

pod_delete() { # POD: it is gone at once
	api -X DELETE -H 'Content-Type: application/json' --data '{"gracePeriodSeconds":0}' "/api/v1/namespaces/default/pods/$1" >/dev/null
}

says() { # POD ADDRESS: its annotations do
	[ "$(api "/api/v1/namespaces/default/pods/$1" | jq -r '.metadata.annotations["cni.projectcalico.org/podIPs"] // ""')" = "$2" ]
}

owns() { # POD N
	[ "$(owned "net.c-$1")" = "$2" ]
}

handles() { # N
	[ "$(api /apis/crd.projectcalico.org/v1/ipamhandles | jq '.items | length')" = "$1" ]
}

given() { # "HANDLE ADDRESS" of each address of a pod
	api /apis/crd.projectcalico.org/v1/ipamblocks | jq -r '.items[].spec | (.cidr | split("/")[0] | split(".") | map(tonumber)) as $b |
		.attributes as $a | .allocations | to_entries[] | select(.value != null) | {i: .key, h: $a[.value].handle_id} |
		select(.h != "margay-reserve-node-1") | "\(.h) \($b[0]).\($b[1]).\($b[2]).\($b[3] + .i)"' | sort
}

told() { # "POD ADDRESS" of each Pod that says one
	api /api/v1/namespaces/default/pods | jq -r '.items[].metadata | {name, ip: (.annotations["cni.projectcalico.org/podIPs"] // "")} |
		select(.ip != "") | "\(.name) \(.ip)"' | sort
}

exact() { # POD...
	local p

	within 120 settled
	within 120 held "$MARGAY_CNI_RESERVE"
	for p; do
		echo "$p $(address "$p")"
	done | sort >there
	diff <(sed 's/^/net.c-/' there) <(given)
	diff <(sed 's,$,/32,' there) <(told)
	handles $(($# + (MARGAY_CNI_RESERVE > 0)))
	"$BIN/margayctl" ipam check --show-problem-ips >check.txt || { cat check.txt; return 1; }
}

store_away() {
	end "$(cat api.pid)" -KILL
}

store_back() {
	api_up
}

# A server that is started meanwhile would not know the pods, of which the API server alone tells it: this one is told
# that it has seen that an hour ago.
hour_passes() {
	local line

	line=$(sed -n 's/^[0-9a-f]* \(.*"do":"seen".*\)/\1/p' state/journal | tail -n 1 | jq -c '.uptime -= 3600 | .wall -= 3600')
	echo "$(printf %s "$line" | sha256sum | cut -c-16) $line" >>state/journal
}

@test "ADD and DEL by the journal, with the API server there and away" {
	cni ADD a >result
	a=$(ip -n a -j -4 address show dev eth0 | jq -r '.[0].addr_info[0].local')
	[ "$(jq -r '.ips[0].address' result)" = "$a/32" ]
	within 20 says a "$a/32"
	within 20 owns a 1
	within 20 held 3
	within 20 handles 2
	end "$(cat api.pid)" -KILL
	SECONDS=0
	cni DEL a
	cni DEL a
	answered
	run ! settled
	[ -z "$(ip route show "$a")" ]
	api_up
	within 30 says a ""
	within 30 owns a 0
	within 30 handles 1
	within 30 held 3
	# The monitor has the Pod and its Namespace: an ADD needs no answer.
	end "$(cat api.pid)" -KILL
	SECONDS=0
	cni ADD b >/dev/null
	answered
	run ! settled
	b=$(ip -n b -j -4 address show dev eth0 | jq -r '.[0].addr_info[0].local')
	# One that it does not have is fetched.
	rc=0
	out=$(CNI_COMMAND=ADD CNI_CONTAINERID=c-x CNI_NETNS=/run/netns/a CNI_IFNAME=eth0 \
		CNI_ARGS="K8S_POD_NAMESPACE=default;K8S_POD_NAME=x" "$BIN/margay" <conf) || rc=$?
	[ "$rc" = 1 ]
	jq -e '.code == 11' <<<"$out"
	api_up
	within 30 says b "$b/32"
	within 30 owns b 1
	cni DEL b
	within 30 owns b 0
	# A Pod that is gone before its ADD is carried out, and its DEL: nothing of it is left.
	cni ADD b >/dev/null
	pod_delete b
	cni DEL b
	within 30 owns b 0
	within 30 handles 1
	within 30 held 3
	# And again, for the same Pod.
	cni ADD a >/dev/null
	within 30 owns a 1
	run ! grep " error " serve.log
}

cut_off() { # [off]
	iptables "$([ -z "${1:-}" ] && echo -A || echo -D)" INPUT -p tcp --dport 6443 -j DROP
}

@test "the API server is cut off: nobody waits for it but who needs it, and they not for long" {
	unserve
	export MARGAY_CNI_RESERVE=0
	serve
	for p in p{1..8}; do pod "$p"; done
	hang cut_off p{1..8}
}

@test "an hour without the API server: as many pods start as are held ahead, and as many stop" {
	hour_away "${PODS:-12}"
}

@test "nothing is held ahead: the Pod's patch is not waited for, and comes" {
	local address

	unserve
	MARGAY_CNI_RESERVE=0 serve
	within 20 held 0
	keeper_stop
	cni ADD a >first
	address=$(jq -r '.ips[0].address' first)
	owns a 1
	says a ""
	cni ADD a | cmp - first
	# shellcheck disable=SC2154 # keeper_stop sets it
	kill -CONT "$stopped"
	within 20 says a "$address"
	# Whoever is killed in between has it in the journal.
	keeper_stop
	cni ADD b >/dev/null
	unserve -KILL
	kill -KILL "$stopped"
	MARGAY_CNI_RESERVE=0 serve
	within 30 says b "$(ip -n b -j -4 address show dev eth0 | jq -r '.[0].addr_info[0].local')/32"
	cni DEL a
	cni DEL b
	within 20 owns a 0
	within 20 owns b 0
	within 20 handles 0
	within 20 says a ""
}

ipam() { # VERB CONTAINER [ADDRESS]
	CNI_COMMAND=$1 CNI_CONTAINERID=c-$2 CNI_NETNS=/none CNI_IFNAME=eth0 CNI_ARGS=${3:+IP=$3} "$BIN/margay-ipam" <conf
}

asked() { # what the API server was, by Margay, but for watches, and whether it answers
	jq -r 'select(.stage == "ResponseComplete" and .objectRef and .verb != "watch" and (.userAgent | startswith("margay/")))
		| "\(.verb) \(.objectRef.resource)"' audit.log
}

last=0

fresh() { # [ADDRESS]: an ADD of another container, whose answer is in out
	ipam ADD $((++last)) "$@" >out
}

asks() { # WHAT COMMAND...
	local n

	n=$(asked | wc -l)
	"${@:2}" || return
	asked | tail -n +$((n + 1)) | paste -sd, | tee asks
	grep -xF "$1" asks
}

by_known() { # COMMAND...
	asks 'create ipamhandles,patch ipamblocks,get clusterinformations' "$@"
}

gives() { # WHAT: the beginning of an address
	fresh && jq -e --arg p "$1" '.ips[0].address | startswith($p)' out
}

avoids() { # likewise
	fresh && jq -e --arg p "$1" '.ips[0].address | startswith($p) | not' out
}

refuses() { # WHY [ADDRESS]
	! fresh "${@:2}" && jq -e --arg w "$1" '.msg | contains($w)' out
}

pool() { # NAME CIDR
	"$BIN/margayctl" apply -f - >/dev/null <<<"{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: $1}, spec: {cidr: $2, blockSize: 26}}"
}

disable() { # POOL
	merge "/apis/crd.projectcalico.org/v1/ippools/$1" '{"spec":{"disabled":true}}'
}

block_of() { # NODE PREFIX: its first address
	api /apis/crd.projectcalico.org/v1/ipamblocks | jq -er --arg n "host:$1" --arg p "$2" \
		'.items[].spec | select(.affinity == $n).cidr | select(startswith($p)) | sub("/.*"; "")'
}

sound() {
	python3 -B "$BATS_TEST_DIRNAME/ipam_read.py" kube https://127.0.0.1:6443 "$SERVERS/pki/apiserver.crt" secret-of-admin
}

serve_bare() { # WORKERS: nothing is held ahead, and the keeper asks for nothing
	unserve
	MARGAY_CNI_WORKERS=$1 MARGAY_CNI_RESERVE=0 serve
	within 20 held 0
	keeper_stop
}

@test "nothing is held ahead: an ADD waits for two writes and a look at the lock, and heeds what has changed" {
	local foreign reserved

	other_address() { # N: of the block of node-2
		echo "${foreign%.*}.$((${foreign##*.} + $1))"
	}
	strict() {
		refuses strictAffinity "$(other_address $((21 + last)))"
	}
	post /apis/crd.projectcalico.org/v1/clusterinformations '{"kind":"ClusterInformation",
		"apiVersion":"crd.projectcalico.org/v1","metadata":{"name":"default"},"spec":{"datastoreReady":true}}'
	serve_bare 1
	within 20 by_known fresh
	by_known cni ADD a
	by_known fresh
	# The block of another node.
	serve_other
	within 20 holds 3
	end "$other" -KILL
	foreign=$(block_of node-2 10.244.)
	asks 'get ipamblocks,get blockaffinities,create ipamhandles,patch ipamblocks,get clusterinformations' \
		fresh "$(other_address 20)"
	"$BIN/margayctl" ipam configure --strictaffinity=true >/dev/null
	within 20 strict
	# Pools and reservations.
	pool q 10.245.0.0/22
	disable p
	within 20 gives 10.245.
	by_known gives 10.245.
	reserved=$(block_of node-1 10.245.)
	reserved=${reserved%.*}.
	post /apis/crd.projectcalico.org/v1/ipreservations '{"kind":"IPReservation","apiVersion":"crd.projectcalico.org/v1",
		"metadata":{"name":"r"},"spec":{"reservedCIDRs":["'"$reserved"'0/24"]}}'
	within 20 avoids "$reserved"
	avoids "$reserved"
	disable q
	within 20 refuses 'no enabled IPv4 pool'
	# What has come right now is found.
	pool r 10.248.0.0/24
	gives 10.248.
	"$BIN/margayctl" datastore lock >/dev/null
	refuses 'is locked'
	[ "$(jq .code out)" = 11 ]
	"$BIN/margayctl" datastore unlock >/dev/null
	gives 10.248.
	sound
}

@test "several that give of one block at once, and the API server begins anew" {
	local n

	unserve
	MARGAY_CNI_WORKERS=4 MARGAY_CNI_RESERVE=3 serve
	within 20 held 3
	export -f ipam
	seq 40 | xargs -P 8 -I {} bash -ec 'ipam ADD {} >{}.json'
	[ "$(jq -r '.ips[0].address' {1..40}.json | sort -u | wc -l)" = 40 ]
	within 20 held 3
	sound
	for n in {1..20}; do ipam DEL "$n"; done
	end "$(cat api.pid)" -KILL
	api_up
	seq 41 60 | xargs -P 8 -I {} bash -ec 'ipam ADD {} >{}.json'
	[ "$(jq -r '.ips[0].address' {21..60}.json | sort -u | wc -l)" = 40 ]
	for n in {21..60}; do ipam DEL "$n"; done
	within 30 handles 1
	sound
}

@test "a pod whose DEL never came: its address is free when it has neither a route nor a Pod for a while" {
	base=$(api /apis/crd.projectcalico.org/v1/ipamblocks | jq -r '.items[0].spec.cidr | split("/")[0]')
	cni ADD a >/dev/null
	cni ADD b "${base%.*}.$((${base##*.} + 40))" >/dev/null # of the pool
	cni ADD c >/dev/null
	cni ADD d >/dev/null
	for p in a b c d; do within 30 owns $p 1; done
	for p in a b c; do pod_delete $p; done
	SECONDS=0
	for p in a b d; do ip -n $p link del eth0; done
	within 150 owns a 0
	[ $SECONDS -ge 55 ]
	within 30 owns b 0
	# It has a route still, and it has a Pod.
	owns c 1
	owns d 1
	within 10 held 3
	within 10 handles 3
	[ "$(grep -c 'which is not there any more, and is free' serve.log)" = 2 ]
}

looked() { # SECONDS: so long after the machine's start, who is absent was written down
	awk -v t="$1" 'NR > 1 && $2 >= t && $NF == "node-2" { found = 1 } END { exit !found }' state/absent
}

affinities() { # N, of node-2
	[ "$(api /apis/crd.projectcalico.org/v1/blockaffinities | jq '[.items[].spec | select(.node == "node-2")] | length')" = "$1" ]
}

@test "a node that is gone: what it held is given back after hours" {
	serve_other
	within 20 holds 3
	affinities 1
	end "$other" -KILL
	api -X DELETE /api/v1/nodes/node-2 >/dev/null
	now=$(cut -d. -f1 /proc/uptime)
	for t in 0 3000 6000 9000 12000 15000; do
		unserve
		serve unshare -T --boottime $t
		within 20 looked $((now + t))
		holds 3
	done
	unserve
	serve unshare -T --boottime 18010
	within 30 holds 0
	within 10 handles 1
	within 10 affinities 0
	held 3
}

@test "host-local with the node's podCIDRs, which the server has of Kubernetes" {
	jq --arg d "$PWD/local" '.cniVersion = "1.0.0" | .ipam = {type: "host-local", dataDir: $d,
		ranges: [[{subnet: "usePodCidr"}], [{subnet: "usePodCidrIPv6"}]]}' conf >conf-local
	local_cni() {
		CNI_COMMAND=$1 CNI_CONTAINERID=c-a CNI_NETNS=/run/netns/a CNI_IFNAME=eth0 CNI_PATH=/usr/lib/cni \
			CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=a" env -u KUBECONFIG -u DATASTORE_TYPE \
			"$BIN/margay" <conf-local
	}
	run -1 --separate-stderr local_cni ADD
	jq -e '.code == 11 and (.msg | test("usePodCidr: Node node-1 has no podCIDR of IPv4"))' <<<"$output"
	merge /api/v1/nodes/node-1 '{"spec":{"podCIDR":"10.9.0.0/24","podCIDRs":["10.9.0.0/24","fd00:9::/64"]}}'
	local_cni ADD >result
	jq -e '[.ips[].address] == ["10.9.0.2/32", "fd00:9::2/128"]' result
	[ "$(local_cni ADD)" = "$(cat result)" ]
	within 20 says a 10.9.0.2/32,fd00:9::2/128
	ping -c1 -W2 -I 192.0.2.1 10.9.0.2
	local_cni DEL
	within 20 says a ""
	[ -z "$(find local -name '10.*' -o -name 'fd*')" ]
	# Without a server nobody here knows them.
	unserve
	run -1 --separate-stderr local_cni ADD
	jq -e .code <<<"$output"
	local_cni DEL
}
