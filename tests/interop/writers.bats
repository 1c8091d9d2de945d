#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Programs of ours and a client that is not write the same objects, for WRITERS_S seconds: two felix, as where
# one takes over from the other, of a node that has another address every second, two loops of the IPAM plugin,
# two of margayctl, and etcdctl or curl. What
# each has written is there in the end: the client and margayctl count in the objects themselves, the
# plugins' addresses are those that the block has.

bats_require_minimum_version 1.5.0
load servers.bash

setup_file() {
	ip link set lo up
	ip address add 192.0.2.1/24 dev lo
	ip link add eth0 type veth peer name wire
	ip link set eth0 up
	ip link set wire up
}

setup() {
	cd "$BATS_TEST_TMPDIR" || exit
	export SERVERS=$PWD S=${WRITERS_S:-10}
	node_env
	export IP=autodetect IP_AUTODETECTION_METHOD=interface=eth0
	ip address add 198.51.100.1/24 dev eth0
	etcd_start
}

teardown() {
	local pid

	stop felix felix-2
	for pid in api.pid etcd.pid; do
		[ ! -f $pid ] || end "$(cat $pid)" -KILL
	done
	ip address flush dev eth0
	ip route flush proto 80
	nft flush ruleset
}

# ---- the objects, as the client sees them ----

BLOCK=10.244.0.0-24 POOL=pool-1

path_of() { # block|node|pool
	case $DATASTORE_TYPE:$1 in
	etcdv3:block) echo "$IPAM/assignment/ipv4/block/$BLOCK" ;;
	etcdv3:node) echo "$V3/nodes/node-1" ;;
	etcdv3:pool) echo "$V3/ippools/$POOL" ;;
	*:block) echo /apis/crd.projectcalico.org/v1/ipamblocks/${BLOCK//./-} ;;
	*:node) echo /api/v1/nodes/node-1 ;;
	*:pool) echo /apis/crd.projectcalico.org/v1/ippools/$POOL ;;
	esac
}

# The object as one line of JSON, its revision in $rev.
fetch() { # PATH
	if [ "$DATASTORE_TYPE" = etcdv3 ]; then
		object=$(etcdctl get "$1" -w json)
		rev=$(jq -r '.kvs[0].mod_revision' <<<"$object")
		object=$(jq -r '.kvs[0].value' <<<"$object" | base64 -d)
	else
		object=$(api -f "$1")
		rev=$(jq -r .metadata.resourceVersion <<<"$object")
	fi
}

# One more, in a field that Margay does not know, where nobody has written the object meanwhile. As text: jq
# has no numbers of 64 bits.
count_up() { # block|node|pool PATH
	local n

	n=$(($(count_of "$1") + 1))
	if [ "$DATASTORE_TYPE" != etcdv3 ]; then
		merge "$2" '{"metadata":{"resourceVersion":"'"$rev"'","annotations":{"example.org/count":"'$n'"}}}' 2>/dev/null
		return
	fi
	object=$(sed -E 's/"x_count":"[0-9]*",?//; s/,\}/}/; s/^\{/{"x_count":"'$n'",/' <<<"$object")
	printf 'mod("%s") = "%s"\n\nput %s %s\n\n\n' "$2" "$rev" "$2" "$(jq -R . <<<"$object")" |
		etcdctl txn 2>>txn.log | grep -q SUCCESS
}

count_of() { # block|node|pool
	if [ "$DATASTORE_TYPE" = etcdv3 ]; then
		jq -r '.x_count // "0"' <<<"$object"
	else
		jq -r '.metadata.annotations["example.org/count"] // "0"' <<<"$object"
	fi
}

# ---- the writers: each says how often it wrote, and how often it was overtaken ----

# Who has not written yet has some time more.
over() { # WRITES
	[ $SECONDS -ge $((end + ($1 > 0 ? 0 : 60))) ]
}

client() { # block|node|pool
	local path n=0 lost=0

	path=$(path_of "$1")
	until over $n; do
		fetch "$path"
		if count_up "$1" "$path"; then
			n=$((n + 1))
		else
			lost=$((lost + 1))
		fi
	done
	echo "$n $lost" >"client-$1"
}

# margayctl's own way of it: get, edit, replace with the resourceVersion that was got.
editor() { # NAME
	local n=0 lost=0

	until over $n; do
		sleep 0.$((RANDOM % 10))
		if "$BIN/margayctl" get ippool $POOL -o json |
			jq '.metadata.annotations.n |= ((. // "0" | tonumber) + 1 | tostring)' |
			"$BIN/margayctl" replace -f - >/dev/null 2>"editor-$1.err"; then
			n=$((n + 1))
		else
			grep -qE 'changed meanwhile|somebody else has changed it' "editor-$1.err" || {
				cat "editor-$1.err"
				return
			}
			lost=$((lost + 1))
		fi
	done
	echo "$n $lost" >"editor-$1"
}

