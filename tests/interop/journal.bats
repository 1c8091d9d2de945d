#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# margay-cni serve on a real etcd: pods start and stop by the node's reserve and journal, while etcd is there,
# while it is away, and when whoever runs is killed; and then etcd says exactly what there is.

bats_require_minimum_version 1.5.0
load servers.bash
load journal.bash
load ../netns/pods.bash

setup_file() {
	ip link set lo up
	ip address add 192.0.2.1/24 dev lo
}

setup() {
	cd "$BATS_TEST_TMPDIR" || exit
	export SERVERS=$PWD CNI_PATH=/nowhere
	node_env
	export ETCD_ENDPOINTS=http://127.0.0.1:2379 MARGAY_CNI_STATE_DIR=$PWD/state MARGAY_CNI_RESERVE=${RESERVE:-4}
	etcd_start
	"$BIN/margayctl" apply -f - >/dev/null <<-Y
		apiVersion: projectcalico.org/v3
		kind: List
		items:
		- {kind: Node, apiVersion: projectcalico.org/v3, metadata: {name: node-1}}
		- {kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: p}, spec: {cidr: 10.244.0.0/22, blockSize: 26}}
	Y
	echo '{"cniVersion":"1.1.0","name":"net","type":"margay","nodename":"node-1","ipam":{"type":"margay-ipam"}}' >conf
	serve
	within 10 held "$MARGAY_CNI_RESERVE"
}

teardown() {
	local r=0

	unserve || r=1
	[ -z "${other:-}" ] || end "$other" -KILL
	[ ! -f etcd.pid ] || end "$(cat etcd.pid)" -KILL
	[ -z "${small:-}" ] || umount -l "$small"
	[ -z "${stale:-}" ] || rm -r "$stale"
	pods_remove
	return $r
}

cni() { # VERB POD [IFNAME]
	CNI_COMMAND=$1 CNI_CONTAINERID=c-$2 CNI_NETNS=${NETNS-/run/netns/$2} CNI_IFNAME=${3:-eth0} \
		CNI_ARGS="${CNI_ARGS-K8S_POD_NAMESPACE=ns;K8S_POD_NAME=$2}" "$BIN/margay" <"${CONF:-conf}"
}

blocks() {
	etcdctl get --prefix "$IPAM"/assignment/ --print-value-only
}

# owned HANDLE: how many addresses
owned() {
	blocks | jq -s --arg h "$1" '[.[] | .attributes as $a | .allocations[] | select(. != null) | $a[.].handle_id | select(. == $h)] | length'
}

endpoint() { # POD: its JSON, "" where there is none
	etcdctl get "$V3/workloadendpoints/ns/node--1-k8s-$1-eth0" --print-value-only
}

endpoint_is() { # POD: there
	[ -n "$(endpoint "$1")" ]
}

owns_none() { # HANDLE
	[ "$(owned "$1")" = 0 ]
}

used() { # N: addresses of all blocks
	[ "$(blocks | jq -s '[.[].allocations[] | select(. != null)] | length')" = "$1" ]
}

exact() { # POD...: etcd has these, and the reserve, and nothing else
	local p n=0

	within 20 settled
	within 10 held "$MARGAY_CNI_RESERVE" || { owned margay-reserve-node-1; cat serve.log; return 1; }
	for p; do
		n=$((n + 1))
		[ "$(owned "net.c-$p")" = 1 ] || { echo "$p"; return 1; }
		endpoint "$p" | jq -e --arg a "$(address "$p")/32" '.spec.ipNetworks == [$a]' >/dev/null || { endpoint "$p"; return 1; }
	done
	within 10 used $((n + MARGAY_CNI_RESERVE))
	[ "$(etcdctl get --prefix "$V3"/workloadendpoints/ --keys-only | grep -c .)" = "$n" ]
	[ "$(etcdctl get --prefix "$IPAM"/handle/ --keys-only | grep -c .)" = $((n + (MARGAY_CNI_RESERVE > 0))) ]
	"$BIN/margayctl" ipam check --show-problem-ips >check.txt || { cat check.txt; return 1; }
}

store_away() {
	end "$ETCD" -KILL
}

store_back() {
	etcd_start
}

hour_passes() {
	unserve
	serve unshare -T --boottime 3600
}

@test "a reserved address becomes a pod's, and its DEL gives it back" {
	pod a
	pod b
	blocks | jq -se '.[0].attributes == [{"handle_id":"margay-reserve-node-1","secondary":{"node":"node-1","type":"margayReserve"}}]'
	cni ADD a >result
	cni ADD b >/dev/null
	ip netns exec a ping -c1 -W2 "$(address b)"
	exact a b
	blocks | jq -se '[.[].attributes[] | select(.handle_id == "net.c-a") | .secondary | .pod == "a" and .namespace == "ns" and .node == "node-1" and (.timestamp | length > 0)] == [true]'
	# Again: the same, and nothing leaks.
	cni ADD a >result2
	diff result result2
	exact a b
	jq '{cniVersion: "1.1.0", name: "net", type: "margay", ipam: {type: "margay-ipam"}, prevResult: .}' result >prev
	CONF=prev cni CHECK a
	# By the kernel and the journal, whatever others have done in etcd.
	key=$V3/workloadendpoints/ns/node--1-k8s-a-eth0
	was=$(endpoint a)
	etcdctl del "$key" >/dev/null
	CONF=prev cni CHECK a
	etcdctl put "$key" "$was" >/dev/null
	was=$(address b)
	cni DEL b
	cni DEL b
	[ -z "$(ip route show "$was")" ]
	exact a
	cni DEL a
	exact
}

