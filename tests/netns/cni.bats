#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The CNI plugins on the real kernel: a host and pods as network namespaces. Run in a network and a
# mount namespace of its own (tests/apart); BIN names the directory of the programs. With
# SERVED=1 margay-cni serve runs, else the plugin has it run each verb; a test that is for one of these has
# the tag served or alone.

bats_require_minimum_version 1.5.0
load pods.bash

setup_file() {
	ip link set lo up
	ip address add 192.0.2.1/32 dev lo
}

setup() {
	export DB="$BATS_TEST_TMPDIR/db" CNI_PATH=/nowhere MARGAY_RUN_DIR="$BATS_TEST_TMPDIR/run" \
		MARGAY_CNI_STATE_DIR="$BATS_TEST_TMPDIR/state"
	conf >"$BATS_TEST_TMPDIR/conf"
	make_store "$DB"
	put /calico/resources/v3/projectcalico.org/ippools/p \
		'{"kind":"IPPool","spec":{"cidr":"10.244.0.0/16","blockSize":26}}'
	[ -z "${SERVED:-}" ] || serve
}

# Whose name it is: the server's that listens, or one's that was killed.
socket() {
	stat -c %i "$MARGAY_RUN_DIR/cni.sock" 2>/dev/null
}

# Waits until it answers.
serve() {
	local left

	left=$(socket) || true
	MARGAY_SQLITE_PATH=$DB NODENAME=node-1 "$BIN/margay-cni" serve 2>"$BATS_TEST_TMPDIR/serve.log" 3>&- &
	server=$!
	for ((i = 0; i < 200; i++)); do
		[ "$(socket)" = "$left" ] || return 0
		sleep 0.02
	done
	cat "$BATS_TEST_TMPDIR/serve.log"
	return 1
}

# Ends it; what it said that a sanitizer says is a failure.
unserve() {
	[ -n "${server:-}" ] || return 0
	kill "$server"
	wait "$server" || true
	server=
	if grep -E 'Sanitizer|runtime error' "$BATS_TEST_TMPDIR/serve.log"; then
		return 1
	fi
}

# No link waits for its deletion any more.
settle() {
	for ((i = 0; i < 100; i++)); do
		[ "$(ip -j link show group 1836214137 | jq 'map(select(.ifname)) | length')" != 0 ] || return 0
		sleep 0.01
	done
	return 1
}

teardown() {
	unserve
	pods_remove
}

# conf [VERSION [MORE [IPAM-MORE]]]
conf() {
	cat <<J
{"cniVersion":"${1:-1.0.0}","name":"net","type":"margay","nodename":"node-1",
 "datastore_type":"sqlite","sqlite_path":"$DB"${2:-},"ipam":{"type":"margay-ipam"${3:-}}}
J
}

make_store() {
	MARGAY_SQLITE_PATH=$1 "$BIN/margayctl" apply -f - >/dev/null <<-Y
		{kind: Node, apiVersion: projectcalico.org/v3, metadata: {name: other}}
	Y
}

put() {
	sqlite3 "$DB" "INSERT OR REPLACE INTO kv SELECT max(rev)+1, '$1', max(rev)+1, '$2' FROM (SELECT 0 AS rev UNION SELECT rev FROM kv)"
}

value() {
	sqlite3 "$DB" "SELECT value FROM kv WHERE key = '$1'"
}

# count PREFIX: how many objects there are
count() {
	sqlite3 "$DB" "SELECT count(*) FROM kv WHERE key LIKE '$1%' AND value IS NOT NULL"
}

# Addresses in use in all blocks.
in_use() {
	sqlite3 "$DB" "SELECT value FROM kv WHERE key LIKE '/calico/ipam/v2/assignment/%' AND value IS NOT NULL" |
		jq -s '[.[].allocations[] | select(. != null)] | length'
}

no_leftovers() {
	settle
	[ "$(in_use)" = 0 ]
	[ -z "$(ip -j link show type veth | jq -r '.[].ifname')" ]
	[ -z "$(sqlite3 "$DB" "SELECT key FROM kv WHERE key LIKE '%/workloadendpoints/%' AND value IS NOT NULL")" ]
}

# cni VERB POD [IFNAME]: reads CONF or the default one; container "c-POD"
cni() {
	CNI_COMMAND=$1 CNI_CONTAINERID=${CONTAINERID-c-$2} CNI_NETNS=${NETNS-/run/netns/$2} CNI_IFNAME=${3:-eth0} \
		CNI_ARGS="${CNI_ARGS-K8S_POD_NAMESPACE=ns;K8S_POD_NAME=$2}" \
		"$BIN/${PROGRAM:-margay}" <"${CONF:-$BATS_TEST_TMPDIR/conf}" || return
	[ "$1:${SERVED:+served}" != DEL:served ] || settle
}

reaches() { # FROM ADDRESS
	if [ "$1" = host ]; then
		ping -c1 -W2 -I 192.0.2.1 "$2"
	else
		ip netns exec "$1" ping -c1 -W2 "$2"
	fi
}

# code WANT VERB POD [IFNAME]: fails with that code, in JSON on stdout alone
code() {
	local want=$1 out
	shift
	if out=$(cni "$@" 2>"$BATS_TEST_TMPDIR/stderr"); then
		echo "succeeded: $out"
		return 1
	fi
	[ "$(jq .code <<<"$out")" = "$want" ] || { echo "$out"; return 1; }
	[ -n "$(jq -r .msg <<<"$out")" ]
	[ "$(wc -l <"$BATS_TEST_TMPDIR/stderr")" = 1 ]
	msg=$(jq -r .msg <<<"$out")
}

prev_conf() { # RESULT [VERSION]: a configuration with that prevResult
	conf "${2:-1.0.0}" ",\"prevResult\":$1" >"$BATS_TEST_TMPDIR/prev"
	export CONF=$BATS_TEST_TMPDIR/prev
}

@test "ADD: what the pod and the host have, and everybody reaches everybody" {
	pod a
	pod b
	result=$(cni ADD a)
	cni ADD b
	a=$(address a) b=$(address b)
	veth=cali$(printf ns.a | sha1sum | cut -c1-11)
	[ "$(jq -r '.interfaces[0].name' <<<"$result")" = "$veth" ]
	[ "$(jq -r '.interfaces[1].sandbox' <<<"$result")" = /run/netns/a ]
	[ "$(jq -r '.ips[0].address' <<<"$result")" = "$a/32" ]
	[ "$(jq -r '.ips[0].interface' <<<"$result")" = 1 ]

	# At once, on the first packet; nothing is resolved.
	reaches a "$b"
	reaches b "$a"
	reaches host "$a"
	reaches a 192.0.2.1
	ip -n a -j route | jq -e '.[] | select(.dst == "default" and .gateway == "169.254.1.1")'
	ip -n a -j route | jq -e '.[] | select(.dst == "169.254.1.1" and .scope == "link")'
	ip -n a -j neigh | jq -e '.[] | select(.dst == "169.254.1.1" and .lladdr == "ee:ee:ee:ee:ee:ee" and .state == ["PERMANENT"])'
	ip -j neigh | jq -e --arg a "$a" '.[] | select(.dst == $a and has("extern_learn"))'
	ip -j route show "$a" | jq -e --arg v "$veth" '.[] | select(.dev == $v and .protocol == "80" and .scope == "link" and .metric == null)'
	[ "$(cat /proc/sys/net/ipv4/conf/"$veth"/proxy_arp)" = 1 ]
	[ "$(cat /proc/sys/net/ipv4/conf/"$veth"/forwarding)" = 1 ]
	[ "$(cat /proc/sys/net/ipv4/conf/"$veth"/route_localnet)" = 1 ]
	[ "$(cat /proc/sys/net/ipv4/neigh/"$veth"/proxy_delay)" = 0 ]
	[ "$(cat /proc/sys/net/ipv6/conf/"$veth"/accept_ra)" = 0 ]
	[ "$(ip netns exec a cat /proc/sys/net/ipv4/ip_forward)" = 0 ]
	ip -d -j link show "$veth" | jq -e '.[0] | .address == "ee:ee:ee:ee:ee:ee" and .num_tx_queues == 1 and .inet6_addr_gen_mode == "none"'

	value /calico/resources/v3/projectcalico.org/workloadendpoints/ns/node--1-k8s-a-eth0 >"$BATS_TEST_TMPDIR/wep"
	jq -e --arg a "$a/32" --arg v "$veth" '.spec | .node == "node-1" and .pod == "a" and .endpoint == "eth0"
		and .containerID == "c-a" and .ipNetworks == [$a] and .interfaceName == $v and .orchestrator == "k8s"' "$BATS_TEST_TMPDIR/wep"
	jq -e '.metadata.labels["projectcalico.org/namespace"] == "ns"' "$BATS_TEST_TMPDIR/wep"
}

@test "DEL: everything goes, and again is no failure, nor without namespace" {
	pod a
	cni ADD a
	a=$(address a)
	[ "$(in_use)" = 1 ]
	cni DEL a
	run ! ip -n a link show eth0
	[ -z "$(ip route show "$a")" ]
	[ -z "$(ip -j link show type veth | jq -r '.[].ifname')" ]
	[ "$(in_use)" = 0 ]
	[ "$(count /calico/ipam/v2/handle/)" = 0 ]
	[ "$(count /calico/resources/v3/projectcalico.org/workloadendpoints/)" = 0 ]
	cni DEL a
	cni ADD a
	ip netns del a
	cni DEL a
	NETNS='' cni DEL a
	[ "$(in_use)" = 0 ]
	[ "$(count /calico/resources/v3/projectcalico.org/workloadendpoints/)" = 0 ]
	# The namespace is still there, and the runtime does not name it.
	pod b
	cni ADD b
	NETNS='' cni DEL b
	run ! ip -n b link show eth0
	# A plain file where the namespace was.
	touch /run/netns/left
	cni DEL left
	rm /run/netns/left
}

@test "DEL without the CNI_ARGS of ADD: the same goes" {
	pod a
	pod b
	for ns in '' /run/netns/a; do
		cni ADD a
		CNI_ARGS='' NETNS=$ns cni DEL a
		[ "$(in_use)" = 0 ]
		[ "$(count /calico/resources/v3/projectcalico.org/workloadendpoints/)" = 0 ]
		[ "$(ip -j link show type veth | jq length)" = 0 ]
	done
	# Of a container that is no pod of Kubernetes', beside one.
	cni ADD a
	CNI_ARGS='' cni ADD b
	CNI_ARGS='' cni DEL b
	[ "$(in_use)" = 1 ]
	[ "$(ip -j link show type veth | jq length)" = 1 ]
}

@test "DEL of an old sandbox leaves the new one of the same pod alone" {
	pod old
	pod new
	export CNI_ARGS='K8S_POD_NAMESPACE=ns;K8S_POD_NAME=same'
	cni ADD old
	cni ADD new
	new=$(address new)
	NETNS='' cni DEL old
	reaches host "$new"
	cni DEL old
	reaches host "$new"
	[ "$(in_use)" = 1 ]
	[ "$(count /calico/resources/v3/projectcalico.org/workloadendpoints/)" = 1 ]
	cni DEL new
	[ "$(in_use)" = 0 ]
}

@test "a new sandbox makes the endpoint younger, and another ADD of the same one does not" {
	pod old
	pod new
	export CNI_ARGS='K8S_POD_NAMESPACE=ns;K8S_POD_NAME=same'
	wep=/calico/resources/v3/projectcalico.org/workloadendpoints/ns/node--1-k8s-same-eth0
	cni ADD old
	uid=$(value "$wep" | jq -r .metadata.uid)
	put "$wep" "$(value "$wep" | jq -c '.metadata.creationTimestamp = "2020-01-01T00:00:00Z"')"
	cni ADD old
	value "$wep" | jq -e '.metadata.creationTimestamp == "2020-01-01T00:00:00Z"'
	cni ADD new
	value "$wep" | jq -e --arg uid "$uid" '.metadata | .uid == $uid and .creationTimestamp > "2020-01-02"'
	# What others have put there stays.
	put "$wep" "$(value "$wep" | jq -c '.metadata.annotations.theirs = "x" | .metadata.labels.theirs = "y" | .spec.theirs = [1]')"
	cni ADD new
	value "$wep" | jq -e '.metadata.annotations.theirs == "x" and .metadata.labels.theirs == "y" and .spec.theirs == [1]'
	cni ADD old
	value "$wep" | jq -e '.metadata.annotations.theirs == "x" and .metadata.labels.theirs == null and .spec.theirs == [1]'
}

