#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# margayctl over a datastore file of its own: what goes in, what comes out, and what is said of what
# is wrong. The oracle for stored bytes is sqlite3.

bats_require_minimum_version 1.5.0

setup() {
	D=$BATS_TEST_TMPDIR
	export MARGAY_SQLITE_PATH=$D/margay.db MARGAY_LOG_LEVEL=error
	cd "$D" || exit
}

teardown() {
	[ -z "$BIRD_PID" ] || kill "$BIRD_PID" || true
}

ctl() {
	"$BIN/margayctl" "$@"
}

# What is stored under the key.
stored() {
	python3 - "$MARGAY_SQLITE_PATH" "$1" <<'P'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
for (v,) in db.execute("select value from kv where key = ?", (sys.argv[2],)):
	if v is not None: # a deletion
		print(v.decode() if isinstance(v, bytes) else v)
P
}

has() {
	[[ $output == *"$1"* ]] || { echo "want: $1"; echo "got: $output"; false; }
}

pool() { # NAME CIDR
	printf 'apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  name: %s\nspec:\n  cidr: %s\n' "$1" "$2"
}

@test "the samples go in and come out" {
	run ctl apply -f "$SAMPLES"
	[ "$status" -eq 0 ]
	has "Successfully applied 4 resource(s)"
	run ctl get ippool
	[ "${lines[0]}" = "NAME                  CIDR             SELECTOR   " ]
	[ "${lines[1]}" = "default-ipv4-ippool   192.168.0.0/16   all()      " ]
	run ctl get svc -A
	has "NAMESPACE   NAME"
	has "default     web "
	[ "$(ctl get bgppeers -o name)" = bgppeer/top-of-rack ]
}

@test "a pool is stored as Calico stores it" {
	pool a 10.244.0.0/16 | ctl apply -f -
	value=$(stored /calico/resources/v3/projectcalico.org/ippools/a)
	[[ $value =~ ^'{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"a","uid":"'[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}'","creationTimestamp":"'[0-9T:-]+'Z"},"spec":{"cidr":"10.244.0.0/16","vxlanMode":"Never","ipipMode":"Never","blockSize":26,"nodeSelector":"all()","allowedUses":["Workload","Tunnel"],"assignmentMode":"Automatic"}}'$ ]]
}

@test "what get prints, replace takes: yaml and json" {
	ctl apply -f "$SAMPLES"
	for kind in ippool bgppeer bgpconfiguration service; do
		for form in yaml json; do
			before=$(ctl get $kind -o $form | grep -v resourceVersion)
			ctl get $kind -o $form | ctl replace -f -
			diff <(echo "$before") <(ctl get $kind -o $form | grep -v resourceVersion)
		done
	done
}

@test "replace with an old revision is refused" {
	pool a 10.1.0.0/16 | ctl apply -f -
	ctl get pool a -o yaml >old.yaml
	ctl apply -f old.yaml # apply takes whatever is there
	run ctl replace -f old.yaml
	[ "$status" -eq 1 ]
	has "old.yaml:1: IPPool a: metadata.resourceVersion"
	has "get it again"
}

@test "replace heeds every resourceVersion, or says what is wrong with it" {
	pool a 10.1.0.0/16 | ctl apply -f -
	rev=$(ctl get pool a -o json | jq -r .metadata.resourceVersion)
	for bad in abc '"abc"' 1x '" 1"' 0 -7 1.5 true '[1]' 99999999999999999999; do
		run ctl replace -f <(pool a 10.1.0.0/16 | sed "s/name: a/&\n  resourceVersion: $bad/")
		[ "$status" -eq 1 ] || { echo "$bad: $output"; false; }
		has "IPPool a: metadata.resourceVersion: got"
		has "want the number that get prints, or none"
	done
	run ctl replace -f <(pool a 10.1.0.0/16 | sed "s/name: a/&\n  resourceVersion: $((rev + 1))/")
	[ "$status" -eq 1 ]
	has "get it again"
	[ "$(ctl get pool a -o json | jq -r .metadata.resourceVersion)" = "$rev" ]
	# Without its quotes it is the same number.
	ctl replace -f <(pool a 10.1.0.0/16 | sed "s/name: a/&\n  resourceVersion: $rev/")
	for none in '' '""' null; do
		ctl replace -f <(pool a 10.1.0.0/16 | sed "s/name: a/&\n  resourceVersion: $none/")
	done
}