@test "etcd is away: pods start and stop, and etcd is exact when it is back" {
	pod a
	pod b
	cni ADD a
	exact a
	end "$ETCD" -KILL
	SECONDS=0
	cni ADD b >/dev/null
	for p in c d e; do
		pod $p
		cni ADD $p >/dev/null
	done
	answered
	run ! settled
	# The reserve is empty: what DEL frees is given again.
	pod f
	rc=0
	out=$(cni ADD f) || rc=$?
	[ "$rc" = 1 ]
	jq -e '.code == 11' <<<"$out"
	freed=$(address a)
	cni DEL a
	cni ADD f >/dev/null
	[ "$(address f)" = "$freed" ]
	cni DEL d
	cni DEL nobody-knows
	ip netns exec f ping -c1 -W2 "$(address b)"
	# Whoever is killed has done what it has answered.
	unserve -KILL
	serve
	cni DEL e
	pod g
	cni ADD g >/dev/null
	etcd_start
	exact b c f g
	for p in b c f g; do cni DEL $p; done
	exact
}

stopped() { # [off]
	kill "$([ -z "${1:-}" ] && echo -STOP || echo -CONT)" "$ETCD"
}

@test "etcd hangs: nobody waits for it but who needs it, and they not for long" {
	unserve
	export MARGAY_CNI_RESERVE=0
	serve
	for p in a b c d p{1..8}; do pod "$p"; done
	hang stopped p{1..8}
}

more_than() { # N: are held ahead
	[ "$(owned margay-reserve-node-1)" -gt "$1" ]
}

all_known() { # to the keeper, of what is held
	[ "$(curl -s 127.0.0.1:9097/metrics | awk '$1 == "margay_cni_reserve_free{family=\"4\"}" { print $2 }')" = \
		"$(owned margay-reserve-node-1)" ]
}

@test "etcd hangs while the reserve is filled: what it does later is the reserve's, too" {
	unserve
	export MARGAY_CNI_RESERVE=150 MARGAY_CNI_METRICS_ENABLED=true
	serve
	within 20 more_than 20
	stopped
	sleep 6
	stopped off
	within 20 more_than 149
	sleep 3
	within 5 all_known
}

@test "etcd is locked: pods start and stop as while it is away, and nothing is written" {
	pod a
	cni ADD a >/dev/null
	exact a
	etcdctl put "$V3/clusterinformations/default" '{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3",
		"metadata":{"name":"default"},"spec":{"clusterGUID":"g","datastoreReady":true}}' >/dev/null
	"$BIN/margayctl" datastore lock
	before=$(etcdctl get "$V3/clusterinformations/default" -w json | jq .header.revision)
	for p in b c d e f; do pod $p; done
	for p in b c d e; do cni ADD $p >/dev/null; done
	run ! --separate-stderr cni ADD f
	jq -e '.code == 11 and (.msg | contains("is locked"))' <<<"$output"
	cni DEL a
	cni ADD f >/dev/null
	cni DEL b
	[ "$(etcdctl get "$V3/clusterinformations/default" -w json | jq .header.revision)" = "$before" ]
	"$BIN/margayctl" datastore unlock
	exact c d e f
}

@test "a write that etcd refuses waits alone" {
	local refused=$V3/workloadendpoints/bad

	unserve
	etcdctl user add root:root
	etcdctl user grant-role root root
	etcdctl user add margay:secret
	etcdctl role add most
	etcdctl role grant-permission most readwrite /calico/ "$refused/"
	etcdctl role grant-permission most readwrite "${refused}0" /calico0
	etcdctl role grant-permission most readwrite /margay/ --prefix
	etcdctl user grant-role margay most
	etcdctl auth enable
	export ETCD_USERNAME=margay ETCD_PASSWORD=secret ETCDCTL_USER=root:root
	serve
	pod bad
	CNI_ARGS='K8S_POD_NAMESPACE=bad;K8S_POD_NAME=bad' cni ADD bad >/dev/null
	within 10 grep -q 'permission denied.*tried again' serve.log
	# What comes after it does not wait, neither now nor for the next attempt.
	pod a
	pod b
	cni ADD a >/dev/null
	within 10 endpoint_is a
	cni ADD b >/dev/null
	within 10 endpoint_is b
	cni DEL a
	within 10 owns_none net.c-a
	run ! settled
	etcdctl role grant-permission most readwrite "$refused/" --prefix
	unserve
	serve
	within 10 settled
	[ "$(etcdctl get "$refused/node--1-k8s-bad-eth0" --keys-only | grep -c .)" = 1 ]
	[ "$(owned net.c-bad)" = 1 ]
}

@test "an hour without etcd: as many pods start as are held ahead, and as many stop" {
	hour_away "${PODS:-12}"
}

@test "nobody serves, and the plugin has no credentials: the reserve and the journal do" {
	pod a
	pod b
	cni ADD a >/dev/null
	exact a
	unserve
	cni ADD b >/dev/null
	cni DEL a
	ip netns exec b ping -c1 -W2 192.0.2.1
	serve
	exact b
	unserve
	cni DEL b
	serve
	exact
}

@test "nobody serves, and a file of SQLite was left of another time: the reserve and the journal do" {
	local p

	mkdir -p /var/lib/margay
	stale=/var/lib/margay
	env -u ETCD_ENDPOINTS DATASTORE_TYPE=sqlite MARGAY_SQLITE_PATH=/var/lib/margay/margay.db "$BIN/margayctl" apply -f - <<-Y
		{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: p}, spec: {cidr: 10.244.0.0/22, blockSize: 26}}
	Y
	for p in a b; do
		pod $p
		cni ADD $p >/dev/null
	done
	exact a b
	unserve
	pod c
	cni ADD c >/dev/null
	ip netns exec a ping -c1 -W2 "$(address b)"
	serve
	exact a b c
}

knows() { # POD
	sed 's/^[0-9a-f]* //' state/journal | jq -se --arg h "net.c-$1" 'any(.do == "take" and .done and .handle == $h)' >/dev/null
}

@test "pods from before there was a journal: it has them a minute later" {
	local freed

	unserve
	rm -r state
	jq '.etcd_endpoints = "http://127.0.0.1:2379"' conf >conf-store
	for p in a b c; do pod $p; done
	for p in a b; do CONF=conf-store cni ADD $p >first-$p; done
	[ ! -e state/journal ]
	export MARGAY_CNI_RESERVE=0
	serve
	within 180 knows a
	within 10 knows b
	end "$ETCD" -KILL
	cni ADD a >again
	cmp again first-a
	freed=$(address b)
	cni DEL b
	cni ADD c >/dev/null
	[ "$(address c)" = "$freed" ]
	etcd_start
	exact a c
	cni DEL a
	cni DEL c
	exact
}