@test "DEL of an old sandbox leaves the new one's device alone, whatever the endpoint says" {
	pod old
	pod new
	export CNI_ARGS='K8S_POD_NAMESPACE=ns;K8S_POD_NAME=same'
	wep=/calico/resources/v3/projectcalico.org/workloadendpoints/ns/node--1-k8s-same-eth0
	cni ADD old
	cni ADD new
	new=$(address new)
	# The datastore refuses.
	sqlite3 "$DB" 'ALTER TABLE kv RENAME TO gone'
	NETNS='' code 11 DEL old
	reaches host "$new"
	sqlite3 "$DB" 'ALTER TABLE gone RENAME TO kv'
	# The new one has its device, and not yet its endpoint: there is the old one's, or none.
	saved=$(value "$wep")
	put "$wep" "$(jq -c '.spec.containerID = "c-old"' <<<"$saved")"
	NETNS='' cni DEL old
	[ -z "$(value "$wep")" ]
	reaches host "$new"
	NETNS='' cni DEL old
	reaches host "$new"
	# Whose it is cannot be read.
	put "$wep" nonsense
	NETNS='' cni DEL old 2>"$BATS_TEST_TMPDIR/stderr"
	cat "$BATS_TEST_TMPDIR"/{stderr,serve.log} 2>/dev/null | grep -q "$wep"
	[ "$(value "$wep")" = nonsense ]
	reaches host "$new"
	ip -d -j link show type veth | jq -e '.[0].ifalias == "margay c-new eth0"'
	# Without a mark, and the endpoint is the old one's: a device that is being made is not up.
	put "$wep" "$(jq -c '.spec.containerID = "c-old"' <<<"$saved")"
	veth=$(ip -j link show type veth | jq -r '.[0].ifname')
	ip link set "$veth" alias '' down
	NETNS='' cni DEL old
	ip link show "$veth"
	ip link set "$veth" up
	put "$wep" "$(jq -c '.spec.containerID = "c-old"' <<<"$saved")"
	NETNS='' cni DEL old
	run ! ip link show "$veth"
	cni DEL new
	[ "$(in_use)" = 0 ]
}

@test "DEL leaves an interface alone that another made, in whatever namespace" {
	pod a
	pod b
	cni ADD a
	cni ADD b
	b=$(address b)
	# A process of that number is another pod's by now.
	NETNS=/run/netns/b cni DEL a
	reaches host "$b"
	[ "$(in_use)" = 1 ]
	[ "$(ip -j link show type veth | jq length)" = 1 ]
	run ! ip -n a link show eth0
	# Another plugin's, with its end in the host, for which ADD was refused.
	pod c
	ip link add other0 type veth peer name eth0 netns c
	code 102 ADD c
	cni DEL c
	ip -n c link show eth0
	ip link show other0
	[ "$(in_use)" = 1 ]
	ip link del other0
}

@test "ADD takes over a host end that is left over, and leaves another's interface alone" {
	pod a
	cni ADD a
	veth=$(ip -j link show type veth | jq -r '.[0].ifname')
	# Of the last sandbox; without a mark, as after an ADD that was killed, or Calico's.
	for alias in 'margay c-other eth0' ''; do
		cni DEL a
		ip link add "$veth" address ee:ee:ee:ee:ee:ee type veth peer name left0
		ip link set "$veth" alias "$alias"
		cni ADD a
		run ! ip link show left0
	done
	cni DEL a
	for kind in bridge "veth peer name other0"; do
		# shellcheck disable=SC2086
		ip link add "$veth" type $kind
		[ "$kind" != bridge ] || ip link set "$veth" address ee:ee:ee:ee:ee:ee
		code 102 ADD a
		[[ $msg == "interface $veth of the host: it is there and was not made for a pod"* ]]
		cni DEL a
		[ "$(in_use)" = 0 ]
		ip link del "$veth"
	done
	cni ADD a
}

@test "DEL finds the device by its endpoint: the host's end has another name, is away, or no mark" {
	wep=/calico/resources/v3/projectcalico.org/workloadendpoints/ns/node--1-k8s-a-eth0
	pod a
	pod far
	cni ADD a
	veth=$(ip -j link show type veth | jq -r '.[0].ifname')
	ip link set "$veth" down name calielse
	cni DEL a
	run ! ip link show calielse
	cni ADD a
	ip link set "$veth" netns far
	cni DEL a
	run ! ip -n a link show eth0
	cni ADD a
	ip link set "$veth" alias ''
	cni DEL a
	run ! ip -n a link show eth0
	# By a name that is not made any more.
	cni ADD a
	ip link set "$veth" down
	ip link set "$veth" alias '' name caliold up
	put "$wep" "$(value "$wep" | jq -c '.spec.interfaceName = "caliold"')"
	cni DEL a
	run ! ip link show caliold
	[ "$(in_use)" = 0 ]
}

# bats test_tags=alone
@test "DEL while the datastore is away: the device goes, and the rest when it is called again" {
	pod a
	cni ADD a
	sed "s,$DB,/proc/nowhere/db," "$BATS_TEST_TMPDIR/conf" >"$BATS_TEST_TMPDIR/away"
	CONF=$BATS_TEST_TMPDIR/away code 11 DEL a
	[ "$(ip -j link show type veth | jq length)" = 0 ]
	[ "$(in_use)" = 1 ]
	CONF=$BATS_TEST_TMPDIR/away code 11 ADD a
	[ "$(ip -j link show type veth | jq length)" = 0 ]
	cni DEL a
	[ "$(in_use)" = 0 ]
}

@test "a datastore that is locked: nothing is written, and each verb says so" {
	pod web-0
	cni ADD web-0 >/dev/null
	used=$(in_use)
	put /calico/resources/v3/projectcalico.org/clusterinformations/default \
		'{"kind":"ClusterInformation","spec":{"datastoreReady":true}}'
	MARGAY_SQLITE_PATH=$DB "$BIN/margayctl" datastore lock
	before=$(sqlite3 "$DB" 'SELECT max(rev) FROM kv')
	pod web-1
	for verb in ADD DEL; do
		run -1 --separate-stderr cni $verb web-0
		[ "$(jq .code <<<"$output")" = 11 ]
		[[ $output == *"is locked"*"margayctl datastore unlock"* ]]
		PROGRAM=margay-ipam run -1 --separate-stderr cni $verb web-0
		[[ $output == *"is locked"* ]]
	done
	CONF=$BATS_TEST_TMPDIR/gc
	conf 1.1.0 ',"cni.dev/valid-attachments":[]' >"$CONF"
	run -1 --separate-stderr cni GC web-0
	[[ $output == *"is locked"* ]]
	run -1 --separate-stderr cni STATUS web-0
	[ "$(jq .code <<<"$output")" = 50 ]
	unset CONF
	MARGAY_SQLITE_PATH=$DB run -1 "$BIN/margayctl" delete ippool p
	[[ $output == *"is locked"* ]]
	MARGAY_SQLITE_PATH=$DB run -1 "$BIN/margayctl" ipam claim 10.244.9.0/26 --node x
	[[ $output == *"is locked"* ]]
	[ "$(sqlite3 "$DB" 'SELECT max(rev) FROM kv')" = "$before" ]
	[ "$(address web-0)" != null ]
	MARGAY_SQLITE_PATH=$DB "$BIN/margayctl" datastore unlock
	[ "$(in_use)" = "$used" ]
	cni DEL web-0
	cni ADD web-1 >/dev/null
}

# What the plugin writes is one transaction here, so that nobody can lock it meanwhile.
@test "a datastore that is locked while margayctl writes" {
	lock=/calico/resources/v3/projectcalico.org/clusterinformations/default
	put $lock '{"kind":"ClusterInformation","spec":{"datastoreReady":true}}'
	sqlite3 "$DB" "CREATE TRIGGER t AFTER INSERT ON kv WHEN new.key LIKE '%/ippools/%' BEGIN
		UPDATE kv SET value = replace(value, 'true', 'false') WHERE key = '$lock'; END"
	MARGAY_SQLITE_PATH=$DB run -1 --separate-stderr "$BIN/margayctl" apply -f - <<-Y
		{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: q}, spec: {cidr: 10.9.0.0/16}}
	Y
	# shellcheck disable=SC2154 # bats sets it
	[[ $stderr == *"was locked meanwhile"* && $output != *Success* ]]
}

# bats test_tags=alone
@test "no verb makes a datastore: a path with a slip in it is named" {
	pod a
	cni ADD a
	conf 1.1.0 ',"cni.dev/valid-attachments":[]' >"$BATS_TEST_TMPDIR/slip"
	sed -i "s,$DB,$BATS_TEST_TMPDIR/slip.d/db," "$BATS_TEST_TMPDIR/slip"
	export CONF=$BATS_TEST_TMPDIR/slip
	for verb in ADD DEL GC; do
		for PROGRAM in margay margay-ipam; do
			export PROGRAM
			code 11 $verb a
			[[ $msg == *"datastore $BATS_TEST_TMPDIR/slip.d/db: there is none: margay-felix, or margayctl apply, makes it"* ]]
		done
	done
	unset PROGRAM
	code 50 STATUS -
	[ ! -e "$BATS_TEST_TMPDIR/slip.d" ]
	# Nor in a file that is there and empty.
	mkdir "$BATS_TEST_TMPDIR/slip.d"
	touch "$BATS_TEST_TMPDIR/slip.d/db"
	code 11 DEL a
	[[ $msg == *"slip.d/db: it is empty"* ]]
	[ ! -s "$BATS_TEST_TMPDIR/slip.d/db" ]
	# Once there is one, what is not in it is gone.
	rm "$BATS_TEST_TMPDIR/slip.d/db"
	make_store "$BATS_TEST_TMPDIR/slip.d/db"
	cni DEL a
	# The address of a pod for which there is no pool: which datastore says so.
	pod b
	code 101 ADD b
	[[ $msg == *"sqlite:$BATS_TEST_TMPDIR/slip.d/db: "*"pool"* ]]
}

@test "ADD again: the same address, nothing leaks" {
	pod a
	cni ADD a
	first=$(address a)
	cni ADD a
	[ "$(address a)" = "$first" ]
	[ "$(in_use)" = 1 ]
	[ "$(ip -j link show type veth | jq length)" = 1 ]
	reaches host "$first"
	cni DEL a
	[ "$(count /calico/ipam/v2/handle/)" = 0 ]
}

@test "ADD again that fails: the pod keeps its address" {
	pod a
	pod b
	cni ADD a
	a=$(address a)
	# In another namespace, where the name is taken.
	ip -n b link add eth0 type bridge
	NETNS=/run/netns/b code 102 ADD a
	[ "$(in_use)" = 1 ]
	[ "$(count /calico/ipam/v2/handle/net.c-a)" = 1 ]
	cni ADD a
	[ "$(address a)" = "$a" ]
	cni DEL a
	[ "$(in_use)" = 0 ]
}

@test "CHECK: well after ADD, and says what is missing" {
	pod a
	result=$(cni ADD a)
	a=$(address a)
	veth=$(jq -r '.interfaces[0].name' <<<"$result")
	prev_conf "$result"
	cni CHECK a
	ip route del "$a"
	code 103 CHECK a
	[[ $msg == *"route to $a/32"* ]]
	ip route add "$a" dev "$veth" proto 80 scope link
	cni CHECK a
	ip neigh replace "$a" lladdr 02:00:00:00:00:01 dev "$veth" nud permanent
	code 103 CHECK a
	[[ $msg == *"neighbour $a"* ]]
	ip neigh del "$a" dev "$veth"
	cni CHECK a
	ip -n a neigh replace 169.254.1.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent
	code 103 CHECK a
	[[ $msg == *169.254.1.1* ]]
	ip -n a neigh replace 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent
	ip -n a route del default
	code 103 CHECK a
	[[ $msg == *"default route"* ]]
	ip -n a route add default via 169.254.1.1 dev eth0
	cni CHECK a
	# In the datastore.
	MARGAY_SQLITE_PATH=$DB "$BIN/margayctl" ipam release --ip="$a"
	code 103 CHECK a
	[[ $msg == "no address is assigned to net.c-a" ]]
	MARGAY_SQLITE_PATH=$DB "$BIN/margayctl" delete workloadendpoint -n ns node--1-k8s-a-eth0
	code 103 CHECK a
	[[ $msg == "the WorkloadEndpoint of this interface is missing in the datastore" ]]
	ip -n a address del "$a/32" dev eth0
	code 103 CHECK a
	[[ $msg == *"address $a"* ]]
	cni DEL a
	code 103 CHECK a
	[[ $msg == *eth0* ]]
	CONF=$BATS_TEST_TMPDIR/conf code 7 CHECK a
	[[ $msg == *prevResult* ]]
	# A runtime that has lost it can still delete the pod.
	prev_conf 5
	code 7 CHECK a
	[[ $msg == *prevResult* ]]
	cni DEL a
}