@test "create takes no resourceVersion" {
	for rev in 7 '"7"' abc; do
		run ctl create --skip-exists -f <(pool a 10.1.0.0/16 | sed "s/name: a/&\n  resourceVersion: $rev/")
		[ "$status" -eq 1 ]
		has "IPPool a: metadata.resourceVersion: got"
		has "want none"
	done
	ctl create -f <(pool a 10.1.0.0/16 | sed 's/name: a/&\n  resourceVersion: ""/')
	ctl apply -f <(pool a 10.1.0.0/16 | sed 's/name: a/&\n  resourceVersion: "7"/')
}

@test "labels are as Kubernetes has them" {
	service a | sed 's/name: a/&\n  labels: {"my app": a}/' >bad.yaml
	for verb in create apply; do
		run ctl $verb -f bad.yaml
		[ "$status" -eq 1 ]
		has "bad.yaml:1: Service default/a: metadata.labels: want names as [prefix/]name"
	done
	[ -z "$(ctl get svc -o name)" ]
	ctl create -f <(service a)
	run ctl replace -f bad.yaml
	[ "$status" -eq 1 ]
	has "Service default/a: metadata.labels"
}

@test "create, apply and replace tell what is there from what is not" {
	run ctl replace -f <(pool a 10.1.0.0/16)
	[ "$status" -eq 1 ]
	has "IPPool a: does not exist: use apply or create"
	ctl create -f <(pool a 10.1.0.0/16)
	run ctl create -f <(pool a 10.1.0.0/16)
	[ "$status" -eq 1 ]
	has "IPPool a: exists already"
	ctl create --skip-exists -f <(pool a 10.1.0.0/16)
	uid=$(ctl get pool a -o json | jq -r .metadata.uid)
	ctl apply -f <(pool a 10.1.0.0/16)
	[ "$(ctl get pool a -o json | jq -r .metadata.uid)" = "$uid" ]
}

@test "every document is tried, and each failure is one line with its place" {
	{
		pool a 10.1.0.0/16
		echo ---
		pool b 10.1.128.0/17
		echo ---
		printf 'kind: IPPool\napiVersion: projectcalico.org/v3\nmetadata: {name: c}\nspec: {cidr: 10.2.0.0/16, ipipmode: Always}\n'
		echo ---
		printf 'a: [1\n'
		echo ---
		printf 'kind: Gadget\napiVersion: v1\n'
		echo ---
		pool d 10.4.0.0/16
	} >all.yaml
	run ctl apply -f all.yaml
	[ "$status" -eq 1 ]
	has "all.yaml:8: IPPool b: spec.cidr: got \"10.1.128.0/17\", want no overlap with IPPool a, which is 10.1.0.0/16"
	has "all.yaml:15: IPPool c: spec.ipipmode: want one of: cidr vxlanMode ipipMode"
	has "all.yaml: line 21, column 1: did not find expected ',' or ']'"
	has "all.yaml:22: kind Gadget of v1: no such kind of resource"
	has "Partial success: applied 2 of 6 resources"
	[ "${#lines[@]}" -eq 5 ]
	[ "$(ctl get pools -o name | xargs)" = "ippool/a ippool/d" ]
}

@test "directories, several files, lists" {
	mkdir dir
	pool a 10.1.0.0/16 >dir/a.yaml
	pool b 10.2.0.0/16 >dir/b.yml
	echo nonsense >dir/notes.txt
	printf '{"kind": "List", "apiVersion": "v1", "items": [%s]}' \
		'{"kind": "IPPool", "apiVersion": "projectcalico.org/v3", "metadata": {"name": "c"}, "spec": {"cidr": "10.3.0.0/16"}}' >c.json
	run ctl create -f dir -f c.json
	[ "$status" -eq 0 ]
	has "Successfully created 3 'IPPool' resource(s)"
	run ctl delete -f dir -f c.json
	has "Successfully deleted 3 'IPPool' resource(s)"
	mkdir empty
	run ctl apply -f empty -f nowhere.yaml
	[ "$status" -eq 1 ]
	has "empty: a directory without .yaml, .yml or .json files"
	has "nowhere.yaml"
}