# late_add SIGNAL: pod a's, whose plugin was ended, and by the signal its server, but for the worker, which stands before
# the device
late_add() {
	local plugin

	unserve
	export MARGAY_CNI_WORKERS=1
	serve
	within 10 ready
	pod a
	pod b
	keeper_stop # what is free stays so
	# shellcheck disable=SC2154 # serve sets it
	worker=$(pgrep -P "$server" | tail -n 1)
	strace -qq -o trace -e trace=sendto,sendmsg -e inject=sendto,sendmsg:delay_enter=6000000:when=1 -p "$worker" 3>&- &
	within 5 grep -q "TracerPid:[[:space:]]*[1-9]" "/proc/$worker/status"
	CNI_COMMAND=ADD CNI_CONTAINERID=c-a CNI_NETNS=/run/netns/a CNI_IFNAME=eth0 \
		CNI_ARGS="K8S_POD_NAMESPACE=ns;K8S_POD_NAME=a" "$BIN/margay" <conf >/dev/null 2>&1 3>&- &
	plugin=$!
	within 5 grep -q '"do":"take"' state/journal
	sleep 0.2
	kill -KILL $plugin
	kill "$1" "$server"
}

# its_address_is_bs: by an ADD that asks for it, and a has nothing of it.
its_address_is_bs() {
	local ip

	ip=$(grep -o '"do":"take".*' state/journal | jq -Rr '"{" + . | fromjson | .ips[0] | split("/")[0]')
	CNI_ARGS="K8S_POD_NAMESPACE=ns;K8S_POD_NAME=b;IP=$ip" cni ADD b >/dev/null
	within 10 gone "$worker"
	kill -KILL "$stopped" 2>/dev/null || true
	end "$server"
	[ "$(address b)" = "$ip" ]
	[ "$(ip -n a -j link show | jq length)" = 1 ]
	[ "$(ip -j route show proto 80 | jq -r '.[].dst')" = "$ip" ]
	serve
	exact b
}

@test "a server ends while its worker is at an ADD: the pod's DEL waits for it, though nobody serves" {
	late_add -TERM
	within 5 test ! -e run/cni.sock
	CNI_ARGS='' cni DEL a
	its_address_is_bs
}

@test "a server is killed while its worker is at an ADD: the pod's DEL waits for it, though another one serves" {
	late_add -KILL
	touch began
	serve
	within 10 test run/cni.sock -nt began
	cni DEL a
	its_address_is_bs
}

@test "a server ends while its worker is at an ADD: GC waits for it, though nobody serves" {
	late_add -TERM
	within 5 test ! -e run/cni.sock
	jq '. + {"cni.dev/valid-attachments": []}' conf >gc
	CNI_COMMAND=GC "$BIN/margay" <gc >out || jq -e '.code == 11' out
	its_address_is_bs
}

@test "GC: what the runtime does not have any more, with etcd there and away" {
	for p in a b c; do
		pod $p
		cni ADD $p >/dev/null
	done
	exact a b c
	jq '. + {"cni.dev/valid-attachments": [{"containerID": "c-b", "ifname": "eth0"}, {"containerID": "c-c", "ifname": "eth0"}]}' conf >gc
	CNI_COMMAND=GC CNI_PATH=/nowhere "$BIN/margay" <gc
	exact b c
	within 10 eval '! ip -n a link show eth0 2>/dev/null'
	end "$ETCD" -KILL
	jq '."cni.dev/valid-attachments" |= .[:1]' gc >gc2
	rc=0
	CNI_COMMAND=GC CNI_PATH=/nowhere "$BIN/margay" <gc2 >out || rc=$?
	[ "$rc" = 1 ] # the rest is asked for again
	jq -e '.code == 11' out
	within 10 eval '! ip -n c link show eth0 2>/dev/null'
	etcd_start
	exact b
	CNI_COMMAND=GC CNI_PATH=/nowhere "$BIN/margay" <gc2
	exact b
	ip netns exec b ping -c1 -W2 192.0.2.1
}

ready() {
	curl -sf 127.0.0.1:9097/readyz >ready
}

no_device() {
	[ "$(ip -j link show type veth | jq length)" = 0 ]
}