@test "several interfaces of one pod, of any name" {
	pod a
	pod b
	cni ADD a
	cni ADD a net1
	cni ADD a data-0.x
	cni ADD b
	b=$(address b)
	[ "$(in_use)" = 4 ]
	[ "$(count /calico/resources/v3/projectcalico.org/workloadendpoints/ns/node--1-k8s-a-)" = 3 ]
	for ifname in eth0 net1 data-0.x; do
		ip="$(address a $ifname)"
		reaches host "$ip"
		reaches b "$ip"
		ip netns exec a ping -c1 -W2 -I "$ip" "$b"
	done
	# What comes from the second address leaves by the second interface.
	[ "$(ip -n a -j route get "$b" from "$(address a net1)" | jq -r '.[0].dev')" = net1 ]
	[ "$(ip -n a -j route get "$b" | jq -r '.[0].dev')" = eth0 ]
	# Without its endpoint, which an earlier DEL may have deleted.
	sqlite3 "$DB" "UPDATE kv SET value = NULL WHERE key LIKE '%-a-net1'"
	cni DEL a net1
	[ "$(in_use)" = 3 ]
	[ "$(ip -n a rule | grep -c 'lookup 10')" = 1 ]
	reaches host "$(address a)"
	cni DEL a
	cni DEL a data-0.x
	[ "$(in_use)" = 1 ]
}

@test "dots in names: two attachments are never taken for one" {
	attach() { # VERB CONTAINER IFNAME POD
		CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=/run/netns/$2 CNI_IFNAME=$3 \
			CNI_ARGS="${4:+K8S_POD_NAMESPACE=ns;K8S_POD_NAME=$4}" \
			"$BIN/margay" <"$BATS_TEST_TMPDIR/conf"
	}
	for ns in c1 c1.net1 k1 k2; do
		pod $ns
	done
	attach ADD c1.net1 eth0
	attach ADD c1 net1
	attach ADD c1.net1 eth1
	attach ADD c1 net1.eth1
	attach ADD k1 eth0 web.net1
	attach ADD k2 net1 web
	[ "$(in_use)" = 6 ]
	[ "$(ip -j link show type veth | jq length)" = 6 ]
	reaches host "$(address c1.net1)"
	attach DEL c1 net1
	attach DEL c1 net1.eth1
	attach DEL k2 net1 web
	[ "$(in_use)" = 3 ]
	reaches host "$(address c1.net1)"
	reaches host "$(address k1)"
}

@test "an option that is none is named" {
	run -2 "$BIN/margay" --print-config
	[[ $output = *"no option --print-config"* ]]
	run -0 "$BIN/margay-ipam" --help
	[[ $output = *"a CNI plugin"* ]]
}

@test "every version of the format" {
	jq_of() {
		case $1 in
		0.1.0 | 0.2.0) echo '.ip4.ip' ;;
		*) echo '.ips[0].address' ;;
		esac
	}
	for v in 0.1.0 0.2.0 0.3.0 0.3.1 0.4.0 1.0.0 1.1.0; do
		pod a
		conf $v >"$BATS_TEST_TMPDIR/v"
		result=$(CONF=$BATS_TEST_TMPDIR/v cni ADD a)
		[ "$(jq -r .cniVersion <<<"$result")" = $v ]
		[ "$(jq -r "$(jq_of $v)" <<<"$result")" = "$(address a)/32" ]
		case $v in
		0.3.* | 0.4.0) [ "$(jq -r '.ips[0].version' <<<"$result")" = 4 ] ;;
		*) [ "$(jq -r '.ips[0].version' <<<"$result")" = null ] ;;
		esac
		prev_conf "$result" $v
		case $v in
		0.4.0 | 1.*) cni CHECK a ;;
		*) code 1 CHECK a ;;
		esac
		cni DEL a
		unset CONF
		ip netns del a
	done
	conf 1.2.0 >"$BATS_TEST_TMPDIR/v"
	pod a
	CONF=$BATS_TEST_TMPDIR/v code 1 ADD a
	versions=$(echo '{"cniVersion":"1.0.0"}' | CNI_COMMAND=VERSION "$BIN/margay")
	jq -e '.cniVersion == "1.0.0" and (.supportedVersions | index("0.3.1") and index("1.1.0"))' <<<"$versions"
}

@test "what is asked for: address, MAC, labels, pools, routes, MTU" {
	pod a
	pod b
	pod c
	put /calico/resources/v3/projectcalico.org/ippools/other '{"spec":{"cidr":"10.9.0.0/24","blockSize":26}}'
	conf 1.0.0 ',"mtu":1380,"args":{"cni":{"ips":["10.244.7.9"],"mac":"02:00:00:00:00:09","labels":[{"key":"app","value":"web"}]}}' >"$BATS_TEST_TMPDIR/args"
	CONF=$BATS_TEST_TMPDIR/args cni ADD a
	[ "$(address a)" = 10.244.7.9 ]
	ip -n a -j link show eth0 | jq -e '.[0] | .address == "02:00:00:00:00:09" and .mtu == 1380'
	value /calico/resources/v3/projectcalico.org/workloadendpoints/ns/node--1-k8s-a-eth0 | jq -e '.metadata.labels.app == "web" and .spec.mac == "02:00:00:00:00:09"'
	reaches host 10.244.7.9
	CNI_ARGS='IgnoreUnknown=1;IP=10.244.7.9;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=b' code 101 ADD b
	[[ $msg == *10.244.7.9* ]]
	CNI_ARGS='IP=10.244.7.10;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=b' cni ADD b
	[ "$(address b)" = 10.244.7.10 ]
	conf 1.0.0 '' ',"ipv4_pools":["10.9.0.77/24"],"routes":[{"dst":"10.0.0.0/8"}]' >"$BATS_TEST_TMPDIR/pool"
	CONF=$BATS_TEST_TMPDIR/pool cni ADD c
	[[ $(address c) == 10.9.0.* ]]
	ip -n c -j route | jq -e '[.[].dst] | index("10.0.0.0/8") and (index("default") | not)'
}

@test "the MTU's file" {
	pod a
	conf 1.0.0 ',"require_mtu_file":true' >"$BATS_TEST_TMPDIR/mtu"
	CONF=$BATS_TEST_TMPDIR/mtu code 11 ADD a
	[[ $msg == *require_mtu_file*margay-felix* ]]
	mkdir -p /var/lib/calico /var/lib/margay/mtu
	code 11 ADD a
	[[ $msg == *"/var/lib/margay/mtu"* && $msg != *require* ]]
	rmdir /var/lib/margay/mtu
	echo large >/var/lib/calico/mtu
	code 7 ADD a
	[[ $msg == *"/var/lib/calico/mtu"*large* ]]
	echo 1400 >/var/lib/margay/mtu
	CONF=$BATS_TEST_TMPDIR/mtu cni ADD a
	[ "$(ip -n a -j link show eth0 | jq '.[0].mtu')" = 1400 ]
	rm -r /var/lib/margay /var/lib/calico
}

@test "what ADD waits for, what it makes instead of a netkit, and where it logs that" {
	pod a
	pod b
	local log=$BATS_TEST_TMPDIR/made/log status=$BATS_TEST_TMPDIR/status
	[ -z "${SERVED:-}" ] || log=$BATS_TEST_TMPDIR/serve.log # a server's own
	mkdir "$status"
	python3 - "$BATS_TEST_TMPDIR/port" <<-'P' &
		import http.server, sys
		class Gate(http.server.BaseHTTPRequestHandler):
		    asked = 0
		    def do_GET(self):
		        Gate.asked += 1
		        self.send_response(200 if Gate.asked > 1 else 503)
		        self.end_headers()
		server = http.server.HTTPServer(("127.0.0.1", 0), Gate)
		print(server.server_port, file=open(sys.argv[1], "w"), flush=True)
		for _ in range(3):
		    server.handle_request()
	P
	for ((i = 0; i < 100; i++)); do
		[ ! -s "$BATS_TEST_TMPDIR/port" ] || break
		sleep 0.05
	done
	conf 1.0.0 ",\"device_type\":\"netkit\",\"log_file_path\":\"$BATS_TEST_TMPDIR/made/log\",\"log_level\":\"info\",
		\"policy_setup_timeout_seconds\":1,\"endpoint_status_dir\":\"$status\",
		\"readiness_gates\":[\"http://127.0.0.1:$(cat "$BATS_TEST_TMPDIR/port")/\"]" >"$BATS_TEST_TMPDIR/waits"
	export CONF=$BATS_TEST_TMPDIR/waits
	cni ADD a
	ip -n a -d -j link show eth0 | jq -e '.[0].linkinfo.info_kind == "veth"'
	grep -q 'cni: netconf: device_type: netkit' "$log"
	grep -q "$status/k8s ns%2Fa eth0: not there within policy_setup_timeout_seconds" "$log"
	touch "$status/k8s ns%2Fb eth0"
	cni ADD b
	run ! grep ns%2Fb "$log"
	if [ -n "${SERVED:-}" ]; then
		[ ! -e "$BATS_TEST_TMPDIR/made/log" ]
		[ "$(grep -c "log_file_path: $BATS_TEST_TMPDIR/made/log, of network net: not written" "$log")" = 1 ]
	fi
	wait "$!"
}

# bats test_tags=served
@test "a plugin that is killed: its ADD does nothing more, and the pod's next verb waits for that" {
	pod old
	pod new
	conf 1.0.0 ',"readiness_gates":["http://127.0.0.1:9/"]' >"$BATS_TEST_TMPDIR/gated"
	export CNI_ARGS='K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p'
	# It waits for its gate. SIGKILL takes the plugin alone, and the server goes on with the verb.
	CNI_COMMAND=ADD CNI_CONTAINERID=s-old CNI_NETNS=/run/netns/old CNI_IFNAME=eth0 "$BIN/margay" \
		<"$BATS_TEST_TMPDIR/gated" >/dev/null 2>&1 3>&- &
	old=$!
	sleep 0.5
	kill -KILL "$old"
	# The runtime deletes it, and makes the pod anew.
	for verb in DEL ADD; do
		[ $verb = DEL ] && id=s-old ns=old || id=s-new ns=new
		CNI_COMMAND=$verb CNI_CONTAINERID=$id CNI_NETNS=/run/netns/$ns CNI_IFNAME=eth0 "$BIN/margay" \
			<"$BATS_TEST_TMPDIR/conf" >/dev/null
	done
	grep 'the plugin has gone\|readiness_gates' "$BATS_TEST_TMPDIR/serve.log"
	sleep 2
	ip -n new link show eth0
	run ! ip -n old link show eth0
	CNI_COMMAND=CHECK CNI_CONTAINERID=s-new CNI_NETNS=/run/netns/new CNI_IFNAME=eth0 "$BIN/margay" \
		<<<"$(jq --argjson r "$(CNI_COMMAND=ADD CNI_CONTAINERID=s-new CNI_NETNS=/run/netns/new CNI_IFNAME=eth0 \
			"$BIN/margay" <"$BATS_TEST_TMPDIR/conf")" '.prevResult = $r' "$BATS_TEST_TMPDIR/conf")"
	CNI_COMMAND=DEL CNI_CONTAINERID=s-new CNI_NETNS=/run/netns/new CNI_IFNAME=eth0 "$BIN/margay" <"$BATS_TEST_TMPDIR/conf"
	no_leftovers
}

