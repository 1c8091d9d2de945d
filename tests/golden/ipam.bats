#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# margayctl ipam over a datastore file of its own, whose records the test writes as Calico has them: what it
# prints is calicoctl's, and what it changes is read with sqlite3.

bats_require_minimum_version 1.5.0

# A pool; and the same with records of addresses.
setup_file() {
	cd "$BATS_FILE_TMPDIR" || exit
	mkdir plain
	export MARGAY_SQLITE_PATH=$PWD/plain/margay.db MARGAY_LOG_LEVEL=error
	ctl apply -f - <<-'Y'
		apiVersion: projectcalico.org/v3
		kind: IPPool
		metadata: {name: a, labels: {zone: x}}
		spec: {cidr: 10.1.0.0/16, blockSize: 29, natOutgoing: true, nodeSelector: has(rack)}
	Y
	cp -r plain records
	MARGAY_SQLITE_PATH=$PWD/records/margay.db
	make_records
}

setup() {
	export MARGAY_SQLITE_PATH=$BATS_TEST_TMPDIR/margay.db MARGAY_LOG_LEVEL=error
	cd "$BATS_TEST_TMPDIR" || exit
	cp "$BATS_FILE_TMPDIR"/plain/* .
}

# From now on the datastore has them.
records() {
	rm -f margay.db*
	cp "$BATS_FILE_TMPDIR"/records/* "$BATS_FILE_TMPDIR/block" .
}

ctl() {
	"$BIN/margayctl" "$@"
}

readonly IPAM=/calico/ipam/v2 V3=/calico/resources/v3/projectcalico.org
readonly BLOCK=$IPAM/assignment/ipv4/block/10.1.0.0-29

# What is stored under the key.
stored() {
	python3 - "$MARGAY_SQLITE_PATH" "$1" <<-'P'
		import sqlite3, sys
		for (v,) in sqlite3.connect(sys.argv[1]).execute("select value from kv where key = ?", (sys.argv[2],)):
		    if v is not None: # a deletion
		        print(v.decode() if isinstance(v, bytes) else v)
	P
}

# put KEY VALUE: by another's hand; no value: it is deleted
put() {
	python3 - "$MARGAY_SQLITE_PATH" "$@" <<-'P'
		import sqlite3, sys
		db = sqlite3.connect(sys.argv[1], timeout=10)
		db.execute("pragma synchronous = off")
		db.execute("insert or replace into kv select max(rev) + 1, ?, max(rev) + 1, ? from kv",
		           (sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None))
		db.commit()
	P
}

newest() {
	python3 -c 'import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute("select max(rev) from kv"))' \
		"$MARGAY_SQLITE_PATH"
}

resource() { # KIND PLURAL NAME SPEC [NAMESPACE]
	put "$V3/$2/${5:+$5/}$3" "$(jq -nc --arg k "$1" --arg n "$3" --argjson s "$4" --arg ns "$5" '{kind: $k,
		apiVersion: "projectcalico.org/v3", metadata: ({name: $n} + if $ns == "" then {} else {namespace: $ns} end),
		spec: $s}')"
}

attr() { # HANDLE NODE [POD]
	jq -nc --arg h "$1" --arg n "$2" --arg p "$3" '{handle_id: $h, secondary: ({node: $n} + if $p == "" then
		{type: "reserve"} else {namespace: "default", pod: $p, timestamp: "2026-08-01 12:00:05 +0000 UTC"} end)}'
}

# A node with a pod (.0), what a pod that is gone has left (.1), reserves of this node and of one that is gone
# (.2, .3), a virtual machine's (.4) and one in cool-down (.5); handles that count as they should.
make_records() {
	jq -nc --argjson a "$(attr net.c1 n1 web-0)" --argjson b "$(attr net.c2 n1 gone)" \
		--argjson c "$(attr margay-reserve-n1 n1)" --argjson d "$(attr margay-reserve-n9 n9)" \
		'{cidr: "10.1.0.0/29", affinity: "host:n1", allocations: [0, 1, 2, 3, 4, 5, null, null],
		unallocated: [6, 7], attributes: [$a, $b, $c, $d, {handle_id: "net.vmi.default.vm1",
			secondary: {node: "n2", namespace: "default", "vmi-name": "vm1", pod: "launcher"},
			alternateOwnerAttrs: {node: "n3", namespace: "default"}},
			{releasedAt: "2026-08-01T12:00:00Z"}], sequenceNumber: 10,
		sequenceNumberForAllocation: {"0": 1, "1": 2, "2": 3, "3": 4, "4": 5}, deleted: false}' >block
	put $BLOCK "$(cat block)"
	put $IPAM/host/n1/ipv4/block/10.1.0.0-29 '{"state":"confirmed","deleted":false}'
	for h in net.c1 net.c2 margay-reserve-n1 margay-reserve-n9 net.vmi.default.vm1; do
		put $IPAM/handle/$h '{"block":{"10.1.0.0/29":1},"deleted":false}'
	done
	resource Node nodes n1 '{}'
	resource WorkloadEndpoint workloadendpoints n1-k8s-web--0-eth0 '{"orchestrator":"k8s","node":"n1","pod":"web-0",
		"containerID":"c1","endpoint":"eth0","ipNetworks":["10.1.0.0/32"]}' default
	put $IPAM/config '{"auto_allocate_blocks":true,"ipCooldownSeconds":1200}'
	resource ClusterInformation clusterinformations default \
		'{"clusterGUID":"d5c2","clusterType":"k8s,bgp","datastoreReady":true}'
}

has() {
	[[ $output == *"$1"* ]] || { echo "want: $1"; echo "got: $output"; false; }
}

lacks() {
	[[ $output != *"$1"* ]] || { echo "not wanted: $1"; echo "got: $output"; false; }
}

# same TEXT: the output of the last run
same() {
	diff <(echo "$1") <(echo "$output")
}

@test "show --ip: owners, the alternate one too" {
	records
	run -0 ctl ipam show --ip 10.1.0.4
	same 'IP 10.1.0.4 is in use
Handle ID: net.vmi.default.vm1
Active Owner Attributes:
  namespace: default
  node: n2
  pod: launcher
  vmi-name: vm1
Alternate Owner Attributes:
  namespace: default
  node: n3'
	run -0 ctl ipam show --ip=10.1.0.5
	same 'IP 10.1.0.5 is in use
Handle ID: <none>
No Active Owner attributes defined'
	run -0 ctl ipam show --ip=10.1.0.6
	same '10.1.0.6 is not assigned'
}

@test "show --show-borrowed and --show-configuration" {
	records
	run -0 ctl ipam show --show-borrowed
	same '+----------+----------------+-------------+-------------+---------+--------------+
| IP       | BORROWING-NODE | BLOCK       | BLOCK OWNER | TYPE    | ALLOCATED-TO |
+----------+----------------+-------------+-------------+---------+--------------+
| 10.1.0.3 | n9             | 10.1.0.0/29 | n1          | reserve |              |
| 10.1.0.4 | n2             | 10.1.0.0/29 | n1          | vmi     | default/vm1  |
+----------+----------------+-------------+-------------+---------+--------------+'
	# A block of nobody's, and an address that does not say whose it is.
	put $BLOCK "$(jq -c '.affinity = null | del(.attributes[1].secondary)' block)"
	run -0 ctl ipam show --show-borrowed
	has '| 10.1.0.0 | n1             | 10.1.0.0/29 |             | pod     | default/web-0 |'
	has '
Note: found 1 IP allocations without an explicit node association. Unable to determine if they are borrowed.'
	run -0 ctl ipam show --show-configuration
	same '+------------------------------+---------+
| PROPERTY                     | VALUE   |
+------------------------------+---------+
| StrictAffinity               | false   |
| AutoAllocateBlocks           | true    |
| MaxBlocksPerHost             | 0       |
| KubeVirtVMAddressPersistence | Enabled |
| IPCooldownSeconds            | 1200    |
+------------------------------+---------+'
	put $IPAM/config
	run -0 ctl ipam show --show-configuration
	has '| AutoAllocateBlocks           | true    |'
	run -1 ctl ipam show --show-borrowed --show-blocks
	has "want one of its options, or none"
}

@test "show -o json" {
	records
	resource IPPool ippools b '{"cidr":"fd00::/48"}'
	resource IPReservation ipreservations r '{"reservedCIDRs":["10.1.0.6/31"]}'
	run -0 ctl ipam show -o json
	[ "$(jq -c '.[0]' <<<"$output")" = '{"grouping":"IP Pool","cidr":"10.1.0.0/16","total":65536,"inUse":6,"reserved":2,"free":65528}' ]
	[ "$(jq -c '.[1] | [.cidr, .total == .free, .total > 1.2e24]' <<<"$output")" = '["fd00::/48",true,true]' ]
	run -0 ctl ipam show --show-blocks --output=json
	[ "$(jq -c '.[1]' <<<"$output")" = '{"grouping":"Block","cidr":"10.1.0.0/29","total":8,"inUse":6,"reserved":2,"free":0}' ]
	run -1 ctl ipam show --ip 10.1.0.0 -o json
	has '--output "json": want json, of pools and blocks'
	run -1 ctl ipam show -o yaml
}

@test "configure says what was set, and refuses what makes no sense" {
	run -0 ctl ipam configure --strictaffinity=true --max-blocks-per-host=4 --kubevirt-ip-persistence=Disabled \
		--ip-cooldown-seconds=30
	same 'Successfully set StrictAffinity to: true
Successfully set MaxBlocksPerHost to: 4
Successfully set KubeVirtVMAddressPersistence to: Disabled
Successfully set IPCooldownSeconds to: 30'
	[ "$(stored $IPAM/config)" = '{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":4,"kubeVirtVMAddressPersistence":"Disabled","ipCooldownSeconds":30}' ]
	# One option leaves the others as they are.
	run -1 ctl ipam configure --strictaffinity=false
	has "MaxBlocksPerHost is 4, and StrictAffinity would be false"
	run -0 ctl ipam configure --auto-allocate-blocks=false
	same 'Successfully set AutoAllocateBlocks to: false'
	run -1 ctl ipam configure --strictaffinity=false --max-blocks-per-host=0
	has "StrictAffinity and AutoAllocateBlocks would both be false"
	[ "$(stored $IPAM/config)" = '{"strict_affinity":true,"maxBlocksPerHost":4,"kubeVirtVMAddressPersistence":"Disabled","ipCooldownSeconds":30}' ]
	run -1 ctl ipam configure --ip-cooldown-seconds=1201
	has '--ip-cooldown-seconds: "1201": want a number from 0 to 1200'
	run -1 ctl ipam configure --kubevirt-ip-persistence=maybe
	has '--kubevirt-ip-persistence: "maybe": want Enabled or Disabled'
	run -1 ctl ipam configure --strictaffinity=maybe
	run -1 ctl ipam configure
	has "want one of its options at least"
	# The resource is another object, as in Calico.
	[ -z "$(stored $V3/ipamconfigurations/default)" ]
	put $IPAM/config '{"strict'
	run -1 ctl ipam configure --strictaffinity=true
	has "ipam configure: IPAM configuration: line 1"
}

@test "release --ip" {
	records
	put $IPAM/config
	run -0 ctl ipam release --ip=10.1.0.1
	same 'Successfully released IP address 10.1.0.1'
	[ "$(stored $BLOCK | jq -c '[.allocations[1], .sequenceNumber]')" = '[null,11]' ]
	[ -z "$(stored $IPAM/handle/net.c2)" ]
	run -1 ctl ipam release --ip=10.1.0.1
	same 'margayctl: IP address 10.1.0.1 is not assigned'
	run -1 ctl ipam release --ip=10.1.0
	has 'ipam release: --ip: "10.1.0"'
	ctl datastore lock
	run -1 ctl ipam release --ip=10.1.0.0
	has "is locked"
	[ -n "$(stored $IPAM/handle/net.c1)" ]
}

@test "check prints what calicoctl prints" {
	records
	put $IPAM/handle/net.empty '{"block":{"10.1.0.0/29":1},"deleted":false}'
	put $IPAM/handle/net.vmi.default.vm1
	resource Node nodes n2 '{"bgp":{"ipv4IPIPTunnelAddr":"10.1.0.7"}}'
	resource WorkloadEndpoint workloadendpoints n1-cni-x-eth0 '{"node":"n1","ipNetworks":["192.0.2.9/32"]}' default
	run -2 --separate-stderr ctl ipam check
	output=$(sed '/^Check complete/q' <<<"$output")
	same 'Checking IPAM for inconsistencies...

Loading all IPAM blocks...
Found 1 IPAM blocks.
 IPAM block 10.1.0.0/29 affinity=host:n1:
IPAM blocks record 6 allocations.

Loading all IPAM pools...
  10.1.0.0/16
Found 1 active IP pools.

Loading all nodes.
Found 1 node tunnel IPs.

Loading all service load balancer IPs.
No configuration for LoadBalancer kubecontroller found, skipping service check

Loading all workload endpoints.
Found 2 workload IPs.
Workloads and nodes are using 3 IPs.

Loading all handles
Looking for top (up to 20) nodes by allocations...
  n1 has 4 allocations
  n2 has 1 allocations
  n9 has 1 allocations
Node with most allocations has 4; median is 1

Scanning for IPs that are allocated but not actually in use...
Found 2 IPs that are allocated in IPAM but not actually in use.
Scanning for IPs that are in use by a workload or node but not allocated in IPAM...
Found 1 in-use IPs that are not in active IP pools.
Found 1 in-use IPs that are in active IP pools but have no corresponding IPAM allocation.

Scanning for IPAM handles with no matching IPs...
Found 1 handles with no matching IPs (and 4 handles with matches).
Scanning for IPs with missing handle...
Found 1 handles mentioned in blocks with no matching handle resource.
Validating IPAMBlock structures...
Found 0 invalid IPAMBlocks.
Check complete; found 5 problems.'
	run -2 --separate-stderr ctl ipam check --show-problem-ips
	has '
  10.1.0.1 leaked; attrs Main:net.c2 Extra:namespace=default,node=n1,pod=gone,timestamp=2026-08-01 12:00:05 +0000 UTC
  10.1.0.3 leaked; attrs Main:margay-reserve-n9 Extra:node=n9,type=reserve
Found 2 IPs'
	has '  10.1.0.7 in use by Node(n2) and in active IPAM pool but has no IPAM allocation.'
	has '  192.0.2.9 in use by Workload(default/n1-cni-x-eth0) is not in any active IP pool.'
	has "  net.vmi.default.vm1 is in use in a block but doesn't exist."
	lacks "net.empty doesn't"
	lacks "10.1.0.0 allocated"
	run -2 --separate-stderr ctl ipam check --show-all-ips
	has ' IPAM block 10.1.0.0/29 affinity=host:n1:
  10.1.0.0 allocated; attrs Main:net.c1 Extra:namespace=default,node=n1,pod=web-0,timestamp=2026-08-01 12:00:05 +0000 UTC
'
	has '  10.1.0.5 allocated; attrs Main:<none> Extra:'
	has '  10.1.0.7 belongs to Node(n2)'
	has '  10.1.0.0 belongs to Workload(default/n1-k8s-web--0-eth0)'
	has "  net.empty doesn't have any active IPs."
	# And what that means.
	has '
Addresses that nobody uses: 2
  10.1.0.1 was given to pod default/gone, and no endpoint has it
  10.1.0.3 is held as reserve of node n9, which does not exist
'
	has "What to do: margayctl ipam check --repair frees them."
	has '
Addresses in use that no block gives away: 1
  the tunnel of node n2 has 10.1.0.7, and no block gives it away
'
}

@test "check of what agrees" {
	run -0 --separate-stderr ctl ipam check
	has "Check complete; found 0 problems."
	[ -z "$stderr" ]
	# Locked, too, and it writes nothing.
	records
	ctl datastore lock
	before=$(newest)
	run -2 ctl ipam check
	[ "$(newest)" = "$before" ]
	run -1 ctl ipam check --repair --quarantine 0
	has "is locked"
	MARGAY_SQLITE_PATH=/nowhere.db run -1 ctl ipam check
}

@test "check --repair mends, and only what it says" {
	records
	put $IPAM/config
	put $IPAM/handle/net.empty '{"block":{"10.1.0.0/29":1},"deleted":false}'
	put $IPAM/handle/net.c1 '{"block":{"10.1.0.0/29":3,"10.9.0.0/26":1},"deleted":false}'
	put $IPAM/handle/net.vmi.default.vm1
	put $IPAM/host/n2/ipv4/block/10.1.0.0-29 '{"state":"confirmed","deleted":false}'
	put $IPAM/host/n2/ipv4/block/10.1.0.8-29 '{"state":"pending","deleted":false}'
	resource Node nodes n2 '{"bgp":{"ipv4IPIPTunnelAddr":"10.1.0.7"}}'
	run -2 --separate-stderr ctl ipam check
	lacks 10.1.0.8 # somebody may be about it
	run -2 ctl ipam check --repair --quarantine 1
	has "margayctl: 9 problems, as it seems: what is still so in 1 s will be repaired"
	has '
  released 10.1.0.1 (handle net.c2)
  released 10.1.0.3 (handle margay-reserve-n9)
'
	has "deleted handle net.empty"
	has "counted handle net.vmi.default.vm1 anew"
	has "deleted the affinity of node n2 for block 10.1.0.0/29"
	has "deleted the affinity of node n2 for block 10.1.0.8/29"
	has "left: the tunnel of node n2 has 10.1.0.7, and no block gives it away"
	[ "$(stored $BLOCK | jq -c '[.allocations[] | . == null]')" = '[false,true,false,true,false,true,true,true]' ]
	[ "$(stored $IPAM/handle/net.c1)" = '{"block":{"10.1.0.0/29":1},"deleted":false}' ]
	[ "$(stored $IPAM/handle/net.vmi.default.vm1)" = '{"block":{"10.1.0.0/29":1},"deleted":false}' ]
	for gone in handle/net.empty handle/net.c2 handle/margay-reserve-n9 host/n2/ipv4/block/10.1.0.0-29 \
		host/n2/ipv4/block/10.1.0.8-29; do
		[ -z "$(stored $IPAM/$gone)" ]
	done
	[ -n "$(stored $IPAM/host/n1/ipv4/block/10.1.0.0-29)" ]
	# Once more: one that is not for a program is left.
	run -2 ctl ipam check --repair --quarantine 0
	has "Repaired 0 of 1 problems."
	resource Node nodes n2 '{}'
	run -0 --separate-stderr ctl ipam check --repair --quarantine 0
	has "found 0 problems"
}

@test "what a deleted node held goes, and a virtual machine's address stays" {
	records
	put $IPAM/config
	resource Node nodes n2 '{}'
	ctl delete node n2
	ctl delete node n1
	[ "$(stored $BLOCK | jq -c '[.affinity, (.allocations[] | . == null)]')" = '[null,true,true,true,false,false,true,true,true]' ]
	[ "$(stored $BLOCK | jq -c '[.attributes[].handle_id]')" = '["margay-reserve-n9","net.vmi.default.vm1"]' ]
	for gone in net.c1 net.c2 margay-reserve-n1; do
		[ -z "$(stored $IPAM/handle/$gone)" ]
	done
	[ -z "$(stored $V3/workloadendpoints/default/n1-k8s-web--0-eth0)" ]
}

@test "check --repair leaves what is another's by the second look" {
	records
	put $IPAM/config
	ctl ipam check --repair --quarantine 3 >out 2>said 3>&- &
	repair=$!
	until [ -s said ]; do sleep 0.05; done
	# The pod is back, and its node; and the address is given anew, to the same handle.
	resource Node nodes n9 '{}'
	put $BLOCK "$(jq -c '.sequenceNumber = 11 | .sequenceNumberForAllocation["1"] = 10' block)"
	wait $repair
	grep -q "found 0 problems" out
	[ "$(stored $BLOCK | jq -c '.allocations[0:5]')" = '[0,1,2,3,4]' ]
	run -0 ctl ipam check --repair --quarantine 0
	has "released 10.1.0.1 (handle net.c2)"
}

@test "who uses what was given to another is told, and neither is freed" {
	records
	put $IPAM/config
	put $BLOCK "$(jq -c '.attributes[1].secondary.pod = "db"' block)"
	# An endpoint with an address of its node's reserve, and its own with nobody.
	resource WorkloadEndpoint workloadendpoints n1-k8s-web--0-eth0 '{"orchestrator":"k8s","node":"n1","pod":"web-0",
		"containerID":"c1","endpoint":"eth0","ipNetworks":["10.1.0.2/32"]}' default
	resource WorkloadEndpoint workloadendpoints n1-k8s-db-eth0 '{"orchestrator":"k8s","node":"n1","pod":"db",
		"containerID":"c2","endpoint":"eth0","ipNetworks":["10.1.0.1/32"]}' default
	resource Node nodes n9 '{}'
	run -2 ctl ipam check --show-problem-ips
	has "
  10.1.0.2 has multiple owners.
Found 0 in-use IPs"
	has "
Addresses in use that were given to another: 1
  10.1.0.2 is used by endpoint default/n1-k8s-web--0-eth0, and was given to handle margay-reserve-n1
"
	has "
Addresses that nobody seems to use: 1
  10.1.0.0 was given to pod default/web-0, and no endpoint has it (endpoint default/n1-k8s-web--0-eth0 has 10.1.0.2 instead, which is another's)
"
	has "Check complete; found 2 problems."
	run -2 ctl ipam check --repair --quarantine 0
	has "left: 10.1.0.2 is used by"
	has "Repaired 0 of 2 problems."
	# Two with each other's.
	resource WorkloadEndpoint workloadendpoints n1-k8s-web--0-eth0 '{"orchestrator":"k8s","node":"n1","pod":"web-0",
		"containerID":"c1","endpoint":"eth0","ipNetworks":["10.1.0.1/32"]}' default
	resource WorkloadEndpoint workloadendpoints n1-k8s-db-eth0 '{"orchestrator":"k8s","node":"n1","pod":"db",
		"containerID":"c2","endpoint":"eth0","ipNetworks":["10.1.0.0/32"]}' default
	run -2 ctl ipam check --repair --quarantine 0
	has "
Addresses in use that were given to another: 2
  10.1.0.0 is used by endpoint default/n1-k8s-db-eth0, and was given to handle net.c1
  10.1.0.1 is used by endpoint default/n1-k8s-web--0-eth0, and was given to handle net.c2
"
	has "Repaired 0 of 2 problems."
	[ "$(stored $BLOCK | jq -c '.allocations[0:5]')" = '[0,1,2,3,4]' ]
}

@test "what may be in use unseen is freed by --force alone" {
	records
	put $IPAM/config
	put $V3/workloadendpoints/default/n1-k8s-web--0-eth0
	run -2 ctl ipam check --repair --quarantine 0
	has "Addresses that nobody seems to use: 2
  10.1.0.0 was given to pod default/web-0, and no endpoint has it (no endpoints of its network on node n1 are from before and from after it: another plugin may use it)"
	has "left: 10.1.0.0 was given"
	has "Repaired 1 of 3 problems."
	[ "$(stored $BLOCK | jq -c '.allocations | length - (map(select(. == null)) | length)')" = 4 ]
	run -0 ctl ipam check --repair --quarantine 0 --force
	has "released 10.1.0.0 (handle net.c1)"
	# What margay-ipam gave alone, beside pods with endpoints.
	records
	put $IPAM/config
	put $BLOCK "$(jq -c '.attributes[1].secondary.type = "margayIpam"' block)"
	run -2 ctl ipam check --repair --quarantine 0
	has "left: 10.1.0.1 was given to pod default/gone, and no endpoint has it (margay-ipam gave it to another plugin on node n1)"
	[ "$(stored $BLOCK | jq '.allocations[1]')" = 1 ]
	run -0 ctl ipam check --repair --quarantine 0 --force
	has "released 10.1.0.1 (handle net.c2)"
	# An endpoint that cannot be read may have it.
	records
	put $IPAM/config
	put $V3/workloadendpoints/default/n1-k8s-gone-eth0 '{"spec":{"ipNetworks":7}}'
	run -2 ctl ipam check --repair --quarantine 0
	has "left: 10.1.0.1 was given to pod default/gone, and no endpoint has it (1 endpoints cannot be read)"
	has "
Objects that cannot be read: 1"
	put $V3/workloadendpoints/default/n1-k8s-gone-eth0
	# What the pod got later than what it is known to have: it is about to be told.
	records
	put $IPAM/config
	put $BLOCK "$(jq -c '.attributes[1].secondary.pod = "web-0" |
		.attributes[1].secondary.timestamp = "2026-08-01 12:00:06 +0000 UTC"' block)"
	run -2 ctl ipam check --repair --quarantine 0
	has "left: 10.1.0.1 was given to pod default/web-0, and no endpoint has it (that was not before the one which the pod has on node n1)"
	put $BLOCK "$(jq -c '.attributes[1].secondary.pod = "web-0" |
		.attributes[1].secondary.timestamp = "2026-08-01 12:00:04 +0000 UTC"' block)"
	run -0 ctl ipam check --repair --quarantine 0
	has "released 10.1.0.1 (handle net.c2)"
}

@test "the report, and release by it" {
	records
	put $IPAM/config
	put $IPAM/handle/net.empty '{"block":{"10.1.0.0/29":1},"deleted":false}'
	run -2 ctl ipam check -o early.json
	ctl datastore lock
	run -2 ctl ipam check --output=report.json
	[ "$(jq -c 'del(.allocations)' report.json)" = "$(jq -nc --arg v "$(ctl version | sed -n 's/Client Version: *//p')" \
		--arg r "$(ctl get clusterinformation -o json | jq -r .metadata.resourceVersion)" \
		--arg h "$(jq -r '.leakedHandles[0].Revision' early.json)" '{version: $v, clusterGUID: "d5c2",
		datastoreLocked: true, clusterInformationRevision: $r, clusterType: "k8s,bgp",
		leakedHandles: [{ID: "net.empty", UID: null, Revision: $h}]}')" ]
	[ "$(jq -c '[.allocations[][] | select(.inUse | not) | .ip]' report.json)" = '["10.1.0.1","10.1.0.3","10.1.0.5"]' ]
	[ "$(jq -c '.allocations["10.1.0.3"]' report.json)" = '[{"ip":"10.1.0.3","handle":"margay-reserve-n9","sequenceNumber":4,"node":"n9","type":"reserve","inUse":false,"borrowed":true,"owners":null}]' ]
	[ "$(jq -c '.allocations["10.1.0.5"][0] | [.coolingDown, .inUse]' report.json)" = '[true,false]' ]
	[ "$(jq -c '[.allocations["10.1.0.2", "10.1.0.4"][0].owners]' report.json)" = '[["Reserve(n1)"],["VirtualMachine(default/vm1)"]]' ]
	[ "$(jq -c '.allocations["10.1.0.0"]' report.json)" = '[{"ip":"10.1.0.0","handle":"net.c1","sequenceNumber":1,"pod":"web-0","namespace":"default","node":"n1","creationTimestamp":"2026-08-01 12:00:05 +0000 UTC","inUse":true,"owners":["Workload(default/n1-k8s-web--0-eth0)"]}]' ]
	# Of another cluster, another version, another time; unlocked.
	jq '.clusterGUID = "x"' report.json >other.json
	run -1 ctl ipam release --from-report other.json --force
	has 'clusterGUID: got "x", want "d5c2"'
	jq '.version = "v3.30.0"' report.json >other.json
	run -1 ctl ipam release --from-report other.json
	has 'got "v3.30.0", want '
	run -1 ctl ipam release --from-report early.json
	has "the provided reports are all stale"
	echo '{"allocations":{"10.1.0.1":[{"inUse":false}]}}' >other.json
	run -1 ctl ipam release --from-report other.json
	has 'other.json: allocation "10.1.0.1": want what ipam check -o has written'
	# .3 is given anew meanwhile, .5 was in cool-down; by both reports.
	put $BLOCK "$(jq -c '.sequenceNumber = 11 | .sequenceNumberForAllocation["3"] = 10' block)"
	run -0 ctl ipam release --from-report early.json --from-report=report.json
	same "Releasing 2 old IPs...
Released 1 IPs successfully
1 addresses marked as leaked in the report have been given anew since, and stay.
Deleting 1 handles...
Key: '.' = Deleted OK; 'x' = skip, handle missing/changed.
.
Released 1 handles; 0 skipped; 0 errors.
You may now unlock the data store."
	[ "$(stored $BLOCK | jq -c '[.allocations[0:5][] == null]')" = '[false,true,false,false,false]' ]
	[ -z "$(stored $IPAM/handle/net.empty)$(stored $IPAM/handle/net.c2)" ]
	[ -n "$(stored $IPAM/handle/net.c1)" ]
	run -0 ctl ipam release --from-report report.json
	has "Released 0 IPs successfully
1 addresses marked as leaked in the report had already been cleaned up."
	has "x
Released 0 handles; 1 skipped; 0 errors."
	ctl datastore unlock
	run -2 ctl ipam check -o report.json
	run -1 ctl ipam release --from-report report.json
	has "data store is not locked"
	run -0 ctl ipam release --from-report report.json --force
	has "WARNING: Data store is not locked. Ignoring due to --force option"
	has "Released 1 IPs successfully"
	run -0 ctl ipam check -o /dev/stdout
	[ "$(sed -n '/^{/,$p' <<<"$output" | jq -r .clusterGUID)" = d5c2 ]
}