@test "a disk that is full: pods end as ever, and nothing is told as done that is not on it" {
	pod a
	pod b
	unserve
	mkdir small
	mount -t tmpfs -o size=1500k none small
	small=$PWD/small
	cp state/* small
	export MARGAY_CNI_STATE_DIR=$PWD/small
	serve
	within 10 ready
	cni ADD b >/dev/null
	within 10 settled
	dd if=/dev/zero of=small/fill bs=1k 2>/dev/null || true
	keeper_stop
	for ((n = 0; n < 300; n++)); do
		CNI_COMMAND=DEL CNI_CONTAINERID=c-$n CNI_IFNAME=eth0 "$BIN/margay" <conf
	done
	cni DEL b
	within 10 no_device
	kill -CONT "$stopped"
	within 20 owns_none net.c-b
	within 20 settled
	# No room is left for the end of one more: none is begun.
	unserve
	cat small/journal >journal
	rm small/*
	dd if=/dev/zero of=small/fill bs=1k count=1200 2>/dev/null
	cat journal >small/journal
	serve
	rc=0
	out=$(cni ADD a) || rc=$?
	[ "$rc" = 1 ]
	jq -e '.code == 11 and (.msg | contains("No space left"))' <<<"$out"
	no_device
	rc=0
	out=$(CNI_COMMAND=STATUS "$BIN/margay" <conf) || rc=$?
	[ "$rc" = 1 ]
	jq -e '.code == 50 and (.msg | contains("No space left"))' <<<"$out"
	CNI_COMMAND=DEL CNI_CONTAINERID=c-x CNI_IFNAME=eth0 "$BIN/margay" <conf
	# Which is not the datastore's failure.
	within 10 eval 'curl -s 127.0.0.1:9097/readyz | grep "datastore: what is to be done there fails on this machine"'
	run ! grep 'datastore is away' serve.log
	# Not a byte is left: no line is told as written.
	dd if=/dev/zero of=small/rest bs=1k 2>/dev/null || true
	for ((n = 0; n < 300; n++)); do
		out=$(CNI_COMMAND=DEL CNI_CONTAINERID=d-$n CNI_IFNAME=eth0 "$BIN/margay" <conf) || break
	done
	[ $n -lt 300 ]
	jq -e '.code == 11 and (.msg | contains("No space left"))' <<<"$out"
	rm small/fill small/rest
	within 20 ready
	cni ADD a >/dev/null
	ip netns exec a ping -c1 -W2 192.0.2.1
	within 20 owns_one a
}

owns_one() { # POD
	[ "$(owned "net.c-$1")" = 1 ]
}

@test "health and metrics" {
	value() { curl -s 127.0.0.1:9097/metrics | awk -v n="$1" '$1 == n { print $2 }'; }
	has() { [ "$(value "$1")" = "$2" ]; }
	unserve
	export MARGAY_CNI_METRICS_ENABLED=true
	serve
	within 10 ready
	pod a
	cni ADD a >/dev/null
	cni DEL a
	within 10 has 'margay_cni_reserve_free{family="4"}' 4
	within 10 has margay_cni_journal_waiting 0
	has 'margay_cni_verbs_total{verb="ADD",result="ok"}' 1
	has 'margay_cni_verbs_total{verb="DEL",result="ok"}' 1
	end "$ETCD" -KILL
	cni ADD a >/dev/null
	within 10 has margay_cni_journal_waiting 1
	within 10 eval '! ready'
	curl -s 127.0.0.1:9097/readyz | grep -q 'datastore: the datastore is away'
	etcd_start
	within 20 ready
	within 10 has margay_cni_journal_waiting 0
	cni DEL a
}

@test "an address that is asked for: of the reserve, or of the pool" {
	pod a
	pod b
	reserved=$(etcdctl get --prefix "$IPAM"/assignment/ --print-value-only | jq -r '.cidr' | sed 's,\.[0-9]*/.*,,')
	base=$(etcdctl get --prefix "$IPAM"/assignment/ --print-value-only | jq -r '.cidr | split("/")[0] | split(".")[3]')
	want=$reserved.$((base + 2))
	CNI_ARGS="K8S_POD_NAMESPACE=ns;K8S_POD_NAME=a;IP=$want" cni ADD a >/dev/null
	[ "$(address a)" = "$want" ]
	unheld=$reserved.$((base + 40))
	CNI_ARGS="K8S_POD_NAMESPACE=ns;K8S_POD_NAME=b;IP=$unheld" cni ADD b >/dev/null
	[ "$(address b)" = "$unheld" ]
	exact a b
	# They are there for whoever asks for them next, and not held ahead, of which there is one too few.
	keeper_stop
	pod c
	cni ADD c >/dev/null
	cni DEL a
	cni DEL b
	kill -CONT "$stopped"
	exact c
	for a in "$want" "$unheld"; do
		"$BIN/margayctl" ipam show --ip "$a" | grep -q "$a is not assigned"
	done
}

ranges() { # what etcd was asked to read
	curl -s http://127.0.0.1:2379/metrics | awk '/^grpc_server_started_total.*grpc_method="Range"/ { print $2 }'
}

pool_disabled() { # true or false
	"$BIN/margayctl" get ippool p -o json | jq ".spec.disabled = $1" | "$BIN/margayctl" apply -f - >/dev/null
}

@test "nothing is held ahead: an ADD is one transaction, and what it needs to know is there from the last one" {
	unserve
	export MARGAY_CNI_RESERVE=0
	MARGAY_CNI_WORKERS=1 serve
	within 10 held 0
	pod p1
	cni ADD p1 >/dev/null
	for p in p2 p3; do
		pod "$p"
		n=$(ranges)
		cni ADD "$p" >/dev/null
		[ "$(ranges)" = "$n" ]
		# Handle, block and endpoint at once.
		rev=$(etcdctl get "$V3/workloadendpoints/ns/node--1-k8s-$p-eth0" -w json | jq '.kvs[0].mod_revision')
		[ "$(etcdctl get --prefix "$IPAM"/handle/net.c-$p -w json | jq '.kvs[0].mod_revision')" = "$rev" ]
		[ "$(etcdctl get --prefix "$IPAM"/assignment/ -w json | jq '[.kvs[].mod_revision] | max')" = "$rev" ]
	done
	# What somebody else has changed meanwhile counts.
	pool_disabled true
	pod p4
	run ! cni ADD p4
	[[ $output == *'"code": 101'* ]] || { echo "$output"; false; }
	pool_disabled false
	cni ADD p4 >/dev/null
	exact p1 p2 p3 p4
}

@test "a repeated ADD gives the same, whoever gave it first" {
	local n stopped

	for p in a b c d; do pod $p; cni ADD $p >/dev/null; done
	# Faster than the reserve is filled again, or not: some of these are the datastore's.
	for n in 1 2 3 4 5 6; do pod "p$n"; done
	keeper_stop
	for n in 1 2 3 4 5 6; do cni ADD "p$n" >"first-p$n"; done
	kill -CONT "$stopped"
	exact a b c d p1 p2 p3 p4 p5 p6
	for n in 1 2 3 4 5 6; do
		cni ADD "p$n" >again
		cmp again "first-p$n"
	done
	exact a b c d p1 p2 p3 p4 p5 p6
}

@test "names that are no text are refused, and end nothing" {
	pod a
	run -1 cni ADD a $'eth\xff'
	[[ $output == *'CNI_IFNAME'* ]]
	CNI_ARGS=$'K8S_POD_NAMESPACE=n\xffs;K8S_POD_NAME=a' run -1 cni ADD a
	CNI_ARGS=$'K8S_POD_NAMESPACE=n\xffs;K8S_POD_NAME=a\xfe' cni DEL a
	cni ADD a >/dev/null
	# Found by what it was given, not by what it is called.
	CNI_ARGS=$'K8S_POD_NAMESPACE=n\xffs;K8S_POD_NAME=a' cni DEL a
	exact
}