# bats test_tags=served
@test "however many wait for their gates, all others have their answers" {
	local gated=() n

	pod a
	pod b
	cni ADD a
	conf 1.0.0 ',"readiness_gates":["http://127.0.0.1:9/"]' >"$BATS_TEST_TMPDIR/gated"
	for n in {1..8}; do
		pod "g$n"
		CNI_COMMAND=ADD CNI_CONTAINERID=c-g$n CNI_NETNS=/run/netns/g$n CNI_IFNAME=eth0 "$BIN/margay" \
			<"$BATS_TEST_TMPDIR/gated" >/dev/null 2>&1 3>&- &
		gated+=($!)
	done
	sleep 1
	timeout 20 bash -ec "$(declare -f cni settle); cni ADD b >/dev/null; cni DEL a"
	# One that is as they are waits for them, but not for those whose plugin has gone.
	kill -KILL "${gated[@]}"
	for n in {1..8}; do
		cni DEL "g$n"
	done
	cni DEL b
	no_leftovers
}

# bats test_tags=served
@test "a plugin that is killed before anybody has time for its verb: there is none" {
	local workers

	pod a
	workers=$(pgrep -P "$server" | tail -n 4)
	for pid in $workers; do kill -STOP "$pid"; done
	cni ADD a >/dev/null 2>&1 3>&- &
	sleep 0.5
	pkill -KILL -P "$!" margay || kill -KILL "$!"
	wait "$!" || true
	for pid in $workers; do kill -CONT "$pid"; done
	sleep 0.5
	grep -q 'the plugin has gone' "$BATS_TEST_TMPDIR/serve.log"
	no_leftovers
}

# both ADDRESS ADDRESS6: a configuration that asks for these
both() {
	conf 1.0.0 ",\"args\":{\"cni\":{\"ips\":[\"$1\",\"$2\"]}}" >"$BATS_TEST_TMPDIR/both"
	export CONF=$BATS_TEST_TMPDIR/both
}

@test "another's route to the address is no pod's to replace; one that is not in the way is none" {
	put /calico/resources/v3/projectcalico.org/ippools/p6 '{"kind":"IPPool","spec":{"cidr":"fd00:10::/64","blockSize":122}}'
	echo 1 >/proc/sys/net/ipv6/conf/all/forwarding # the agent's task
	ip link add foreign type veth peer name foreign-peer
	ip link set foreign-peer up
	ip link set foreign up
	ip address add 198.51.100.1/24 dev foreign
	pod a
	both 10.244.7.9 fd00:10::7
	for route in 10.244.7.9/32 fd00:10::7/128; do
		ip route add "$route" dev foreign
		code 102 ADD a
		[[ $msg == *"route $route is there already, by interface foreign of the host (protocol 3)"* ]] || { echo "$msg"; false; }
		[ "$(in_use)" = 0 ]
		run ! ip -n a link show eth0
		cni DEL a
		ip route del "$route" dev foreign # it is there
	done
	# By several interfaces.
	ip link add second type veth peer name second-peer
	ip link set second-peer up
	ip link set second up
	ip route add 10.244.7.9/32 nexthop dev foreign nexthop dev second
	code 102 ADD a
	[[ $msg == *"route 10.244.7.9/32 is there already, by interface several"* ]]
	ip route del 10.244.7.9/32

	# Others than the very route: shorter, of another metric or table. How another node's pod is reached, that had
	# the address. What leads nowhere.
	ip route add 10.244.7.8/31 dev foreign
	ip route add 10.244.7.9/32 dev foreign metric 7
	ip route add 10.244.7.9/32 dev foreign table 7
	ip route add fd00:10::7/128 dev foreign metric 7777
	for route in '10.244.7.9/32 via 198.51.100.2 dev foreign proto bird' 'blackhole 10.244.7.9/32 proto bird' \
		'unreachable 10.244.7.9/32 proto 80' '10.244.7.9/32 via 198.51.100.2 dev foreign proto 80' \
		'blackhole fd00:10::7/128'; do
		# shellcheck disable=SC2086 # words
		ip route add $route # that is free again
		cni ADD a
		cni ADD a # its own route is none either
		reaches host 10.244.7.9
		ping -c1 -W2 fd00:10::7
		cni DEL a
	done
	[ "$(ip -j route show 10.244.7.9 metric 7 | jq length)" = 1 ]
	[ "$(ip -j route show 10.244.7.9 table 7 | jq length)" = 1 ]
	[ "$(ip -j -6 route show fd00:10::7 metric 7777 | jq length)" = 1 ]
	[ "$(ip -j route show 10.244.7.8/31 | jq length)" = 1 ]
}

@test "an address that was given back while its pod runs is not taken from it" {
	pod a
	pod b
	cni ADD a
	a=$(address a) veth=cali$(printf ns.a | sha1sum | cut -c1-11)
	MARGAY_SQLITE_PATH=$DB "$BIN/margayctl" ipam release --ip="$a"
	both "$a" fd00:10::7
	sed -i 's/,"fd00:10::7"//' "$CONF"
	code 102 ADD b
	[[ $msg == *"route $a/32 is there already, by interface $veth of the host (protocol 80)"* ]] || { echo "$msg"; false; }
	reaches host "$a"
	[ "$(ip -j route show "$a" | jq -r '.[].dev')" = "$veth" ]
	CONF=$BATS_TEST_TMPDIR/conf cni DEL a
	cni ADD b
	reaches host "$a"
}

@test "IPv6 beside IPv4" {
	put /calico/resources/v3/projectcalico.org/ippools/six '{"spec":{"cidr":"fd00:10::/64","blockSize":122}}'
	conf 1.0.0 '' ',"assign_ipv6":"true"' >"$BATS_TEST_TMPDIR/six"
	export CONF=$BATS_TEST_TMPDIR/six
	pod a
	pod b
	echo 1 >/proc/sys/net/ipv6/conf/all/forwarding # the agent's task
	result=$(cni ADD a)
	cni ADD b
	jq -e '.ips | length == 2' <<<"$result"
	b=$(ip -n b -j -6 address show dev eth0 scope global | jq -r '.[0].addr_info[0].local')
	ip netns exec a ping -6 -c1 -W2 "$b"
	reaches a "$(address b)"
	prev_conf "$result"
	sed -i 's/"type":"margay-ipam"/"type":"margay-ipam","assign_ipv6":"true"/' "$CONF"
	cni CHECK a
	cni DEL a
	cni DEL b
	[ "$(in_use)" = 0 ]
}

@test "another MAC that the pod gets after ADD" {
	put /calico/resources/v3/projectcalico.org/ippools/six '{"spec":{"cidr":"fd00:10::/64","blockSize":122}}'
	conf 1.0.0 '' ',"assign_ipv6":"true"' >"$BATS_TEST_TMPDIR/six"
	export CONF=$BATS_TEST_TMPDIR/six
	ip link add wan0 type veth peer name wan1
	ip link set wan0 up
	ip link set wan1 up
	ip address add 198.51.100.1/24 dev wan0
	ip route add default via 198.51.100.2
	echo 1 >/proc/sys/net/ipv6/conf/all/forwarding # the agent's task
	pod a
	pod b
	result=$(cni ADD a)
	cni ADD b
	a=$(address a) b=$(address b)
	six=$(jq -r '.ips[1].address' <<<"$result")
	ip -n a link set eth0 address 02:00:00:00:00:77
	reaches host "$a"
	reaches b "$a"
	reaches a "$b"
	ip netns exec b ping -6 -c1 -W2 "${six%/*}"
	prev_conf "$(jq '.interfaces[1].mac = "02:00:00:00:00:77"' <<<"$result")"
	cni CHECK a
	unset CONF
	cni DEL a
	cni DEL b
}

@test "the host's own namespace is no pod's" {
	ip link add host0 type veth peer name wire
	ip link set host0 up
	ip link add eth0 type veth peer name wire2
	routes=$(ip route)
	export NETNS=/proc/self/ns/net
	code 8 ADD a eth7
	[[ $msg == *"$NETNS"* ]]
	prev_conf '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[]}'
	code 8 CHECK a
	unset CONF
	cni DEL a
	ip link show eth0
	[ "$(ip route)" = "$routes" ]
	[ "$(in_use)" = 0 ]
	# Another path to it.
	touch /run/netns/self
	mount --bind /proc/self/ns/net /run/netns/self
	NETNS=/run/netns/self code 8 ADD a eth7
	umount /run/netns/self
	rm /run/netns/self
	# Whoever says so gets it.
	forward=$(cat /proc/sys/net/ipv4/ip_forward)
	CNI_NETNS_OVERRIDE=true cni ADD a eth7
	echo "$forward" >/proc/sys/net/ipv4/ip_forward
	ip link show eth7
	CNI_NETNS_OVERRIDE=1 cni DEL a eth7
	run ! ip link show eth7
	[ "$(in_use)" = 0 ]
}

# bats test_tags=alone
@test "a namespace from which there is no way back: an error of the format" {
	# As root of another user namespace: the pod's network namespace is its own, the host's is not.
	# shellcheck disable=SC2016
	run unshare -U -r bash -c '
		coproc unshare -n sh -c "echo; exec cat"
		read -r <&"${COPROC[0]}"
		CNI_COMMAND=ADD CNI_CONTAINERID=a CNI_NETNS=/proc/$COPROC_PID/ns/net CNI_IFNAME=eth0 \
			"$BIN/margay" <"$BATS_TEST_TMPDIR/conf"'
	[ "$status" = 1 ]
	jq -e '.code == 102 and (.msg | startswith("back from CNI_NETNS /proc/"))' <<<"$output"
}

# bats test_tags=alone
@test "out of file descriptors at any point: an error, and the next ADD works" {
	pod a
	saw=
	for n in $(seq 3 40); do
		rc=0
		out=$(ulimit -n "$n"; cni ADD a 2>"$BATS_TEST_TMPDIR/stderr") || rc=$?
		case $rc in
		0) break ;;
		127) continue ;; # its libraries could not be loaded
		esac
		jq -e .msg <<<"$out" || { cat "$BATS_TEST_TMPDIR/stderr"; false; }
		[[ $out != *"No such file"* ]]
		[[ $out != *"a netlink socket in /run/netns/a: Too many open files"* ]] || saw=1
	done
	[ "$rc" = 0 ]
	[ "$saw" ]
	cni ADD a
	reaches host "$(address a)"
	cni DEL a
	[ "$(in_use)" = 0 ]
}