@test "split" {
	records
	run -1 ctl ipam split 4 --cidr 10.1.0.0/16
	has "is not locked: margayctl datastore lock"
	ctl datastore lock
	for n in 0 1 3 6 x 2048; do
		run -1 ctl ipam split $n --cidr 10.1.0.0/16
		has "want a power of two from 2 to 1024"
	done
	run -1 ctl ipam split 4 --cidr 10.2.0.0/16
	has "there is no IPPool 10.2.0.0/16"
	run -0 ctl ipam split 4 --cidr=10.1.0.0/16
	same 'IP Pool a was successfully split into 4 smaller pools.
Created split-a-0 with CIDR 10.1.0.0/18.
Created split-a-1 with CIDR 10.1.64.0/18.
Created split-a-2 with CIDR 10.1.128.0/18.
Created split-a-3 with CIDR 10.1.192.0/18.
Unlock the datastore now: margayctl datastore unlock'
	[ "$(ctl get ippools -o name | xargs)" = "ippool/split-a-0 ippool/split-a-1 ippool/split-a-2 ippool/split-a-3" ]
	[ "$(stored $V3/ippools/split-a-3 | jq -c '[.metadata.labels, .spec]')" = '[{"zone":"x"},{"cidr":"10.1.192.0/18","vxlanMode":"Never","ipipMode":"Never","natOutgoing":true,"blockSize":29,"nodeSelector":"has(rack)","allowedUses":["Workload","Tunnel"],"assignmentMode":"Automatic"}]' ]
	[ "$(for i in 0 1 2 3; do stored $V3/ippools/split-a-$i | jq -r .metadata.uid; done | sort -u | wc -l)" = 4 ]
	[ "$(stored $BLOCK)" = "$(cat block)" ]
	ctl datastore unlock
	ctl ipam claim 10.1.192.0/29 --node n1
	run -0 ctl ipam show
	has "| IP Pool  | 10.1.0.0/18   |"
	# No further than its blocks.
	ctl datastore lock
	run -0 ctl ipam split 1024 --name split-a-0
	run -1 ctl ipam split 4 --name split-split-a-0-0
	has "IPPool split-split-a-0-0: 10.1.0.0/28 in 4 parts: want at most 2, since a block has a /29"
}

@test "a split that was interrupted goes on" {
	records
	ctl datastore lock
	sql() {
		python3 -c 'import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute(sys.argv[2]); db.commit()' \
			"$MARGAY_SQLITE_PATH" "$1"
	}
	for verb in INSERT UPDATE; do
		sql "CREATE TRIGGER on_$verb BEFORE $verb ON kv WHEN new.key LIKE '%/ippools/split-a-1' BEGIN SELECT RAISE(ABORT, 'no'); END"
	done
	run -1 ctl ipam split 2 --name a
	has "IPPool a: is disabled, and split in part; the same again goes on: IPPool split-a-1: "
	[ "$(stored $V3/ippools/a | jq .spec.disabled)" = true ]
	sql "DROP TRIGGER on_INSERT"
	sql "DROP TRIGGER on_UPDATE"
	run -1 ctl ipam split 4 --name a
	has "overlaps IPPool split-a-0, which is 10.1.0.0/17"
	run -0 ctl ipam split 2 --name a
	[ "$(ctl get ippools -o name | xargs)" = "ippool/split-a-0 ippool/split-a-1" ]
}