@test "what was given back behind the node's back is given by nobody twice, with strictAffinity too" {
	unserve -KILL
	"$BIN/margayctl" apply -f - >/dev/null <<<'{kind: Node, apiVersion: projectcalico.org/v3, metadata: {name: node-2}}'
	"$BIN/margayctl" ipam configure --strictaffinity=true >/dev/null
	# Node-1 is thought to be off, and is deleted: node-2 has its block.
	"$BIN/margayctl" delete node node-1 >/dev/null
	second exec "$BIN/margay-cni" serve 2>>serve-2.log 3>&- 4>&- &
	other=$!
	within 10 test -S run-2/cni.sock
	within 10 holds_2 4
	"$BIN/margayctl" apply -f - >/dev/null <<<'{kind: Node, apiVersion: projectcalico.org/v3, metadata: {name: node-1}}'
	serve
	for p in a b c; do
		pod $p
		cni ADD $p >/dev/null
		within 10 owns_one $p
	done
	within 10 settled
	[ "$(owned margay-reserve-node-2)" = 4 ]
	end "$other"
}

holds_2() {
	[ "$(owned margay-reserve-node-2)" = "$1" ]
}

@test "nothing is given of a pool that is disabled, restricted or gone, nor what is reserved since" {
	"$BIN/margayctl" apply -f - >/dev/null <<<'{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: q}, spec: {cidr: 10.245.0.0/24, blockSize: 26}}'
	pod a
	cni ADD a >/dev/null
	pool_disabled true
	cni DEL a
	within 10 held_in 10.245 4
	pod b
	cni ADD b >/dev/null
	[[ $(address b) == 10.245.* ]]
	"$BIN/margayctl" apply -f - >/dev/null <<<'{kind: IPReservation, apiVersion: projectcalico.org/v3, metadata: {name: r}, spec: {reservedCIDRs: [10.245.0.0/25]}}'
	rest() { [ -z "$(reserved_hosts | awk -F. '$4 < 128')" ] && held 4; }
	within 10 rest
	exact b
}

reserved_hosts() { # the addresses that are held ahead
	blocks | jq -r '.cidr as $c | ($c | split("/")[0] | split(".") | map(tonumber)) as $b | .attributes as $a |
		.allocations | to_entries[] | select(.value != null) | select($a[.value].handle_id == "margay-reserve-node-1") |
		"\($b[0]).\($b[1]).\($b[2]).\($b[3] + .key)"'
}

held_in() { # PREFIX N: so many are held ahead, all of them there
	[ "$(reserved_hosts | grep -c "^$1\.")" = "$2" ] && [ "$(reserved_hosts | wc -l)" = "$2" ]
}

is_cluster() { # GUID
	etcdctl put "$V3/clusterinformations/default" >/dev/null \
		"{\"kind\":\"ClusterInformation\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":\"default\"},\"spec\":{\"clusterGUID\":\"$1\",\"datastoreReady\":true}}"
}

@test "a journal of another cluster, or of another node, gives nothing" {
	pod a
	is_cluster aaa
	unserve
	serve
	within 10 held 4
	within 10 grep -q '"guid":"aaa"' state/journal
	is_cluster bbb
	unserve
	serve
	for n in 1 2 3; do
		run -1 cni ADD a
		[[ $output == *'another cluster'* ]]
	done
	run -1 cni STATUS -
	[[ $output == *'another cluster'* ]]
	unserve
	# Nor does the plugin where nobody serves.
	jq '.etcd_endpoints = "http://127.0.0.1:2379"' conf >conf-store
	CONF=conf-store run -1 cni ADD a
	[[ $output == *'another cluster'* ]]
	is_cluster aaa
	# A machine that has another name now, or another that was made of its disk.
	"$BIN/margayctl" apply -f - >/dev/null <<<'{kind: Node, apiVersion: projectcalico.org/v3, metadata: {name: node-2}}'
	jq '.nodename = "node-2"' conf-store >conf-2
	CONF=conf-2 cni ADD a >/dev/null
	[ "$(owned net.c-a)" = 1 ]
	held 4
}

@test "the reserve serves who names a pool, too" {
	pod a
	pod b
	pod c
	jq '.ipam.ipv4_pools = ["p"]' conf >conf-p
	jq '.ipam.ipv4_pools = ["q"]' conf >conf-q
	jq '.ipam.ipv4_pools = ["10.244.0.0/22"]' conf >conf-cidr
	jq '.ipam.ipv4_pools = ["10.244.0.0/24"]' conf >conf-part
	CONF=conf-part run -1 cni ADD b
	[[ $output == *'the given pool (10.244.0.0/24) does not exist'* ]]
	end "$ETCD" -KILL
	CONF=conf-p cni ADD a >/dev/null
	CONF=conf-cidr cni ADD c >/dev/null
	CONF=conf-q run -1 cni ADD b
	CONF=conf-part run -1 cni ADD b
	CONF=conf-p cni STATUS -
	etcd_start
	exact a c
}

@test "what a DEL gives back cools down" {
	local given

	etcdctl put "$IPAM/config" '{"strict_affinity":false,"auto_allocate_blocks":true,"ipCooldownSeconds":600}' >/dev/null
	unserve
	serve
	within 10 grep -q '"cooldown":600' state/journal
	pod a
	cni ADD a >/dev/null
	given=$(address a)
	end "$ETCD" -KILL
	cni DEL a
	for n in 1 2 3; do
		pod "p$n"
		cni ADD "p$n" >/dev/null
		[ "$(address "p$n")" != "$given" ]
	done
	etcd_start
	within 20 settled
	within 10 held 4
	# Given back, and in use by nobody.
	blocks | jq -e '[.attributes[] | select(.releasedAt)] | length == 1'
	[ "$(etcdctl get --prefix "$IPAM"/handle/net.c-a --keys-only)" = "" ]
}