@test "names, kinds and selectors of get" {
	for n in 1 2; do
		printf 'kind: Node\napiVersion: projectcalico.org/v3\nmetadata: {name: n%s, labels: {rack: "r%s"}}\nspec: {bgp: {ipv4Address: 10.0.0.%s/24}}\n---\n' $n $n $n
	done | ctl apply -f -
	for kind in node Nodes no nos NODE; do
		[ "$(ctl get $kind -o name | wc -l)" -eq 2 ]
	done
	[ "$(ctl get no -l "rack == 'r2'" -o name)" = node/n2 ]
	run ctl get no -l "rack = 'r2'"
	[ "$status" -eq 1 ]
	has "selector \"rack = 'r2'\": column 6"
	run ctl get no n1 -l "rack == 'r2'"
	[ "$status" -eq 1 ]
	has "get: want either names or --selector, not both"
	run ctl get node n1 n3 -o name
	[ "$status" -eq 1 ]
	has "Node n3: does not exist"
	has "node/n1"
	run ctl get node n3
	[ "$status" -eq 1 ]
	[ "$output" = "margayctl: Node n3: does not exist" ]
	run ctl get nodes -o wide
	has "n1     (64512)   10.0.0.1/24          "
	run ctl get pods
	[ "$status" -eq 1 ]
	has "\"pods\": no such kind of resource"
	run ctl get nodes -o xml
	[ "$status" -eq 1 ]
	has "want table, wide, yaml, json or name"
}

@test "namespaces" {
	for ns in a b; do
		printf 'kind: EndpointSlice\napiVersion: discovery.k8s.io/v1\nmetadata: {name: s, namespace: %s, labels: {kubernetes.io/service-name: w}}\naddressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]\nports: [{port: 80}]\n---\n' $ns
	done | ctl apply -f -
	[ -z "$(ctl get eps -o name)" ]
	[ "$(ctl get eps -n a -o name)" = endpointslice/s ]
	[ "$(ctl get eps -A -o name | xargs)" = "endpointslice/a/s endpointslice/b/s" ]
	run ctl delete eps s -n b
	has "Successfully deleted 1 'EndpointSlice'"
	run ctl delete eps s -n b
	[ "$status" -eq 1 ]
	has "EndpointSlice b/s: does not exist"
	ctl delete eps s -n b --skip-not-exists
}

@test "claims and their use" {
	pool a 10.244.0.0/16 | sed 's/$/\n/; $a\  blockSize: 24' | grep . | ctl apply -f -
	run ctl ipam claim 10.244.1.0/24 --node node-81
	[ "$status" -eq 0 ]
	run ctl ipam show --show-blocks
	has "| IP Pool  | 10.244.0.0/16 |     65536 |     0 (0%) |       0 (0%) | 65536 (100%) |"
	has "| Block    | 10.244.1.0/24 |       256 |     0 (0%) |       0 (0%) |   256 (100%) |"
	[ "$(stored /calico/ipam/v2/host/node-81/ipv4/block/10.244.1.0-24)" = '{"state":"confirmed","deleted":false}' ]
	run ctl ipam claim 10.244.1.0/24 --node node-82
	[ "$status" -eq 1 ]
	has node-81
	run ctl ipam claim 10.244.0.0/23 --node node-82
	[ "$status" -eq 1 ]
	has "ipam claim 10.244.0.0/23 for node-82: claimed 1 of 2 blocks:"
	has "  10.244.0.0/24"
	has "block 10.244.1.0/24 belongs to host:node-81"
	run ctl ipam claim 10.9.0.0/24 --node node-82
	[ "$status" -eq 1 ]
	has 10.9.0.0/24
	run ctl ipam claim 10.244.1.1/24 --node node-82
	[ "$status" -eq 1 ]
	[ "$(ctl ipam show --ip 10.244.1.1)" = "10.244.1.1 is not assigned" ]
	run ctl delete pool a
	has "Successfully deleted"
	[ -z "$(stored /calico/ipam/v2/host/node-81/ipv4/block/10.244.1.0-24)" ]
}

@test "a new pool does not take over blocks of another size" {
	pool a 10.244.0.0/16 | ctl apply -f -
	ctl ipam claim 10.244.0.0/26 --node n1
	python3 - "$MARGAY_SQLITE_PATH" <<-'P'
		import sqlite3, sys
		db = sqlite3.connect(sys.argv[1])
		db.execute("delete from kv where key like '%/ippools/a'")
		db.commit()
	P
	run ctl apply -f <(pool a 10.244.0.0/16; echo "  blockSize: 24")
	[ "$status" -eq 1 ]
	has "IPPool a: spec.blockSize: got 24, want 26, or a cidr without block 10.244.0.0/26"
	ctl apply -f <(pool a 10.244.0.0/16)
}