# bats test_tags=alone
@test "errors have the specification's codes" {
	pod a
	code 4 NONSENSE a
	NETNS='' code 4 ADD a
	NETNS=/run/netns/none code 4 ADD a
	for name in eth/0 eth:0 eth%d 'eth 0'; do
		code 4 ADD a "$name"
		[[ $msg == "CNI_IFNAME: \"$name\": want a name of printable ASCII without \"/\", "* ]]
	done
	code 4 ADD a a-name-of-16-byte
	[[ $msg == *"of 1 to 15 bytes" ]]
	CONTAINERID=$(printf 'a%.0s' {1..201}) code 4 ADD a
	[[ $msg == "CNI_CONTAINERID: \"aaa"*": want at most 200 bytes" ]]
	CONTAINERID=-a code 4 ADD a
	[[ $msg == *"want a letter or a digit first" ]]
	CONTAINERID=a/b code 4 ADD a
	[[ $msg == *'want letters, digits and "_.-" alone' ]]
	CNI_ARGS='K8S_POD_NAME' code 4 ADD a
	CNI_ARGS='IP=nonsense' code 4 ADD a
	for mac in nonsense 01:00:5e:00:00:01 00:00:00:00:00:00; do
		CNI_ARGS="MAC=$mac" code 4 ADD a
		[[ $msg == *"MAC"*"$mac"* ]]
	done
	while IFS='|' read -r want text words; do
		echo "$text" >"$BATS_TEST_TMPDIR/bad"
		CONF=$BATS_TEST_TMPDIR/bad code "$want" ADD a || { echo "for: $text"; false; }
		[[ $msg == *"$words"* && $msg != *s3cret* ]] || { echo "$msg, want $words"; false; }
	done <<-EOT
		6||netconf
		6|[]|object
		6|{"name":|line
		7|{"cniVersion":"1.0.0"}|name
		7|{"cniVersion":"1.0.0","name":"a/b"}|name
		7|{"cniVersion":"1.0.0","name":"n","mtu":"1500"}|netconf: mtu: got "1500", want a whole number
		7|{"cniVersion":"1.0.0","name":"n","mtu":-1}|mtu: got -1, want
		7|{"cniVersion":"1.0.0","name":"n","ipam":{}}|ipam.type is missing: want an IPAM plugin's name, "margay-ipam" for one
		7|{"cniVersion":"1.0.0","name":"n","nodename":"x","sqlite_path":"$DB","mtu":1279,"ipam":{"type":"margay-ipam","assign_ipv6":"true"}}|MTU 1279: the pod is to have an IPv6 address, which wants 1280 at least
		7|{"cniVersion":"1.0.0","name":"n","nodename":"node-1","ipam":{"type":"host-local"}}|host-local
		7|{"cniVersion":"1.0.0","name":"n","nodename":"x","ipam":{"type":"margay-ipam"},"datastore_type":"floppy"}|floppy
		7|{"cniVersion":"1.0.0","name":"n","nodename":"x","ipam":{"type":"margay-ipam"},"datastore_type":"etcdv3"}|netconf: the datastore's keys: ETCD_ENDPOINTS is not set
		7|{"cniVersion":"1.0.0","name":"n","nodename":"x","ipam":{"type":"margay-ipam"},"etcd_discovery_srv":"example.org"}|ETCD_DISCOVERY_SRV is set
		7|{"cniVersion":"1.0.0","name":"n","ipam":{"type":"margay-ipam"},"etcd_password":["s3cret"]}|netconf: etcd_password: want a string
		7|{"cniVersion":"1.0.0","name":"n","ipam":{"type":"margay-ipam"},"etcd_endpoints":["https://u:s3cret@h"]}|netconf: etcd_endpoints: want a string
		6|{"cniVersion":"1.0.0","name":"n","etcd_password" "s3cret"}|netconf: line 1, column 
		7|{"cniVersion":"1.0.0","name":"n","nodename":"x","ipam":{"type":"margay-ipam"},"datastore_type":"kubernetes"}|DATASTORE_TYPE kubernetes wants KUBECONFIG
		7|{"cniVersion":"1.0.0","name":"n","nodename":"x","ipam":{"type":"margay-ipam"},"datastore_type":"kubernetes","kubernetes":{"kubeconfig":"/dev/null"}}|kubeconfig /dev/null: want one document, of kind Config
		7|{"cniVersion":"1.0.0","name":"n","ipam":{"type":"margay-ipam"},"kubernetes":{"kubeconfig":1}}|netconf: kubernetes.kubeconfig: got 1, want
		7|{"cniVersion":"1.0.0","name":"n","ipam":{"type":"margay-ipam","ipv4_pools":[1]}}|ipam.ipv4_pools: got [1], want
		7|{"cniVersion":"1.0.0","name":"n","ipam":{"type":"margay-ipam"},"args":{"cni":{"ips":["10.0.0.300"]}}}|ips[0]
		7|{"cniVersion":"1.0.0","name":"n","ipam":{"type":"margay-ipam"},"args":{"cni":{"labels":{"bad key!":"x"}}}}|args.cni.labels: got {"bad key!":"x"}, want
		7|{"cniVersion":"1.0.0","name":"n","ipam":{"type":"margay-ipam"},"args":{"cni":{"labels":[{"key":"a","value":"x y/z"}]}}}|labels
		11|{"cniVersion":"1.0.0","name":"n","nodename_file":"/nowhere","ipam":{"type":"margay-ipam"}}|margay-felix
	EOT
	conf 1.0.0 '' ',"ipv4_pools":["gone"]' >"$BATS_TEST_TMPDIR/bad"
	CONF=$BATS_TEST_TMPDIR/bad code 101 ADD a
	[[ $msg == *gone* ]]
	# Of the other family.
	put /calico/resources/v3/projectcalico.org/ippools/p6 '{"spec":{"cidr":"fd00:10::/64","blockSize":122}}'
	conf 1.0.0 '' ',"ipv4_pools":["p6"]' >"$BATS_TEST_TMPDIR/bad"
	CONF=$BATS_TEST_TMPDIR/bad code 101 ADD a
	[[ $msg == *"the given pool (p6) has addresses of IPv6: want pools of IPv4"* ]]
	conf 1.0.0 '' ',"ipv4_pools":["10.244.0.0/16","fd00:10::/64"]' >"$BATS_TEST_TMPDIR/bad"
	CONF=$BATS_TEST_TMPDIR/bad code 7 ADD a
	[[ $msg == "ipv4_pools of the netconf"*"got fd00:10::/64, want pools of IPv4, by name or CIDR" ]]
	[ "$(in_use)" = 0 ]
}

# bats test_tags=alone
@test "STATUS: 0 when ADD would be tried, else 50" {
	conf 1.1.0 >"$BATS_TEST_TMPDIR/s"
	CONF=$BATS_TEST_TMPDIR/s cni STATUS -
	sed "s,$DB,/proc/nowhere/db," "$BATS_TEST_TMPDIR/s" >"$BATS_TEST_TMPDIR/s2"
	CONF=$BATS_TEST_TMPDIR/s2 code 50 STATUS -
	[[ $msg == "datastore /proc/nowhere/db: there is none: margay-felix, or margayctl apply, makes it ("*" directory /proc/nowhere/)"*sqlite_path ]]
	code 1 STATUS -
	# It takes no writes, whether it was in use or not.
	ro=/run/ro
	sqlite3 "$DB" 'PRAGMA wal_checkpoint(TRUNCATE)'
	sed "s,$DB,$ro/db," "$BATS_TEST_TMPDIR/s" >"$BATS_TEST_TMPDIR/s2"
	mkdir "$ro"
	for used in false true; do
		mount -t tmpfs none "$ro"
		cp "$DB" "$ro/db"
		! $used || CONF=$BATS_TEST_TMPDIR/s2 cni STATUS -
		mount -o remount,ro "$ro"
		CONF=$BATS_TEST_TMPDIR/s2 code 50 STATUS -
		umount "$ro"
		[[ $msg == "datastore $ro/db: Read-only file system: mount it for writing (findmnt -T $ro/ shows it)"* ]]
	done
	# No pool, or none of the family.
	pool=$(value /calico/resources/v3/projectcalico.org/ippools/p)
	put /calico/resources/v3/projectcalico.org/ippools/p "$(jq -c '.spec.disabled = true' <<<"$pool")"
	CONF=$BATS_TEST_TMPDIR/s code 50 STATUS -
	[[ $msg == *"$DB: no enabled IPPool of IPv4 is there"* ]]
	put /calico/resources/v3/projectcalico.org/ippools/p "$pool"
	conf 1.1.0 '' ',"assign_ipv4":"false","assign_ipv6":"true"' >"$BATS_TEST_TMPDIR/s6"
	CONF=$BATS_TEST_TMPDIR/s6 code 50 STATUS -
	[[ $msg == *"of IPv6"* ]]
	conf 1.1.0 '' ',"assign_ipv4":"true","assign_ipv6":"true"' >"$BATS_TEST_TMPDIR/s6"
	CONF=$BATS_TEST_TMPDIR/s6 code 50 STATUS -
	[[ $msg == *"of IPv6"* ]]
	conf 1.1.0 '' ',"ipv4_pools":["p","none"]' >"$BATS_TEST_TMPDIR/s6"
	CONF=$BATS_TEST_TMPDIR/s6 code 50 STATUS -
	[[ $msg == *'ipam.ipv4_pools: "none": no enabled IPPool of IPv4'* ]]
	# Before the agent has been here: as ADD.
	pod a
	name=$BATS_TEST_TMPDIR/nodename
	sed -i "s,\"nodename\":\"node-1\",\"nodename_file\":\"$name\"," "$BATS_TEST_TMPDIR/s"
	export CONF=$BATS_TEST_TMPDIR/s
	code 50 STATUS -
	[[ $msg == *"$name"*margay-felix* ]]
	code 11 ADD a
	echo node-1 >"$name"
	cni STATUS -
	cni ADD a
}

@test "GC: releases what the runtime does not have any more" {
	pod a
	pod b
	cni ADD a
	cni ADD b
	cni ADD b net1
	conf 1.1.0 ',"cni.dev/valid-attachments":[{"containerID":"c-b","ifname":"net1"}]' >"$BATS_TEST_TMPDIR/gc"
	CONF=$BATS_TEST_TMPDIR/gc cni GC -
	[ "$(in_use)" = 1 ]
	[ "$(count /calico/ipam/v2/handle/net.c-b:net1)" = 1 ]
	[ "$(count /calico/resources/v3/projectcalico.org/workloadendpoints/)" = 1 ]
	[ "$(ip -j link show type veth | jq length)" = 1 ]
	reaches host "$(address b net1)"
	# Handles that no address has: an ADD was killed, or a DEL.
	b=$(jq -c .block <<<"$(value /calico/ipam/v2/handle/net.c-b:net1)")
	for handle in net.c-killed net.c-killed:net1 other.c-killed; do
		put /calico/ipam/v2/handle/$handle '{"block":'"$b"',"deleted":false}'
	done
	CONF=$BATS_TEST_TMPDIR/gc cni GC -
	[ "$(count /calico/ipam/v2/handle/net.c-killed)" = 0 ]
	[ "$(count /calico/ipam/v2/handle/other.c-killed)" = 1 ]
	[ "$(count /calico/ipam/v2/handle/net.c-b:net1)" = 1 ]
	put /calico/ipam/v2/handle/net.c-killed '{"block":'"$b"',"deleted":false}'
	cni DEL killed
	[ "$(count /calico/ipam/v2/handle/net.c-killed)" = 0 ]
	# Of another network, another node: not ours to say.
	sed 's/"name":"net"/"name":"other"/' "$BATS_TEST_TMPDIR/gc" >"$BATS_TEST_TMPDIR/gc2"
	sed 's/node-1/node-2/; s/c-b/gone/' "$BATS_TEST_TMPDIR/gc" >"$BATS_TEST_TMPDIR/gc3"
	CONF=$BATS_TEST_TMPDIR/gc2 cni GC -
	[ -n "${SERVED:-}" ] || CONF=$BATS_TEST_TMPDIR/gc3 cni GC -
	[ "$(in_use)" = 1 ]
	# Nor of one whose name begins alike.
	sed 's/"name":"net"/"name":"net.x"/' "$BATS_TEST_TMPDIR/conf" >"$BATS_TEST_TMPDIR/longer"
	pod d
	CONF=$BATS_TEST_TMPDIR/longer cni ADD d
	CONF=$BATS_TEST_TMPDIR/gc cni GC -
	[ "$(in_use)" = 2 ]
	reaches host "$(address d)"
}

@test "GC: an address stays while its endpoint or device cannot be removed" {
	for i in a b; do
		pod $i
		cni ADD $i
	done
	CNI_ARGS='' cni ADD b net1
	weps=/calico/resources/v3/projectcalico.org/workloadendpoints
	conf 1.1.0 ',"cni.dev/valid-attachments":[]' >"$BATS_TEST_TMPDIR/gc"
	# The datastore refuses to delete one endpoint; two others cannot be read.
	sqlite3 "$DB" "CREATE TRIGGER no_wep BEFORE UPDATE ON kv WHEN new.key LIKE '%-k8s-a-eth0' AND new.value IS NULL BEGIN SELECT RAISE(ABORT, 'refused'); END
		; CREATE TRIGGER no_wep2 BEFORE DELETE ON kv WHEN old.key LIKE '%-k8s-a-eth0' BEGIN SELECT RAISE(ABORT, 'refused'); END"
	b=$(value "$weps/ns/node--1-k8s-b-eth0") net1=$(value "$weps/default/node--1-cni-c--b-net1")
	put "$weps/ns/node--1-k8s-b-eth0" nonsense
	put "$weps/default/node--1-cni-c--b-net1" nonsense
	CONF=$BATS_TEST_TMPDIR/gc code 100 GC -
	[ "$(in_use)" = 3 ]
	[ "$(count "$weps/")" = 3 ]
	put "$weps/ns/node--1-k8s-b-eth0" "$b"
	put "$weps/default/node--1-cni-c--b-net1" "$net1"
	CONF=$BATS_TEST_TMPDIR/gc code 11 GC -
	[ "$(in_use)" = 1 ]
	[ "$(count "$weps/")" = 1 ]
	sqlite3 "$DB" 'DROP TRIGGER no_wep; DROP TRIGGER no_wep2'
	CONF=$BATS_TEST_TMPDIR/gc cni GC -
	[ "$(in_use)" = 0 ]
	[ "$(count "$weps/")" = 0 ]
	[ "$(ip -j link show type veth | jq length)" = 0 ]
}

@test "a full pool is said, and nothing leaks" {
	put /calico/resources/v3/projectcalico.org/ippools/p '{"spec":{"cidr":"10.244.0.0/29","blockSize":30}}'
	for i in 1 2 3 4 5 6 7 8; do
		pod p$i
		cni ADD p$i
	done
	pod p9
	code 101 ADD p9
	[[ $msg == *"free"* ]]
	[ "$(in_use)" = 8 ]
	cni DEL p9
	cni DEL p3
	cni ADD p9
	reaches host "$(address p9)"
}

@test "a failure in the middle leaves nothing" {
	pod a
	# The name is taken in the pod.
	ip -n a link add eth0 type bridge
	code 102 ADD a
	[[ $msg == *eth0* ]]
	[ "$(in_use)" = 0 ]
	[ "$(count /calico/ipam/v2/handle/)" = 0 ]
	[ "$(ip -j link show type veth | jq length)" = 0 ]
	ip -n a link show eth0
	cni DEL a
	ip -n a link show eth0 # not ours, not touched
	ip -n a link del eth0
	# The endpoint cannot be written.
	put_trigger() {
		sqlite3 "$DB" "CREATE TRIGGER no_wep BEFORE INSERT ON kv WHEN new.key LIKE '%workloadendpoints%' BEGIN SELECT RAISE(ABORT, 'refused'); END"
	}
	put_trigger
	run ! cni ADD a
	[ "$(in_use)" = 0 ]
	[ "$(ip -j link show type veth | jq length)" = 0 ]
	run ! ip -n a link show eth0
	sqlite3 "$DB" 'DROP TRIGGER no_wep'
	cni ADD a
	reaches host "$(address a)"
}

@test "without Kubernetes' arguments" {
	pod a
	export CNI_ARGS=
	result=$(cni ADD a)
	reaches host "$(address a)"
	[ "$(count /calico/resources/v3/projectcalico.org/workloadendpoints/default/node--1-cni-c--a-eth0)" = 1 ]
	prev_conf "$result"
	cni CHECK a
	cni DEL a
	[ "$(in_use)" = 0 ]
}

@test "identifiers that begin alike have devices of their own" {
	attach() { # VERB POD: its identifier is a version 7 UUID, which begins with the time
		CNI_COMMAND=$1 CNI_CONTAINERID=0190163d8694739ba000000000000$2 CNI_NETNS=/run/netns/a$2 \
			CNI_IFNAME=eth0 "$BIN/margay" <"$BATS_TEST_TMPDIR/conf"
	}
	for i in 001 002; do
		pod a$i
		attach ADD $i
	done
	[ "$(ip -j link show type veth | jq length)" = 2 ]
	reaches host "$(address a001)"
	reaches host "$(address a002)"
	attach DEL 002
	reaches host "$(address a001)"
	attach DEL 001
	[ "$(in_use)" = 0 ]
}

@test "margay-ipam alone" {
	export PROGRAM=margay-ipam NETNS=/nowhere
	result=$(cni ADD a)
	jq -e '.interfaces == null and (.ips | length == 1)' <<<"$result"
	[ "$(in_use)" = 1 ]
	prev_conf "$result"
	cni CHECK a
	cni DEL a
	[ "$(in_use)" = 0 ]
	code 103 CHECK a
}

# bats test_tags=alone
@test "a store that is full, or no store, or holds nonsense, is named" {
	pod a
	pod b
	echo nonsense >"$BATS_TEST_TMPDIR/none"
	sed "s,$DB,$BATS_TEST_TMPDIR/none," "$BATS_TEST_TMPDIR/conf" >"$BATS_TEST_TMPDIR/bad"
	CONF=$BATS_TEST_TMPDIR/bad code 100 ADD a
	[[ $msg == *"$BATS_TEST_TMPDIR/none"* ]]
	mkdir "$BATS_TEST_TMPDIR/small"
	mount -t tmpfs -o size=400k none "$BATS_TEST_TMPDIR/small"
	sqlite3 "$DB" "VACUUM INTO '$BATS_TEST_TMPDIR/small/db'"
	dd if=/dev/zero of="$BATS_TEST_TMPDIR/small/fill" bs=1k 2>/dev/null || true
	sed "s,$DB,$BATS_TEST_TMPDIR/small/db," "$BATS_TEST_TMPDIR/conf" >"$BATS_TEST_TMPDIR/bad"
	CONF=$BATS_TEST_TMPDIR/bad code 100 ADD a
	[[ $msg == *full* ]]
	rm "$BATS_TEST_TMPDIR/small/fill"
	CONF=$BATS_TEST_TMPDIR/bad cni ADD a
	CONF=$BATS_TEST_TMPDIR/bad cni DEL a
	umount "$BATS_TEST_TMPDIR/small"
	# A block that cannot be read blocks nothing else, and is named.
	cni ADD a
	block=$(sqlite3 "$DB" "SELECT key FROM kv WHERE key LIKE '/calico/ipam/v2/assignment/%'")
	put "$block" '{"cidr":1}'
	cni ADD b 2>"$BATS_TEST_TMPDIR/stderr"
	grep -q "$block" "$BATS_TEST_TMPDIR/stderr"
	reaches a "$(address b)"
	conf 1.0.0 ',"log_level":"error"' >"$BATS_TEST_TMPDIR/quiet"
	CONF=$BATS_TEST_TMPDIR/quiet cni ADD b 2>"$BATS_TEST_TMPDIR/stderr"
	[ ! -s "$BATS_TEST_TMPDIR/stderr" ]
	conf 1.0.0 ',"log_level":"Bogus"' >"$BATS_TEST_TMPDIR/quiet"
	CONF=$BATS_TEST_TMPDIR/quiet cni ADD b 2>"$BATS_TEST_TMPDIR/stderr"
	grep -q 'netconf: log_level: log level "Bogus", want error, warn, info or debug' "$BATS_TEST_TMPDIR/stderr"
	put /calico/resources/v3/projectcalico.org/ippools/q '{"spec":{"cidr":"nonsense"}}'
	cni DEL b
	cni ADD b
	[ "$(value "$block")" = '{"cidr":1}' ]
}

@test "200 pods by 8 processes: distinct, all work, none leaks" {
	for i in $(seq 200); do
		pod p"$i"
	done
	worker() { # NUMBER VERB
		for i in $(seq "$1" 8 200); do
			cni "$2" p"$i" >"$BATS_TEST_TMPDIR/result.$i" || return 1
		done
	}
	all() { # VERB
		pids=
		for n in $(seq 8); do
			worker "$n" "$1" &
			pids="$pids $!"
		done
		for pid in $pids; do
			wait "$pid"
		done
	}
	all ADD
	for i in $(seq 200); do
		address p"$i"
	done | sort >"$BATS_TEST_TMPDIR/addresses"
	[ "$(sort -u "$BATS_TEST_TMPDIR/addresses" | wc -l)" = 200 ]
	[ "$(in_use)" = 200 ]
	[ "$(ip -j route show proto 80 | jq length)" = 200 ]
	# From one pod to all, and from the host.
	xargs -P8 -n1 ping -q -c1 -W2 -I 192.0.2.1 <"$BATS_TEST_TMPDIR/addresses" >/dev/null
	ip netns exec p1 xargs -P8 -n1 ping -q -c1 -W2 <"$BATS_TEST_TMPDIR/addresses" >/dev/null
	all DEL
	[ "$(in_use)" = 0 ]
	[ "$(count /calico/ipam/v2/handle/)" = 0 ]
	[ "$(count /calico/resources/v3/projectcalico.org/workloadendpoints/)" = 0 ]
	[ "$(ip -j route show proto 80 | jq length)" = 0 ]
	[ "$(ip -j link show type veth | jq length)" = 0 ]
}

# The server and its plugin.

# bats test_tags=served
@test "DEL answers with the link down, which goes within 100 ms; what was left over goes at the start" {
	pod a
	cni ADD a
	address=$(address a)
	CNI_COMMAND=DEL CNI_CONTAINERID=c-a CNI_NETNS=/run/netns/a CNI_IFNAME=eth0 "$BIN/margay" <"$BATS_TEST_TMPDIR/conf"
	# Seen at once, or it is gone already.
	[ -z "$(ip -j link show type veth | jq '.[] | select(.flags | index("UP"))')" ]
	[ -z "$(ip route show "$address")" ]
	for ((i = 0; i < 10; i++)); do
		[ "$(ip -j link show type veth | jq length)" = 0 ] && break
		sleep 0.05
	done
	[ "$(ip -j link show type veth | jq length)" = 0 ]
	unserve
	ip link add left group 1836214137 type veth peer name right
	serve
	settle
	run ! ip link show left
}

# bats test_tags=served
@test "a link that the kernel does not delete at once goes by itself" {
	local reaper

	pod a
	cni ADD a >/dev/null
	sleep 3 # its last turn without being told is over
	reaper=$(pgrep -P "$server" | head -n 1)
	strace -qq -o "$BATS_TEST_TMPDIR/calls" -e trace=sendto,sendmsg -e inject=sendto,sendmsg:error=ENOBUFS:when=1..2 \
		-p "$reaper" 3>&- &
	until grep -q "TracerPid:[[:space:]]*[1-9]" "/proc/$reaper/status"; do sleep 0.02; done
	cni DEL a
	settle
	[ "$(ip -j link show type veth | jq length)" = 0 ]
	[ "$(grep -c INJECTED "$BATS_TEST_TMPDIR/calls")" = 2 ]
}

# bats test_tags=served
@test "an ADD that meets a link which is being deleted does not fail" {
	pod a
	for ((n = 0; n < 20; n++)); do
		cni ADD a >/dev/null
		CNI_COMMAND=DEL CNI_CONTAINERID=c-a CNI_NETNS=/run/netns/a CNI_IFNAME=eth0 "$BIN/margay" \
			<"$BATS_TEST_TMPDIR/conf"
	done
	cni ADD a
	reaches host "$(address a)"
	[ "$(in_use)" = 1 ]
}

# bats test_tags=alone
@test "a server refuses in a file what its plugin would not know of" {
	for name in MARGAY_RUN_DIR MARGAY_CNI_STATE_DIR; do
		echo "$name = $BATS_TEST_TMPDIR/elsewhere" >"$BATS_TEST_TMPDIR/file"
		run -1 env -u "$name" "$BIN/margay-cni" serve --config "$BATS_TEST_TMPDIR/file"
		[[ $output == *"$name ($BATS_TEST_TMPDIR/file:1): want it in the environment of margay-cni serve and"* ]]
	done
	[ ! -e "$BATS_TEST_TMPDIR/elsewhere" ]
}

# bats test_tags=served
@test "another node, another datastore: refused by name" {
	pod a
	for change in '.nodename = "node-2"|node-2|node node-1' '.datastore_type = "etcdv3"|datastore_type|sqlite' \
		'.sqlite_path = "/other"|sqlite_path: /other|serve has'; do
		IFS='|' read -r edit word more <<<"$change"
		jq "$edit" "$BATS_TEST_TMPDIR/conf" >"$BATS_TEST_TMPDIR/bad"
		CONF=$BATS_TEST_TMPDIR/bad code 7 ADD a
		[[ $msg == *"$word"* && $msg == *"$more"* ]] || { echo "$msg"; false; }
	done
	# None of which need be said.
	echo '{"cniVersion":"1.0.0","name":"net","type":"margay","ipam":{"type":"margay-ipam"}}' >"$BATS_TEST_TMPDIR/short"
	CONF=$BATS_TEST_TMPDIR/short cni ADD a
	[ -n "$(value /calico/resources/v3/projectcalico.org/workloadendpoints/ns/node--1-k8s-a-eth0)" ]
}

# bats test_tags=served
@test "a server that hangs or dies in the middle costs a retry; a stopped one, nothing" {
	pod a
	pod b
	workers=$(pgrep -P "$server" | tail -n 4)
	for pid in $workers; do kill -STOP "$pid"; done
	cni ADD a >"$BATS_TEST_TMPDIR/out" 2>&1 &
	client=$!
	sleep 0.3
	for pid in $workers; do kill -KILL "$pid"; done
	# One that was only in the queue is another worker's.
	rc=0
	wait "$client" || rc=$?
	[ "$rc" = 0 ] || jq -e '.code == 11' "$BATS_TEST_TMPDIR/out"
	cni ADD a
	[ "$(in_use)" = 1 ]
	# Stopped: whoever comes runs the verb itself.
	unserve
	[ ! -e "$MARGAY_RUN_DIR/cni.sock" ]
	cni ADD b
	reaches host "$(address b)"
	cni DEL a
	cni DEL b
	[ "$(in_use)" = 0 ]
	# Killed: so, too, and the next one takes its place.
	serve
	kill -KILL "$server"
	wait "$server" || true
	# A worker that is about to end may have taken it.
	until cni ADD a >"$BATS_TEST_TMPDIR/out"; do
		jq -e '.code == 11' "$BATS_TEST_TMPDIR/out"
	done
	serve
	cni DEL a
	[ "$(in_use)" = 0 ]
}

# bats test_tags=served
@test "a process of the server that fails at its start is started again, ever more rarely" {
	local failures='another program has that port' taken

	unserve
	python3 -c 'import signal, socket; s = socket.create_server(("127.0.0.1", 9097)); signal.pause()' 3>&- &
	taken=$!
	until [ -n "$(ss -Hltn 'sport = 9097')" ]; do sleep 0.05; done
	serve
	for ((i = 0; i < 100; i++)); do
		[ "$(grep -c "$failures" "$BATS_TEST_TMPDIR/serve.log")" -lt 2 ] || break
		sleep 0.1
	done
	# At 0, 1, 3, 7 s.
	sleep 3
	[ "$(grep -c "$failures" "$BATS_TEST_TMPDIR/serve.log")" -le 3 ]
	run ! grep warn "$BATS_TEST_TMPDIR/serve.log"
	kill "$taken"
	for ((i = 0; i < 100; i++)); do
		! curl -sf 127.0.0.1:9097/readyz >/dev/null || break
		sleep 0.1
	done
	curl -sf 127.0.0.1:9097/readyz
	pod a
	cni ADD a
}

# bats test_tags=served
@test "the socket is root's, and nonsense on it is refused and harms nobody" {
	[ "$(stat -c %a "$MARGAY_RUN_DIR/cni.sock")" = 600 ]
	chmod 666 "$MARGAY_RUN_DIR/cni.sock"
	chmod -R a+rX "$BATS_TEST_TMPDIR" "$BATS_RUN_TMPDIR"
	pod a
	python3 - "$MARGAY_RUN_DIR/cni.sock" <<-'P'
		import os, socket, struct, sys

		def say(*packets, fds=()):
		    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		    s.settimeout(10)
		    s.connect(sys.argv[1])
		    for i, p in enumerate(packets):
		        try:
		            socket.send_fds(s, [p], list(fds) if i == 0 else [])
		        except BrokenPipeError:
		            break
		    try:
		        return s.recv(65536)
		    except ConnectionResetError:
		        return b""

		def request(version=2, fds=0, env=b"", conf=0, env_len=None):
		    return struct.pack("=IHBBIiIIq", 0x6d726779, version, 0, 0, fds, 0,
		                       len(env) if env_len is None else env_len, conf, 0) + env

		assert say(b"x") == b""
		assert say(b"\0" * 24) == b""
		assert say(b"\0" * 65536) == b""
		assert say(request(env_len=7)) == b""
		assert say(request(conf=1 << 30)) == b""
		assert say(request(fds=15), fds=[0, 1]) != None
		for _ in range(50):
		    say(b"x", fds=[0, 1, 2])
		    say(request()[:30], fds=[0, 1, 2])
		# A descriptor that is not what it is said to be.
		assert say(request(fds=1, env=b"CNI_COMMAND=ADD\0"), fds=[0]) == b""
		assert say(request(fds=2, env=b"CNI_COMMAND=ADD\0"), fds=[0]) == b""
		# Another version: the plugin is to do it itself.
		magic, version, kind, code, out, log = struct.unpack("=IHBBII", say(request(version=9)))
		assert (version, kind) == (2, 1)
		# A plugin of the first version had less to say.
		assert struct.unpack("=IHBBII", say(request(version=1)[:28]))[2] == 1
		# Neither environment nor configuration.
		assert struct.unpack("=IHBBII", say(request()))[2:4] == (0, 1)
		if os.fork() == 0:
		    os.setgid(65534); os.setuid(65534)
		    assert say(request()) == b""
		    os._exit(0)
		assert os.wait()[1] == 0
	P
	cni ADD a
	cni DEL a
	# No descriptor of the pod's stays open.
	for pid in $(pgrep -P "$server" | tail -n +3); do
		[ -z "$(find /proc/"$pid"/fd -lname 'net:*')" ]
		[ "$(find /proc/"$pid"/fd | wc -l)" -lt 30 ]
	done
}

# bats test_tags=served
@test "who has connected and says nothing keeps nobody waiting; who was late connects anew" {
	pod a
	python3 - "$MARGAY_RUN_DIR/cni.sock" "$BATS_TEST_TMPDIR/connected" <<-'P' 3>&- &
		import signal, socket, sys

		mute = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(60)]
		for s in mute:
		    s.connect(sys.argv[1])
		open(sys.argv[2], "w").close()
		signal.pause()
	P
	mute=$!
	until [ -e "$BATS_TEST_TMPDIR/connected" ]; do sleep 0.02; done
	SECONDS=0
	cni ADD a
	# Four workers have let go of 60: each after 0.1 s, where it is 5 s for who has begun to speak.
	[ $SECONDS -lt 30 ]
	kill "$mute"
	pod b
	CNI_COMMAND=ADD CNI_CONTAINERID=c-b CNI_NETNS=/run/netns/b CNI_IFNAME=eth0 ASAN_OPTIONS=detect_leaks=0 \
		strace -qq -o "$BATS_TEST_TMPDIR/calls" -e trace=sendmsg -e inject=sendmsg:delay_enter=300000:when=1 \
		"$BIN/margay" <"$BATS_TEST_TMPDIR/conf" >"$BATS_TEST_TMPDIR/result"
	reaches host "$(address b)"
	grep -q 'EPIPE' "$BATS_TEST_TMPDIR/calls"
	[ "$(grep -c sendmsg "$BATS_TEST_TMPDIR/calls")" = 2 ]
}