@test "a second server waits for the first one's end, and can be ended meanwhile" {
	local second

	"$BIN/margay-cni" serve 2>>second.log 3>&- 4>&- &
	second=$!
	sleep 0.5
	kill -0 "$second"
	kill "$second"
	within 10 not_there "$second"
}

not_there() {
	! kill -0 "$1" 2>/dev/null
}

rests() { # the keeper has not had a processor for a second
	local pid before

	pid=$(keeper)
	before=$(grep ctxt_switches "/proc/$pid/status"; cut -d' ' -f14,15 "/proc/$pid/stat")
	sleep 1
	[ "$(grep ctxt_switches "/proc/$pid/status"; cut -d' ' -f14,15 "/proc/$pid/stat")" = "$before" ]
}

@test "a node that etcd does not have gives nothing of what it held" {
	pod a
	etcdctl del "$V3/nodes/node-1" >/dev/null
	unserve
	serve
	within 10 grep -q 'has no node node-1' serve.log
	cni ADD a >/dev/null # of the pool
	[ "$(owned net.c-a)" = 1 ]
	[ "$(owned margay-reserve-node-1)" = 4 ]
	within 10 rests
	end "$ETCD" -KILL
	pod b
	rc=0
	cni ADD b >out || rc=$?
	[ "$rc" = 1 ]
	jq -e '.code == 11' out
	etcd_start
	within 20 settled
}

@test "a node that is deleted while its server runs gives nothing of what it held" {
	"$BIN/margayctl" delete node node-1
	grep -q 'has no node node-1' serve.log
	"$BIN/margayctl" apply -f - >/dev/null <<<'{kind: Node, apiVersion: projectcalico.org/v3, metadata: {name: node-2}}'
	second exec "$BIN/margay-cni" serve 2>>serve-2.log 3>&- 4>&- &
	other=$!
	within 10 holds_2 4
	for p in a b c; do
		pod $p
		cni ADD $p >/dev/null
		owns_one $p # it was asked for
	done
	holds_2 4
	"$BIN/margayctl" ipam check >/dev/null
	# It is there again: what it holds then is its own.
	"$BIN/margayctl" apply -f - >/dev/null <<<'{kind: Node, apiVersion: projectcalico.org/v3, metadata: {name: node-1}}'
	within 90 held 4
	cni DEL a
	cni ADD a >/dev/null
	within 10 settled
	owns_one a
	"$BIN/margayctl" ipam check >/dev/null
	end "$other"
}

give_to_another() { # ADDRESS, with nobody's leave
	local key value ord

	key=$(etcdctl get --prefix "$IPAM"/assignment/ --keys-only | grep .)
	value=$(etcdctl get "$key" --print-value-only)
	ord=$(python3 -c 'import ipaddress, sys; n = ipaddress.ip_network(sys.argv[1]); print(int(ipaddress.ip_address(sys.argv[2])) - int(n.network_address))' \
		"$(jq -r .cidr <<<"$value")" "$1")
	jq -c --argjson o "$ord" '.attributes += [{"handle_id":"net.other","secondary":{"node":"node-9","namespace":"ns","pod":"x"}}]
		| .allocations[$o] = (.attributes | length - 1) | .sequenceNumber += 1' <<<"$value" | etcdctl put "$key" >/dev/null
}

@test "a repeated ADD takes again what somebody has given back, unless it is another's by now" {
	pod a
	cni ADD a >first
	exact a
	"$BIN/margayctl" ipam release --ip="$(address a)" >/dev/null
	[ "$(owned net.c-a)" = 0 ]
	etcdctl del "$V3/workloadendpoints/ns/node--1-k8s-a-eth0" >/dev/null
	cni ADD a >again
	[ "$(owned net.c-a)" = 1 ]
	cmp first again
	exact a
	give_to_another "$(address a)"
	CONF=conf run -1 cni ADD a
	[[ $output == *"$(address a), which the pod has, was given back in the datastore, and cannot be taken again"* ]]
	# While it is away nobody knows.
	end "$ETCD" -KILL
	pod b
	cni ADD b >first
	cni ADD b >again
	cmp first again
	etcd_start
	within 20 settled
}

@test "what others did meanwhile to what the node held is not undone" {
	pod a
	pod b
	cni ADD a >/dev/null
	exact a
	end "$ETCD" -KILL
	cni ADD b >/dev/null
	b=$(address b)
	unserve
	etcd_start
	give_to_another "$b"
	serve
	within 10 grep -q "pod ns/b was given $b .*must be deleted" serve.log
	within 10 settled
	[ "$(owned net.other)" = 1 ]
	[ "$(owned net.c-b)" = 0 ]
	cni DEL b
	within 10 settled
	[ "$(owned net.other)" = 1 ]
}

@test "a node that was away for too long gives nothing" {
	pod a
	pod b
	cni ADD a >/dev/null
	exact a
	unserve
	end "$ETCD" -KILL
	rc=0
	CNI_COMMAND=ADD CNI_CONTAINERID=c-b CNI_NETNS=/run/netns/b CNI_IFNAME=eth0 unshare -T --boottime 15000 \
		"$BIN/margay" <conf >out || rc=$?
	[ "$rc" = 1 ]
	jq -e '.code == 11' out
	# An hour is not too long; nor is it for a DEL.
	CNI_COMMAND=ADD CNI_CONTAINERID=c-b CNI_NETNS=/run/netns/b CNI_IFNAME=eth0 \
		CNI_ARGS='K8S_POD_NAMESPACE=ns;K8S_POD_NAME=b' unshare -T --boottime 3600 "$BIN/margay" <conf >/dev/null
	CNI_COMMAND=DEL CNI_CONTAINERID=c-a CNI_NETNS=/run/netns/a CNI_IFNAME=eth0 unshare -T --boottime 15000 \
		"$BIN/margay" <conf
	etcd_start
	serve
	exact b
}