# README's ways with the default pool, here with the sample against one of other numbers.
@test "a pool keeps its cidr and its block size; another takes its place" {
	pool default-ipv4-ippool 172.16.0.0/16 | ctl apply -f -
	ctl ipam claim 172.16.0.0/26 --node n1
	for verb in apply replace; do
		run ctl $verb -f "$SAMPLES/ippool.yaml"
		[ "$status" -eq 1 ]
		has "IPPool default-ipv4-ippool: spec.cidr: got \"192.168.0.0/16\", want \"172.16.0.0/16\" as it was: it cannot change, create another IPPool"
		run ctl $verb -f <(pool default-ipv4-ippool 172.16.0.0/16; echo "  blockSize: 24")
		[ "$status" -eq 1 ]
		has "IPPool default-ipv4-ippool: spec.blockSize: got 24, want 26 as it was: it cannot change"
	done
	ctl apply -f <(pool default-ipv4-ippool 172.16.0.0/16; echo "  ipipMode: CrossSubnet")
	ctl apply -f <(pool mine 10.244.0.0/16; echo "  blockSize: 24")
	ctl delete ippool default-ipv4-ippool
	[ "$(ctl get pools -o name)" = ippool/mine ]
	run ctl ipam show --show-blocks
	[[ $output != *172.16* ]]
	# The same network in blocks of another size.
	ctl apply -f <(pool again 172.16.0.0/16; echo "  blockSize: 24")
}

service() { # NAME [LINE...]
	printf 'apiVersion: v1\nkind: Service\nmetadata:\n  name: %s\nspec:\n  ports: [{port: 80}]\n' "$1"
	shift
	printf '  %s\n' "$@"
}

# Claims of addresses and ports that are there.
claims() {
	python3 - "$MARGAY_SQLITE_PATH" <<-'P'
		import sqlite3, sys
		db = sqlite3.connect(sys.argv[1])
		q = "select key from kv where value is not null and (key like '/margay/v1/serviceips/%' or key like '/margay/v1/nodeports/%') order by key"
		print(*[k.split("/")[-1] for (k,) in db.execute(q)])
	P
}

@test "a Service is given an address and a port, none twice, and gives them back" {
	ctl apply -f <(service a "type: NodePort")
	ip=$(ctl get svc a -o json | jq -r .spec.clusterIP)
	port=$(ctl get svc a -o json | jq -r '.spec.ports[0].nodePort')
	[[ $ip == 10.96.* ]]
	[ "$port" -ge 30000 ] && [ "$port" -le 32767 ]
	[ "$(claims)" = "$port $ip" ]
	# Applied again, it keeps what it has.
	ctl apply -f <(service a "type: NodePort")
	[ "$(ctl get svc a -o json | jq -r '.spec.clusterIP, .spec.ports[0].nodePort' | xargs)" = "$ip $port" ]
	run ctl create -f <(service b "clusterIP: $ip")
	[ "$status" -eq 1 ]
	has "Service default/b: clusterIP $ip belongs to Service default/a"
	run ctl create --skip-exists -f <(service b "clusterIP: $ip")
	[ "$status" -eq 1 ] # b does not exist
	run ctl replace -f <(service b "clusterIP: $ip")
	has "Service default/b: does not exist"
	run ctl create -f <(service b "clusterIP: 10.97.0.1")
	[ "$status" -eq 1 ]
	has "want one in the service range 10.96.0.0/16"
	ctl create --service-cluster-ip-range 10.97.0.0/24 -f <(service b "clusterIP: 10.97.0.1")
	ctl create -f <(service c "clusterIP: None")
	[ "$(ctl get svc c -o json | jq -r .spec.clusterIP)" = None ]
	run ctl apply -f <(service a "clusterIP: 10.96.0.9")
	[ "$status" -eq 1 ]
	has "spec.clusterIP: got \"10.96.0.9\", want \"$ip\" as it was"
	# Without the port the port is free again, without the Service all is.
	ctl apply -f <(service a)
	[ "$(claims)" = "$ip 10.97.0.1" ]
	ctl delete svc a b c
	[ -z "$(claims)" ]
}