# delegating TYPE [MORE [VERSION]]: a configuration with another IPAM plugin
delegating() {
	local more='{}'

	conf "${3:-1.0.0}" | jq --arg t "$1" --argjson more "${2:-$more}" '.ipam = {type: $t} + $more' \
		>"$BATS_TEST_TMPDIR/delegating"
	export CONF=$BATS_TEST_TMPDIR/delegating CNI_PATH=$BATS_TEST_TMPDIR/plugins:/usr/lib/cni
}

# plugin NAME: a plugin with the script on stdin, after a note of the verb in NAME.log
plugin() {
	mkdir -p "$BATS_TEST_TMPDIR/plugins"
	{
		echo "#!/bin/sh"
		echo "echo \"\$CNI_COMMAND\" >>\"$BATS_TEST_TMPDIR/$1.log\""
		cat
	} >"$BATS_TEST_TMPDIR/plugins/$1"
	chmod +x "$BATS_TEST_TMPDIR/plugins/$1"
}

# asked NAME: the verbs that it has been asked
asked() {
	tr '\n' ' ' <"$BATS_TEST_TMPDIR/$1.log"
}

@test "host-local gives the address, and has it back" {
	local dir=$BATS_TEST_TMPDIR/host-local

	delegating host-local "{\"dataDir\":\"$dir\",\"ranges\":[[{\"subnet\":\"10.99.0.0/24\"}],[{\"subnet\":\"fd99::/64\"}]]}"
	# as kubelet has it; host-local wants it
	export CNI_ARGS='IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=a'
	pod a
	pod b
	result=$(cni ADD a)
	CNI_ARGS=${CNI_ARGS%a}b cni ADD b
	a=$(address a) b=$(address b)
	[[ $a == 10.99.0.* && $b == 10.99.0.* && $a != "$b" ]]
	reaches a "$b"
	reaches host "$a"
	[ "$(jq -r '[.ips[].address] | sort | join(" ")' <<<"$result")" = "$a/32 fd99::2/128" ]
	value /calico/resources/v3/projectcalico.org/workloadendpoints/ns/node--1-k8s-a-eth0 |
		jq -e --arg a "$a/32" '.spec.ipNetworks == [$a, "fd99::2/128"]'
	[ "$(count /calico/ipam/v2/handle/)" = 0 ]
	[ -e "$dir/net/$a" ]
	# Which host-local would refuse.
	[ "$(cni ADD a)" = "$result" ]
	[ -e "$dir/net/$a" ]
	[ "$(find "$dir/net" -name '10.*' | wc -l)" = 2 ]
	reaches host "$a"
	jq --argjson prev "$result" '.prevResult = $prev' "$CONF" >"$BATS_TEST_TMPDIR/prev"
	CONF=$BATS_TEST_TMPDIR/prev cni CHECK a
	cni DEL a
	[ ! -e "$dir/net/$a" ]
	run ! ip -n a link show eth0
	[ -z "$(ip route show "$a")" ]
	[ "$(count /calico/resources/v3/projectcalico.org/workloadendpoints/)" = 1 ]
	cni DEL a
	CNI_ARGS=${CNI_ARGS%a}b NETNS='' cni DEL b
	[ ! -e "$dir/net/$b" ]
	[ "$(count /calico/resources/v3/projectcalico.org/workloadendpoints/)" = 0 ]
	# What cannot be used goes back.
	code 4 ADD nowhere
	[ -z "$(find "$dir/net" -name "10.*")" ]
}