second() { # COMMAND...: as node-2
	NODENAME=node-2 MARGAY_RUN_DIR=$PWD/run-2 MARGAY_CNI_STATE_DIR=$PWD/state-2 MARGAY_CNI_HEALTH_PORT=9098 "$@"
}

looked() { # SECONDS: so long after the machine's start, who is absent was written down
	awk -v t="$1" 'NR > 1 && $2 >= t { found = 1 } END { exit !found }' state/absent
}

holds() { # of node-2, its pod's and its reserve's
	[ "$(owned net.c-x)$(owned margay-reserve-node-2)" = "$1" ]
}

has_endpoint() {
	[ -n "$(etcdctl get "$V3/workloadendpoints/ns/node--2-k8s-x-eth0")" ]
}

holds_nothing() { # of node-2
	holds 00 &&
		[ -z "$(etcdctl get --prefix "$IPAM"/host/node-2/ --keys-only)" ] &&
		[ -z "$(etcdctl get "$IPAM"/handle/margay-reserve-node-2)$(etcdctl get "$IPAM"/handle/net.c-x)" ]
}

@test "a node that is gone: what it held is given back after hours, by who has seen it absent for so long" {
	pod x
	pod a
	cni ADD a >/dev/null
	"$BIN/margayctl" apply -f - >/dev/null <<<'{kind: Node, apiVersion: projectcalico.org/v3, metadata: {name: node-2}}'
	second exec "$BIN/margay-cni" serve 2>>serve-2.log 3>&- 4>&- &
	other=$!
	within 10 test -S run-2/cni.sock
	within 10 holds 04
	jq -c '.nodename = "node-2"' conf >conf-2
	CONF=conf-2 second cni ADD x >/dev/null
	within 10 holds 14
	within 10 has_endpoint
	end "$other" -KILL
	etcdctl del "$V3/nodes/node-2" >/dev/null
	now=$(cut -d. -f1 /proc/uptime)
	# A look in every hour; and one that is there in between begins the time anew.
	for t in 0 3000 6000 9000 back 12000 15000 18000 21000 24000 27000; do
		unserve
		if [ $t = back ]; then
			"$BIN/margayctl" apply -f - >/dev/null <<<'{kind: Node, apiVersion: projectcalico.org/v3, metadata: {name: node-2}}'
			serve unshare -T --boottime 9500
			within 10 eval '! grep -q node-2 state/absent'
			etcdctl del "$V3/nodes/node-2" >/dev/null
			continue
		fi
		serve unshare -T --boottime $t
		within 10 looked $((now + t))
		holds 14
	done
	# Who has not looked for more than an hour does not know what was in between.
	unserve
	serve unshare -T --boottime 90000
	within 10 looked $((now + 90000))
	holds 14
	for t in 93000 96000 99000 102000 105000; do
		unserve
		serve unshare -T --boottime $t
		within 10 looked $((now + t))
		holds 14
	done
	unserve
	serve unshare -T --boottime 108100
	within 20 holds_nothing
	run ! has_endpoint
	[ "$(owned net.c-a)" = 1 ]
	grep -q 'node node-2 is not in the datastore for' serve.log
}

seen() { # SECONDS: so long after the machine's start the node was seen in etcd
	sed 's/^[0-9a-f]* //' state/journal | jq -se --argjson t "$1" 'map(select(.do == "seen")) | last | .there and .uptime >= $t' >/dev/null
}

@test "a node that was not seen for long waits before it gives what it held" {
	pod a
	pod b
	reserved=$(blocks | jq -r '.cidr as $c | .allocations | to_entries[] | select(.value != null) | .key')
	unserve
	now=$(cut -d. -f1 /proc/uptime)
	serve unshare -T --boottime 20000
	within 10 grep -q 'not seen in the datastore for long: nothing is given from the reserve' serve.log
	cni ADD a >/dev/null # of the pool
	held 4
	base=$(blocks | jq -r '.cidr | split("/")[0] | split(".")[3]')
	a=$(address a)
	run ! grep -qx $((${a##*.} - base)) <<<"$reserved"
	within 10 rests
	# Then it does.
	within 80 seen $((now + 20000))
	cni ADD b >/dev/null
	b=$(address b)
	grep -qx $((${b##*.} - base)) <<<"$reserved"
}

@test "the pools are full: what nodes hold ahead is given back, and serves who has not got one" {
	"$BIN/margayctl" apply -f - >/dev/null <<-Y
		apiVersion: projectcalico.org/v3
		kind: List
		items:
		- {kind: Node, apiVersion: projectcalico.org/v3, metadata: {name: node-2}}
		- {kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: q}, spec: {cidr: 10.245.0.0/29, blockSize: 29}}
		- {kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: p}, spec: {cidr: 10.244.0.0/22, blockSize: 26, disabled: true}}
	Y
	unserve
	etcdctl del --prefix "$IPAM"/ >/dev/null
	rm -r state
	serve
	within 10 held 4
	second exec "$BIN/margay-cni" serve 2>>serve-2.log 3>&- 4>&- &
	other=$!
	within 10 holds 04
	used 8
	jq -c '.nodename = "node-2"' conf >conf-2
	for n in 1 2 3 4 5 6 7 8; do pod "x$n"; done
	CONF=conf-2 second cni ADD x1 >/dev/null
	within 80 used 1
	for n in 2 3 4 5 6 7 8; do CONF=conf-2 second cni ADD "x$n" >/dev/null; done
	used 8
	# Nobody takes what a DEL gives back.
	CONF=conf-2 second cni DEL x8
	within 10 used 7
	"$BIN/margayctl" ipam check >check.txt
	grep -q 'the pools are full' serve.log serve-2.log
	end "$other"
}

@test "a pool that somebody gives another blockSize gives no address twice" {
	"$BIN/margayctl" apply -f - >/dev/null <<-Y
		apiVersion: projectcalico.org/v3
		kind: List
		items:
		- {kind: Node, apiVersion: projectcalico.org/v3, metadata: {name: node-2}}
		- {kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: q}, spec: {cidr: 10.245.0.0/27, blockSize: 28}}
		- {kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: p}, spec: {cidr: 10.244.0.0/22, blockSize: 26, disabled: true}}
	Y
	unserve
	etcdctl del --prefix "$IPAM"/ >/dev/null
	rm -r state
	serve
	within 10 held 4
	key=/calico/resources/v3/projectcalico.org/ippools/q
	etcdctl get $key --print-value-only | jq -c '.spec.blockSize = 30' | etcdctl put $key >/dev/null
	second exec "$BIN/margay-cni" serve 2>>serve-2.log 3>&- 4>&- &
	other=$!
	within 10 used 8
	# Four blocks of four, and what it borrows of the old one.
	jq -c '.nodename = "node-2"' conf >conf-2
	for n in {1..16}; do pod "x$n"; done
	for n in {1..16}; do CONF=conf-2 second cni ADD "x$n" >/dev/null; done
	within 10 used 24
	[ "$(blocks | jq -sr 'map(.cidr | split("/")[1]) | sort | join(" ")')" = "28 30 30 30 30" ]
	"$BIN/margayctl" ipam check >check.txt
	run ! grep -q 'lies in block' check.txt
	end "$other"
}

@test "a node that has as many blocks as it may says so, and not that the pools are full" {
	"$BIN/margayctl" apply -f - >/dev/null <<-Y
		apiVersion: projectcalico.org/v3
		kind: List
		items:
		- {kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: q}, spec: {cidr: 10.245.0.0/28, blockSize: 30}}
		- {kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: p}, spec: {cidr: 10.244.0.0/22, blockSize: 26, disabled: true}}
	Y
	unserve
	etcdctl del --prefix "$IPAM"/ >/dev/null
	etcdctl put "$IPAM/config" '{"auto_allocate_blocks":true,"maxBlocksPerHost":1}' >/dev/null
	rm -r state
	serve
	within 10 held 4
	for n in 1 2 3 4 5; do pod "x$n"; done
	cni ADD x1 >/dev/null
	within 10 grep -q 'node node-1 is full, and it has as many as it may, 1: maxBlocksPerHost is 1' serve.log
	for n in 2 3 4; do cni ADD "x$n" >/dev/null; done
	run -1 cni ADD x5
	[[ $output == *'"code": 101'*'maxBlocksPerHost is 1'* ]]
	[ -z "$(etcdctl get "$IPAM/handle/margay-pool-full")" ]
	run ! grep -q 'the pools are full' serve.log
	# What it gives back itself serves it.
	cni DEL x1
	within 10 cni ADD x5 >/dev/null
}