@test "what follows from a node goes with it" {
	pool a 10.244.0.0/16 | ctl apply -f -
	cat >node.yaml <<-'Y'
		kind: Node
		apiVersion: projectcalico.org/v3
		metadata: {name: n1}
		---
		kind: BGPPeer
		apiVersion: projectcalico.org/v3
		metadata: {name: of-n1}
		spec: {node: n1, peerIP: 10.0.0.1, asNumber: 64513}
		---
		kind: BGPPeer
		apiVersion: projectcalico.org/v3
		metadata: {name: of-all}
		spec: {peerIP: 10.0.0.1, asNumber: 64513}
		---
		kind: FelixConfiguration
		apiVersion: projectcalico.org/v3
		metadata: {name: node.n1}
		spec: {ipipMTU: 1400}
	Y
	ctl apply -f node.yaml
	ctl ipam claim 10.244.0.0/26 --node n1
	run ctl delete node n1
	[ "$status" -eq 0 ]
	[ "$(ctl get bgppeers -o name)" = bgppeer/of-all ]
	[ -z "$(ctl get felixconfigs -o name)" ]
	run ctl ipam show --show-blocks
	[[ $output != *Block* ]]
}

@test "a datastore that cannot be used is named, with the way out" {
	run ctl get nodes
	[ "$status" -eq 1 ]
	has "datastore $MARGAY_SQLITE_PATH: there is none"
	echo "not a database, by far" >bad.db
	run ctl get nodes --margay-sqlite-path "$D/bad.db"
	[ "$status" -eq 1 ]
	has "bad.db"
	has "not a database"
	run ctl get nodes --datastore-type etcdv3
	[ "$status" -eq 1 ]
	has "DATASTORE_TYPE etcdv3 wants the addresses of etcd"
	ETCD_ENDPOINTS=http://192.0.2.1:2379 ETCD_USERNAME=u ETCD_PASSWORD=s3cret run ctl --print-config
	has "ETCD_PASSWORD = (secret) # environment ETCD_PASSWORD"
	[[ $output != *s3cret* ]]
	pool a 10.1.0.0/16 | ctl apply -f -
	run ctl apply -f <(pool b 10.2.0.0/16) --margay-sqlite-path /proc/nowhere/margay.db
	[ "$status" -eq 1 ]
	has "datastore /proc/nowhere/margay.db: No such file or directory"
	has MARGAY_SQLITE_PATH
	# No room: nothing is stored, and what is there stays.
	run bash -c "trap '' XFSZ; ulimit -f 0; exec '$BIN/margayctl' apply -f '$SAMPLES'"
	[ "$status" -eq 1 ]
	has "datastore $MARGAY_SQLITE_PATH"
	[ "$(ctl get pools -o name)" = ippool/a ]
}

@test "a write that fails names its object" {
	pool a 10.1.0.0/16 | ctl apply -f -
	python3 - "$MARGAY_SQLITE_PATH" <<-'P'
		import sqlite3, sys
		db = sqlite3.connect(sys.argv[1])
		for verb in "UPDATE", "INSERT":
		    db.execute(f"CREATE TRIGGER {verb}1 BEFORE {verb} ON kv BEGIN SELECT RAISE(ABORT, 'no'); END")
		db.commit()
	P
	pool e 10.3.0.0/16 >e.yaml
	run ctl apply -f e.yaml
	[ "$status" -eq 1 ]
	has "margayctl: e.yaml:1: IPPool e: datastore $MARGAY_SQLITE_PATH: "
	run ctl delete ippool a
	[ "$status" -eq 1 ]
	has "margayctl: IPPool a: is to be disabled first: datastore $MARGAY_SQLITE_PATH: "
	[[ $(ctl get ippool a -o json) != *disabled* ]]
}

@test "an object that cannot be read is named, and blocks no other" {
	pool a 10.1.0.0/16 | ctl apply -f -
	pool b 10.2.0.0/16 | ctl apply -f -
	python3 - "$MARGAY_SQLITE_PATH" <<-'P'
		import sqlite3, sys
		db = sqlite3.connect(sys.argv[1])
		db.execute("update kv set value = ? where key like '%/ippools/a'", ('{"spec":{"cidr":7}}',))
		db.commit()
	P
	run ctl get pools
	[ "$status" -eq 1 ]
	has "IPPool a: spec.cidr: got 7, want text: repair it, or delete it"
	has "b      10.2.0.0/16   all()"
	python3 - "$MARGAY_SQLITE_PATH" <<-'P'
		import sqlite3, sys
		db = sqlite3.connect(sys.argv[1])
		db.execute("update kv set value = ? where key like '%/ippools/a'", ('{"spec',))
		db.commit()
	P
	run ctl get pools
	[ "$status" -eq 1 ]
	has "IPPool a: line 1, column"
	ctl apply -f <(pool a 10.1.0.0/16)
	run ctl get pools
	[ "$status" -eq 0 ]
}