@test "the result has the routes and the dns that another IPAM plugin says" {
	delegating static '{"addresses":[{"address":"10.99.0.9/24","gateway":"10.99.0.1"}],
		"routes":[{"dst":"10.0.0.0/8"},{"dst":"192.0.2.0/24","gw":"10.99.0.1"}],
		"dns":{"nameservers":["192.0.2.53"],"search":["x.test"]}}'
	export CNI_ARGS=''
	pod a
	cni ADD a >"$BATS_TEST_TMPDIR/result"
	jq -e '.ips == [{interface: 1, address: "10.99.0.9/32"}]
		and .routes == [{dst: "10.0.0.0/8"}, {dst: "192.0.2.0/24", gw: "10.99.0.1"}]
		and .dns == {nameservers: ["192.0.2.53"], search: ["x.test"]}' "$BATS_TEST_TMPDIR/result"
	# In the pod all gateways are the host.
	ip -n a -j route show | jq -e 'map(select(.gateway)) | map([.dst, .gateway])
		== [["10.0.0.0/8", "169.254.1.1"], ["192.0.2.0/24", "169.254.1.1"]]'
	[ "$(cni ADD a)" = "$(cat "$BATS_TEST_TMPDIR/result")" ]
	cni DEL a
	delegating static '{"addresses":[{"address":"10.99.0.9/24"}],"routes":[{"dst":"0.0.0.0/0"}]}' 0.2.0
	cni ADD a >"$BATS_TEST_TMPDIR/result"
	jq -e '.ip4 == {ip: "10.99.0.9/32", routes: [{dst: "0.0.0.0/0"}]} and .dns == {}' "$BATS_TEST_TMPDIR/result"
	cni DEL a
}

