#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The CNI plugins as the reference library runs them, by its cnitool. Run in a network and a mount namespace of
# its own (tests/apart); BIN names the directory of the programs.

bats_require_minimum_version 1.5.0
load ../netns/pods.bash

setup_file() {
	CNITOOL=$("$BATS_TEST_DIRNAME/go-program" cnitool 2>&1) || skip "$CNITOOL"
	export CNITOOL
	ip link set lo up
}

setup() {
	export DB=$BATS_TEST_TMPDIR/db MARGAY_SQLITE_PATH=$BATS_TEST_TMPDIR/db NETCONFPATH=$BATS_TEST_TMPDIR \
		CNI_PATH=$BIN:/usr/lib/cni CNI_IFNAME=eth0
	jq -n --arg db "$DB" '{cniVersion: "1.1.0", name: "net", plugins: [{type: "margay", nodename: "node-1",
		datastore_type: "sqlite", sqlite_path: $db, ipam: {type: "margay-ipam"},
		capabilities: {portMappings: true}}]}' >"$NETCONFPATH/10-net.conflist"
	"$BIN/margayctl" apply -f - >/dev/null <<-Y
		{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: p}, spec: {cidr: 10.244.0.0/24}}
	Y
	ip netns add a
	ip netns add b
}

teardown() {
	pods_remove
}

in_use() {
	sqlite3 "$DB" "SELECT value FROM kv WHERE key LIKE '/calico/ipam/v2/assignment/%' AND value IS NOT NULL" |
		jq -s '[.[].allocations[] | select(. != null)] | length'
}

veths() {
	ip -j link show type veth | jq length
}

@test "status, add, check, del" {
	"$CNITOOL" status net /run/netns/a
	result=$("$CNITOOL" add net /run/netns/a)
	address=$(ip -n a -j -4 address show dev eth0 | jq -r '.[0].addr_info[0].local')
	jq -e --arg a "$address/32" '.cniVersion == "1.1.0" and .ips == [{interface: 1, address: $a}] and
		(.interfaces | length) == 2 and .interfaces[1].sandbox == "/run/netns/a" and .routes == [{dst: $a}]' <<<"$result"
	"$CNITOOL" check net /run/netns/a
	ip route del "$address"
	run -1 "$CNITOOL" check net /run/netns/a
	[[ $output == *"the route to $address/32 is missing"* ]]
	CNI_IFNAME=net1 "$CNITOOL" add net /run/netns/a
	[ "$(in_use)" = 2 ]
	for ifname in eth0 net1 eth0; do
		CNI_IFNAME=$ifname "$CNITOOL" del net /run/netns/a
	done
	[ "$(in_use)" = 0 ]
	[ "$(veths)" = 0 ]
	# the library takes what is said of a failure
	rm "$DB"*
	run -1 "$CNITOOL" add net /run/netns/a
	[[ $output == *"datastore $DB: there is none"* ]]
	run -1 "$CNITOOL" status net /run/netns/a
	[[ $output == *"datastore $DB: there is none"* ]]
}

@test "a namespace that is gone" {
	"$CNITOOL" add net /run/netns/a
	ip netns del a
	"$CNITOOL" del net /run/netns/a
	"$CNITOOL" del net /run/netns/a
	[ "$(in_use)" = 0 ]
	[ "$(veths)" = 0 ]
}

# The tool gives no list of what is valid, which the specification wants: the library deletes what it knows of, one
# by one, and for want of a list nothing else is garbage.
@test "gc" {
	for ns in a b; do
		"$CNITOOL" add net /run/netns/$ns
	done
	rm /var/lib/cni/results/net-cnitool-"$(printf /run/netns/b | sha512sum | cut -c1-20)"-*
	run -1 "$CNITOOL" gc net /run/netns/a
	[ "$output" = 'failed to GC plugin margay: netconf: cni.dev/valid-attachments is missing: without it nothing is garbage' ]
	[ "$(in_use)" = 1 ]
	[ "$(veths)" = 1 ]
	"$CNITOOL" del net /run/netns/b
	[ "$(in_use)" = 0 ]
}