# put KEY VALUE: by another's hand
put() {
	python3 - "$MARGAY_SQLITE_PATH" "$1" "$2" <<-'P'
		import sqlite3, sys
		db = sqlite3.connect(sys.argv[1])
		db.execute("insert or replace into kv select max(rev) + 1, ?, max(rev) + 1, ? from kv", sys.argv[2:])
		db.commit()
	P
}

@test "a block that cannot be read is named, and goes when nothing has an address of it" {
	local block=/calico/ipam/v2/assignment/ipv4/block/10.1.0.0-26
	pool a 10.1.0.0/16 | ctl apply -f -
	ctl ipam claim 10.1.0.0/26 --node n1
	run ctl ipam drop 10.1.0.0/26
	[ "$status" -eq 1 ]
	has "block 10.1.0.0/26: it can be read"
	put $block '{"cidr":"10.1.0.0/26"'
	run ctl ipam show
	[ "$status" -eq 1 ]
	has "$block (see margayctl ipam drop --help): block: line 1"
	run ctl ipam claim 10.1.0.0/26 --node n1
	[ "$status" -eq 1 ]
	has "$block (see margayctl ipam drop --help): block: line 1"
	put /calico/ipam/v2/handle/net.c1 '{"handleID":"net.c1","block":{"10.1.0.0/26":1},"deleted":false}'
	put /calico/ipam/v2/handle/net.c2 '{"handleID":"net.c2","block":{"10.1.0.64/26":1},"deleted":false}'
	put /calico/resources/v3/projectcalico.org/workloadendpoints/default/n1-cni-c1-eth0 \
		'{"spec":{"orchestrator":"cni","node":"n1","containerID":"c1","endpoint":"eth0","ipNetworks":["10.1.0.5/32"]}}'
	put /calico/resources/v3/projectcalico.org/nodes/n1 '{"spec":{"bgp":{"ipv4IPIPTunnelAddr":"10.1.0.6"}}}'
	run ctl ipam drop 10.1.0.0/26
	[ "$status" -eq 1 ]
	has "workloadendpoints/default/n1-cni-c1-eth0 has 10.1.0.5"
	has "nodes/n1 has 10.1.0.6"
	has "handle net.c1 has 1 of its addresses"
	[[ $output != *net.c2* ]]
	has "block 10.1.0.0/26 stays: 3 have addresses of it"
	run ctl ipam drop 10.1.0.0/26 --force
	[ "$status" -eq 1 ]
	has "stays: 2 have"
	ctl delete workloadendpoint n1-cni-c1-eth0
	put /calico/resources/v3/projectcalico.org/nodes/n1 '{"spec":{}}'
	run ctl ipam drop 10.1.0.0/26
	[ "$status" -eq 1 ]
	has "stays: 1 have"
	[ "$(stored $block)" = '{"cidr":"10.1.0.0/26"' ]
	[ "$(ctl ipam drop 10.1.0.0/26 --force)" = "Successfully dropped block 10.1.0.0/26" ]
	[ -z "$(stored $block)" ]
	ctl ipam claim 10.1.0.0/26 --node n1
	ctl ipam show
}

@test "only daemons write ClusterInformation" {
	run ctl apply -f - <<<'{"kind": "ClusterInformation", "apiVersion": "projectcalico.org/v3", "metadata": {"name": "default"}}'
	[ "$status" -eq 1 ]
	has "ClusterInformation default: is written by the daemons only"
}