@test "an IPAM plugin that is not there, fails, talks too much, or gives what makes no sense" {
	pod a
	delegating nobody
	code 7 ADD a
	[[ $msg == *'"nobody"'*CNI_PATH* ]]
	delegating ../plugins/loud
	code 7 ADD a
	plugin failing <<-'S'
		echo '{"cniVersion":"1.0.0","code":111,"msg":"out of addresses"}'
		exit 1
	S
	delegating failing
	run cni ADD a
	[ "$status" = 1 ]
	[ "$(jq -c '[.code, .msg]' <<<"$output")" = '[111,"out of addresses"]' ]
	[ "$(cat "$BATS_TEST_TMPDIR/failing.log")" = ADD ]
	plugin loud <<-'S'
		exec yes
	S
	delegating loud
	run cni ADD a
	[ "$status" = 1 ]
	[[ $output == *'"code": 11,'*'says more than'* ]]
	[ "$(asked loud)" = "ADD " ]
	# What it has started is ended with it.
	plugin loud <<-'S'
		(sleep 1000; echo) &
		echo $! >"$(dirname "$0")/child"
		exec yes
	S
	code 11 ADD a
	child=$(cat "$BATS_TEST_TMPDIR/plugins/child")
	for ((i = 0; i < 100; i++)); do
		# what nobody waits for is a zombie
		grep -qs 'State:.[DRS]' "/proc/$child/status" || break
		sleep 0.1
	done
	[ $i -lt 100 ]
	plugin empty <<-'S'
		echo '{"cniVersion":"1.0.0","ips":[]}'
	S
	delegating empty
	run cni ADD a
	[ "$status" = 1 ]
	[[ $output == *'"code": 7,'*'gave no address'* ]]
	[ "$(asked empty)" = "ADD DEL " ]
	run ! ip -n a link show eth0
	[ "$(count /calico/resources/v3/projectcalico.org/workloadendpoints/)" = 0 ]
}

@test "an address goes back to another IPAM plugin when nothing here uses it any more, and that may fail" {
	plugin one <<-'S'
		[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion":"1.0.0","ips":[{"address":"10.99.0.7/24"}]}'
		[ "$CNI_COMMAND" != DEL ] || [ ! -e "$(dirname "$0")/sick" ] || {
			echo '{"cniVersion":"1.0.0","code":123,"msg":"I am sick"}'
			exit 1
		}
	S
	delegating one
	pod a
	cni ADD a
	put /calico/resources/v3/projectcalico.org/clusterinformations/default \
		'{"kind":"ClusterInformation","spec":{"datastoreReady":true}}'
	MARGAY_SQLITE_PATH=$DB "$BIN/margayctl" datastore lock
	code 11 DEL a
	[ "$(asked one)" = "ADD " ]
	MARGAY_SQLITE_PATH=$DB "$BIN/margayctl" datastore unlock
	touch "$BATS_TEST_TMPDIR/plugins/sick"
	run cni DEL a
	[ "$status" = 1 ]
	[ "$(jq -c '[.code, .msg]' <<<"$output")" = '[123,"I am sick"]' ]
	run ! ip -n a link show eth0
	[ "$(count /calico/resources/v3/projectcalico.org/workloadendpoints/)" = 0 ]
	rm "$BATS_TEST_TMPDIR/plugins/sick"
	cni DEL a
	[ "$(asked one)" = "ADD DEL DEL " ]
}

@test "an IPAM plugin that leaves a child behind, has its stdout closed, and signals as a runtime gives them" {
	plugin odd <<-'S'
		[ "$CNI_COMMAND" = ADD ] || exit 0
		sleep 1000 &
		echo $! >"$(dirname "$0")/child"
		grep Sig /proc/self/status >"$(dirname "$0")/signals"
		echo '{"cniVersion":"1.0.0","ips":[{"address":"10.99.0.7/24"}]}'
		exec >&-
		sleep 1
	S
	delegating odd
	pod a
	SECONDS=0
	cni ADD a
	[ $SECONDS -lt 30 ] # an IPAM plugin's time
	[ "$(address a)" = 10.99.0.7 ]
	kill "$(cat "$BATS_TEST_TMPDIR/plugins/child")"
	blocked=$(sed -n 's/^SigBlk:.//p' "$BATS_TEST_TMPDIR/plugins/signals")
	ignored=$(sed -n 's/^SigIgn:.//p' "$BATS_TEST_TMPDIR/plugins/signals")
	[ $((0x$blocked)) = 0 ]
	[ $((0x$ignored >> 12 & 1)) = 0 ] # SIGPIPE, 13
	cni DEL a
}

@test "an address of another IPAM plugin goes back after an ADD that failed, unless the endpoint stays" {
	plugin one <<-'S'
		[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion":"1.0.0","ips":[{"address":"10.99.0.7/24"}]}'
	S
	delegating one
	pod a
	ip -n a link add eth0 type veth peer name eth9
	code 102 ADD a
	[ "$(asked one)" = "ADD DEL " ]
	[ "$(count /calico/resources/v3/projectcalico.org/workloadendpoints/)" = 0 ]
	sqlite3 "$DB" "CREATE TRIGGER t BEFORE UPDATE ON kv WHEN new.key LIKE '%/workloadendpoints/%' AND new.value IS NULL
		BEGIN SELECT RAISE(ABORT, 'no'); END"
	code 102 ADD a
	[ "$(asked one)" = "ADD DEL ADD " ]
	[ "$(count /calico/resources/v3/projectcalico.org/workloadendpoints/)" = 1 ]
	sqlite3 "$DB" "DROP TRIGGER t"
	cni DEL a
	[ "$(asked one)" = "ADD DEL ADD DEL " ]
	[ "$(count /calico/resources/v3/projectcalico.org/workloadendpoints/)" = 0 ]
}

@test "a repeated ADD has what another IPAM plugin gave, which is not asked again, and keeps it when it fails" {
	local key=/calico/resources/v3/projectcalico.org/workloadendpoints/ns/node--1-k8s-a-eth0

	plugin one <<-'S'
		[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion":"1.0.0","ips":[{"address":"10.99.0.7/24"}]}'
	S
	delegating one
	pod a
	result=$(cni ADD a)
	[ "$(cni ADD a)" = "$result" ]
	[ "$(asked one)" = "ADD " ]
	sqlite3 "$DB" "CREATE TRIGGER t BEFORE UPDATE ON kv WHEN new.key = '$key' AND new.value IS NOT NULL
		BEGIN SELECT RAISE(ABORT, 'no'); END"
	run ! cni ADD a
	sqlite3 "$DB" "DROP TRIGGER t"
	[ "$(asked one)" = "ADD " ]
	value $key | jq -e '.spec.ipNetworks == ["10.99.0.7/32"]'
	[ "$(cni ADD a)" = "$result" ]
	reaches host 10.99.0.7
	# A runtime need not say again whose it is.
	CNI_ARGS='' NETNS='' cni DEL a
	[ "$(count /calico/resources/v3/projectcalico.org/workloadendpoints/)" = 0 ]
	[ "$(ip -j link show type veth | jq length)" = 0 ]
	[ "$(asked one)" = "ADD DEL " ]
	cni ADD a
	[ "$(asked one)" = "ADD DEL ADD " ]
	cni DEL a
	[ -z "$(ls "$MARGAY_CNI_STATE_DIR/given")" ]
}

@test "GC deletes what has another IPAM plugin's address, of its own network, before that is asked" {
	plugin one <<-S
		ip -j link show up type veth | jq "map(select(.ifname)) | length" >>"$BATS_TEST_TMPDIR/one.log"
		[ "\$CNI_COMMAND" != ADD ] || echo '{"cniVersion":"1.1.0","ips":[{"address":"10.99.0.'\${CNI_CONTAINERID#c-}'/24"}]}'
	S
	delegating one '{}' 1.1.0
	for p in 1 2 3; do
		pod $p
		cni ADD $p
	done
	# of another network, and of no other plugin
	pod 4
	jq '.name = "net2"' "$CONF" >"$BATS_TEST_TMPDIR/net2"
	CONF=$BATS_TEST_TMPDIR/net2 cni ADD 4
	pod own
	conf 1.1.0 >"$BATS_TEST_TMPDIR/own"
	CONF=$BATS_TEST_TMPDIR/own cni ADD own
	ip netns del 3
	rm "$BATS_TEST_TMPDIR/one.log"
	jq '."cni.dev/valid-attachments" = [{containerID: "c-1", ifname: "eth0"}, {containerID: "c-own", ifname: "eth0"}]' \
		"$CONF" >"$BATS_TEST_TMPDIR/gc"
	CONF=$BATS_TEST_TMPDIR/gc cni GC -
	settle
	[ "$(count /calico/resources/v3/projectcalico.org/workloadendpoints/)" = 3 ]
	run ! ip -n 2 link show eth0
	for p in 1 4; do
		reaches host 10.99.0.$p
	done
	reaches host "$(address own)"
	[ "$(grep -c DEL "$BATS_TEST_TMPDIR/one.log")" = 2 ]
	[ "$(tail -n 2 "$BATS_TEST_TMPDIR/one.log" | head -n 1)" = GC ]
	[ "$(tail -n 1 "$BATS_TEST_TMPDIR/one.log")" = 3 ]
	CONF=$BATS_TEST_TMPDIR/gc cni GC -
	[ "$(grep -c DEL "$BATS_TEST_TMPDIR/one.log")" = 2 ]
}

# bats test_tags=served
@test "an address of another IPAM plugin does not go back when a server dies over its ADD: DEL cleans up" {
	plugin one <<-'S'
		[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion":"1.0.0","ips":[{"address":"10.99.0.7/24"}]}'
	S
	delegating one
	pod a
	# Nobody else can write meanwhile.
	mkfifo "$BATS_TEST_TMPDIR/sql"
	sqlite3 "$DB" <"$BATS_TEST_TMPDIR/sql" >"$BATS_TEST_TMPDIR/locked" 3>&- &
	exec 7>"$BATS_TEST_TMPDIR/sql"
	echo 'BEGIN IMMEDIATE; SELECT 1;' >&7
	while [ ! -s "$BATS_TEST_TMPDIR/locked" ]; do
		sleep 0.1
	done
	cni ADD a >"$BATS_TEST_TMPDIR/out" 7>&- &
	add=$!
	while [ ! -s "$BATS_TEST_TMPDIR/one.log" ]; do
		sleep 0.1
	done
	sleep 1
	for pid in $(pgrep -P "$server"); do
		kill -KILL "$pid"
	done
	if wait $add; then
		false
	fi
	jq -e '.code == 11 and (.msg | test("went away"))' "$BATS_TEST_TMPDIR/out"
	exec 7>&-
	[ "$(asked one)" = "ADD " ]
	cni DEL a
	[ "$(asked one)" = "ADD DEL " ]
	[ "$(count /calico/resources/v3/projectcalico.org/workloadendpoints/)" = 0 ]
}

@test "usePodCidr wants Kubernetes, for ADD alone" {
	for ipam in '{"subnet":"usePodCidr"}' '{"ranges":[[{"subnet":"10.99.0.0/24"}],[{"subnet":"usepodcidripv6"}]]}'; do
		delegating host-local "$(jq --arg d "$BATS_TEST_TMPDIR/local" '.dataDir = $d' <<<"$ipam")"
		export CNI_ARGS='IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=a'
		[ -e /run/netns/a ] || pod a
		code 7 ADD a
		[[ $msg == *"usePodCidr: datastore sqlite:$DB is no Kubernetes"* ]]
		[ ! -e "$BATS_TEST_TMPDIR/local" ]
		cni DEL a
		rm -r "$BATS_TEST_TMPDIR/local"
	done
}

@test "STATUS and GC are another IPAM plugin's, too" {
	plugin asked <<-'S'
		[ "$CNI_COMMAND" != STATUS ] || [ ! -e "$(dirname "$0")/sick" ] || {
			echo '{"cniVersion":"1.1.0","code":50,"msg":"I am sick"}'
			exit 1
		}
	S
	delegating asked '{}' 1.1.0
	cni STATUS -
	jq '."cni.dev/valid-attachments" = []' "$CONF" >"$BATS_TEST_TMPDIR/gc"
	CONF=$BATS_TEST_TMPDIR/gc cni GC -
	touch "$BATS_TEST_TMPDIR/plugins/sick"
	run cni STATUS -
	[ "$status" = 1 ]
	[[ $output == *"I am sick"* ]]
	[ "$(asked asked)" = "STATUS GC STATUS " ]
}