@test "a reserve's handle that counts too many is counted anew at the start" {
	local key was

	exact
	unserve
	key=$IPAM/handle/margay-reserve-node-1
	was=$(etcdctl get "$key" --print-value-only | jq -c .block)
	etcdctl get "$key" --print-value-only | jq -c '.block[] += 1' | etcdctl put "$key" >/dev/null
	[ "$(etcdctl get "$key" --print-value-only | jq -c .block)" != "$was" ]
	serve
	counted() { [ "$(etcdctl get "$key" --print-value-only | jq -c .block)" = "$was" ]; }
	within 10 counted
}

@test "a block that cannot be read: what it has is not given, and all else goes on" {
	local key

	pod a
	pod b
	cni ADD a >/dev/null
	exact a
	unserve
	key=$(etcdctl get --prefix "$IPAM"/assignment/ --keys-only | grep .)
	etcdctl get "$key" --print-value-only | jq -c '.allocations |= .[:9]' | etcdctl put "$key" >/dev/null
	serve
	within 10 ready
	[ "$(grep -c 'counting anew what is held ahead' serve.log)" = 1 ]
	cni ADD b >/dev/null
	within 10 owns_one b
	[ "$(etcdctl get --prefix "$IPAM"/assignment/ --keys-only | grep -c .)" = 2 ]
	cni DEL b
	within 10 owns_none net.c-b
	within 10 settled
}

@test "what another IPAM plugin gives is in the datastore, which is asked, and leaves the reserve alone" {
	jq --arg d "$PWD/local" '.cniVersion = "1.0.0" | del(.nodename) | .ipam = {type: "host-local", dataDir: $d,
		ranges: [[{subnet: "10.99.0.0/24"}]]}' conf >conf-local
	export CNI_PATH=/usr/lib/cni CNI_ARGS='IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=a'
	pod a
	CONF=conf-local cni ADD a >result
	[[ $(address a) == 10.99.0.* ]]
	endpoint a | jq -e --arg a "$(address a)/32" '.spec.ipNetworks == [$a]'
	held 4
	CONF=conf-local cni DEL a
	exact
	[ -z "$(find local -name '10.*')" ]
	# DEL does not wait for it; ADD does, and what it was given goes back.
	CONF=conf-local cni ADD a >result
	end "$(cat etcd.pid)" -KILL
	CONF=conf-local cni DEL a
	[ -z "$(find local -name '10.*')" ]
	run -1 env CONF=conf-local timeout 100 bash -c "$(declare -f cni); cni ADD a"
	[[ $output == *'"code": 11'* ]]
	[ -z "$(find local -name '10.*')" ]
	etcd_start
	exact
}

@test "an IPAM plugin that hangs is ended, in time for the runtime" {
	mkdir plugins
	cat >plugins/slow <<-S
		#!/bin/sh
		echo \$CNI_COMMAND >>$PWD/asked
		[ \$CNI_COMMAND != ADD ] || sleep 1000
	S
	chmod +x plugins/slow
	jq '.ipam = {type: "slow"}' conf >conf-slow
	export CNI_PATH=$PWD/plugins
	pod a
	SECONDS=0
	run -1 --separate-stderr env CONF=conf-slow bash -c "$(declare -f cni); cni ADD a"
	[ $SECONDS -ge 30 ] && [ $SECONDS -lt 40 ]
	jq -e '.code == 11 and (.msg | test("did not end in time"))' <<<"$output"
	[ -z "$(endpoint a)" ]
	CONF=conf-slow cni DEL a
	[ "$(tr '\n' ' ' <asked)" = "ADD DEL " ]
	exact
}