@test "help and misuse" {
	run ctl --help
	[ "$status" -eq 0 ]
	has MARGAY_SQLITE_PATH
	for verb in apply create replace get delete "ipam show" "ipam check" "ipam claim" "ipam drop" "ipam release" "ipam configure" "ipam split" "node status" version; do
		# shellcheck disable=SC2086 # words
		run ctl $verb --help
		[ "$status" -eq 0 ]
		has "margayctl $verb"
	done
	for verb in "" gett "get" "apply" "apply pools.yaml" "delete" "delete pool" "ipam" "ipam claim" "ipam drop" "ipam release" "ipam configure" "ipam split 2" "ipam check x" "ipam check --force" "node" "node x" "get pool --nope" "version x"; do
		# shellcheck disable=SC2086 # words
		run ctl $verb
		[ "$status" -eq 1 ] || { echo "$verb: $status"; false; }
		[ -n "$output" ]
	done
	# The parameters, wherever the option stands, and nothing is done.
	for args in "--print-config" "get --print-config" "get pools --print-config" "apply --print-config -f x"; do
		# shellcheck disable=SC2086 # words
		run ctl $args
		[ "$status" -eq 0 ] || { echo "$args: $output"; false; }
		has "BIRD_CTL = /run/bird/bird.ctl # default"
	done
	run ctl get -- --print-config
	[ "$status" -eq 1 ]
	run ctl version
	[ "$status" -eq 1 ] # there is no datastore
	has "Client Version:"
}

@test "the options that calicoctl has with each verb are taken" {
	pool a 10.1.0.0/16 >pool.yaml
	echo "MARGAY_SQLITE_PATH = $PWD/other.db" >conf
	unset MARGAY_SQLITE_PATH
	local both=(--allow-version-mismatch -c conf)
	ctl apply -f pool.yaml "${both[@]}"
	[ -f other.db ]
	for verb in "get ippool" "ipam show" "ipam show --ip 10.1.0.1" "ipam check" "ipam configure --strictaffinity=true" \
		"datastore export" "delete ippool a"; do
		# shellcheck disable=SC2086 # words
		run -0 ctl $verb "${both[@]}"
	done
	run -1 ctl datastore lock "${both[@]}"
	has "other.db has no ClusterInformation"
	run -1 ctl ipam split 2 --name a "${both[@]}"
	has "other.db is not locked"
	run -1 ctl ipam release --ip 10.1.0.1 "${both[@]}"
	has "IP address 10.1.0.1 is not assigned"
	run ctl version "${both[@]}"
	has "Client Version:"
	run -1 ctl ipam show -c
	has "option --config: want a value after it"
	run -1 ctl get ippool -- -c conf
}

@test "node status as calicoctl prints it" {
	mkdir run
	cat >bird.conf <<-'C'
		router id 10.0.0.1;
		timeformat protocol "%T";
		protocol device {}
		template bgp peers { local 127.0.0.1 port 17901 as 64512; passive; multihop; ipv4 { import none; export none; }; }
		protocol bgp Mesh_127_0_0_2 from peers { neighbor 127.0.0.2 port 17902 as 64512; }
		protocol bgp Global_127_0_0_3_port_17903 from peers { neighbor 127.0.0.3 port 17903 as 64513; }
	C
	bird -f -c bird.conf -s run/bird.ctl 3>&- &
	BIRD_PID=$!
	for _ in $(seq 100); do
		[ -S run/bird.ctl ] && break
		sleep 0.05
	done
	run ctl node status --bird-ctl "$D/run/bird.ctl"
	[ "$status" -eq 0 ]
	has "IPv4 BGP status
+-----------------+-------------------+-------+----------+---------+
| PEER ADDRESS    | PEER TYPE         | STATE | SINCE    | INFO    |
+-----------------+-------------------+-------+----------+---------+
| 127.0.0.2       | node-to-node mesh | start | "
	has " | Passive |"
	has "| 127.0.0.3:17903 | global            | start | "
	has "IPv6 BGP status
No IPv6 peers found."
}

@test "node status without a BIRD" {
	run ctl node status --bird-ctl "$D/bird.ctl"
	[ "$status" -eq 1 ]
	has "INFO: BIRDv4 process: 'bird' is not running."
	has "$D/bird.ctl"
}