ipam() { # VERB CONTAINER
	CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=/proc/self/ns/net CNI_IFNAME=eth0 CNI_PATH=/nowhere \
		"$BIN/margay-ipam" <netconf
}

# Takes two, gives one back.
plugin() { # NAME
	local n=0

	until over $n; do
		n=$((n + 1))
		ipam ADD "$1-$n" | jq -r '.ips[0].address' >"held-$1-$n" || return
		if [ $((n % 2)) = 0 ]; then
			ipam DEL "$1-$n" || return
			rm "held-$1-$n"
		fi
		[ -s "held-$1-$n" ] || [ $((n % 2)) = 0 ] || return
		sleep 1.$((RANDOM % 10)) # the client is slow, and would never come to write
		# the block has room for so many
		if [ $n -ge 60 ]; then
			ipam DEL "$1-$((n - 60 + 1))" || return
			rm -f "held-$1-$((n - 60 + 1))"
		fi
	done
	echo "$n 0" >"plugin-$1"
}

mover() {
	local n=0

	until over $n; do
		n=$((n % 200 + 1))
		ip address add "198.51.100.$((n + 1))/24" dev eth0
		ip address del "198.51.100.$n/24" dev eth0 2>/dev/null || true
		ip address flush dev eth0 to 198.51.100.0/24 2>/dev/null
		ip address add "198.51.100.$((n + 1))/24" dev eth0
		echo "198.51.100.$((n + 1))/24" >address
		sleep 1
	done
}

count_is() { # block|node|pool
	fetch "$(path_of "$1")"
	[ "$(count_of "$1")" = "$(cut -d ' ' -f 1 "client-$1")" ] || {
		echo "$1: $(cat "client-$1"): $object"
		false
	}
}

addresses_are_held() {
	fetch "$(path_of block)"
	[ "$DATASTORE_TYPE" = etcdv3 ] || object=$(jq .spec <<<"$object")
	jq -r '.allocations | to_entries[] | select(.value != null) | "10.244.0.\(.key)/32"' <<<"$object" | sort >in-block
	cat held-* | sort | diff - in-block
}

node_is() { # ADDRESS
	[ "$("$BIN/margayctl" get node node-1 -o json | jq -r .spec.bgp.ipv4Address)" = "$1" ]
}

no_update_is_lost() {
	local w end

	"$BIN/margayctl" apply -f - <<-Y
		{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: $POOL}, spec: {cidr: 10.244.0.0/24, blockSize: 24}}
	Y
	start felix
	start felix-2
	within 20 says felix 'ok  node'
	within 20 says felix-2 'ok  node'
	ipam ADD first | jq -r '.ips[0].address' >held-first
	end=$((SECONDS + S))
	for w in 'client block' 'client node' 'client pool' 'editor a' 'editor b' 'plugin a' 'plugin b' mover; do
		# shellcheck disable=SC2086
		$w 3>&- 4>&- &
	done
	# shellcheck disable=SC2046 # words
	wait $(jobs -p | grep -vxF "$(cat ./*.pid)")
	for w in client-block client-node client-pool editor-a editor-b plugin-a plugin-b; do
		read -r n lost <$w
		echo "# $w: $n writes, overtaken $lost times" >&3
		[ "$n" -gt 0 ]
	done
	for w in block node pool; do
		count_is $w
	done
	n=$("$BIN/margayctl" get ippool $POOL -o json | jq -r .metadata.annotations.n)
	[ "$n" = $(($(cut -d ' ' -f 1 editor-a) + $(cut -d ' ' -f 1 editor-b))) ]
	addresses_are_held
	within 20 node_is "$(cat address)"
	within 20 says felix 'ok  node'
	within 20 says felix-2 'ok  node'
}

@test "etcd: no update is lost" {
	export DATASTORE_TYPE=etcdv3 ETCD_ENDPOINTS=http://127.0.0.1:2379
	jq -n '{cniVersion: "1.0.0", name: "net", type: "margay", nodename: "node-1", datastore_type: "etcdv3",
		etcd_endpoints: "http://127.0.0.1:2379", ipam: {type: "margay-ipam"}}' >netconf
	no_update_is_lost
}

@test "Kubernetes: no update is lost" {
	APISERVER=$("$BATS_TEST_DIRNAME/kube-apiserver" 2>&1) || skip "$APISERVER"
	export DATASTORE_TYPE=kubernetes KUBECONFIG=$PWD/kubeconfig
	api_prepare
	api_start --disable-admission-plugins=ServiceAccount
	crds_make
	node_make
	kubeconfig https://127.0.0.1:6443 "$PWD/pki/apiserver.crt" '{token: secret-of-admin}'
	jq -n --arg k "$KUBECONFIG" '{cniVersion: "1.0.0", name: "net", type: "margay", nodename: "node-1",
		datastore_type: "kubernetes", kubernetes: {kubeconfig: $k}, ipam: {type: "margay-ipam"}}' >netconf
	no_update_is_lost
}