@test "an import that fails leaves the datastore unlocked, or says that it is locked" {
	lock=/calico/resources/v3/projectcalico.org/clusterinformations/default
	pool a 10.244.0.0/16 | ctl apply -f -
	sql() {
		python3 -c 'import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute(sys.argv[2]); db.commit()' \
			"$MARGAY_SQLITE_PATH" "$1"
	}
	sql "INSERT INTO kv SELECT max(rev)+1, '$lock', max(rev)+1, '{\"kind\":\"ClusterInformation\",\"spec\":{\"datastoreReady\":true}}' FROM kv"
	ctl datastore export -f all
	ctl delete ippool a
	sql "CREATE TRIGGER t BEFORE UPDATE ON kv WHEN new.key LIKE '%/ippools/%' BEGIN SELECT RAISE(ABORT, 'no'); END"
	sql "CREATE TRIGGER u BEFORE INSERT ON kv WHEN new.key LIKE '%/ippools/%' BEGIN SELECT RAISE(ABORT, 'no'); END"
	run ctl datastore import -f all
	[ "$status" -eq 1 ]
	[[ $(stored $lock) == *'"datastoreReady":true'* ]]
	# Where the first of two was written it is left locked, and that is said.
	sql "DROP TRIGGER t"
	sql "DROP TRIGGER u"
	pool a 10.244.0.0/16 | ctl apply -f -
	pool b 10.245.0.0/16 | ctl apply -f -
	ctl datastore export -f all
	ctl delete ippool a b
	sql "CREATE TRIGGER t BEFORE UPDATE ON kv WHEN new.key LIKE '%/ippools/b' BEGIN SELECT RAISE(ABORT, 'no'); END"
	sql "CREATE TRIGGER u BEFORE INSERT ON kv WHEN new.key LIKE '%/ippools/b' BEGIN SELECT RAISE(ABORT, 'no'); END"
	run ctl datastore import -f all
	[ "$status" -eq 1 ]
	[[ $(stored $lock) == *'"datastoreReady":false'* ]]
	has "1 objects were written to sqlite:$MARGAY_SQLITE_PATH, which stays locked"
	has "margayctl datastore unlock"
}

@test "an export to what is no file is written there" {
	pool a 10.244.0.0/16 | ctl apply -f -
	ctl datastore export -f all
	ctl datastore export -f /dev/stdout | cmp all -
	[ -L /dev/stdout ]
	mkfifo pipe
	cat pipe >piped &
	ctl datastore export -f pipe
	wait $!
	cmp all piped
	[ -p pipe ]
	run ctl datastore export -f /dev/full
	[ "$status" -eq 1 ]
	has "write /dev/full: the export: No space left on device"
	[ -c /dev/full ]
}

@test "a migration locks what it leaves, and says what it leaves unlocked" {
	lock=/calico/resources/v3/projectcalico.org/clusterinformations/default
	pool a 10.244.0.0/16 | ctl apply -f -
	# A file with a slip in it names none, and the default one is not taken.
	echo 'ETCD_ENDPOINT = http://127.0.0.1:9' >slip.conf
	run ctl datastore migrate --to slip.conf
	[ "$status" -eq 1 ]
	has "slip.conf names no datastore: want DATASTORE_TYPE, ETCD_ENDPOINTS or MARGAY_SQLITE_PATH in it"
	# No margay-felix has been here: there is nothing that says that it is locked, until it is made.
	echo "MARGAY_SQLITE_PATH = $D/new.db" >new.conf
	run ctl datastore migrate --to new.conf
	[ "$status" -eq 0 ]
	has "sqlite:$MARGAY_SQLITE_PATH stays locked"
	[[ $(stored $lock) == *'"datastoreReady":false'* ]]
	run bash -c "$(declare -f pool ctl); pool b 10.245.0.0/16 | ctl apply -f -"
	[ "$status" -eq 1 ]
	has "is locked"
	[[ $(MARGAY_SQLITE_PATH=$D/new.db stored $lock) == *'"datastoreReady":true'* ]]
	# Somebody unlocks it meanwhile.
	ctl datastore unlock
	echo "MARGAY_SQLITE_PATH = $D/newer.db" >newer.conf
	python3 - "$MARGAY_SQLITE_PATH" <<-'P' &
		import sqlite3, sys, time
		db = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)
		while not db.execute("SELECT 1 FROM kv WHERE value LIKE '%\"datastoreReady\":false%'").fetchone():
		    time.sleep(0.01)
		db.execute("UPDATE kv SET value = replace(value, '\"datastoreReady\":false', '\"datastoreReady\":true'), "
		           "rev = (SELECT max(rev) + 1 FROM kv) WHERE value LIKE '%\"datastoreReady\":false%'")
	P
	run ctl datastore migrate --to newer.conf
	[ "$status" -eq 1 ]
	has "sqlite:$MARGAY_SQLITE_PATH was unlocked meanwhile"
	has "objects were written to sqlite:$D/newer.db, which stays locked"
	wait $!
}
