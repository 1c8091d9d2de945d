#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Whatever a datastore refuses or fails to do, the daemons go on: each try is retried after a pause,
# /readyz says why, /healthz is well, the metrics count it, no loop is held up, and when it is mended nobody
# is started anew.

bats_require_minimum_version 1.5.0
load servers.bash

setup_file() {
	ip link set lo up
	ip address add 192.0.2.1/24 dev lo
	ip address add 192.0.2.2/24 dev lo
	ip link add dead type veth peer name dead1
	ip address add 198.51.100.1/24 dev dead
	ip link set dead up
	ip link set dead1 up
	ip neighbour add 198.51.100.53 lladdr 02:00:00:00:00:01 dev dead nud permanent
}

setup() {
	cd "$BATS_TEST_TMPDIR" || exit
	export SERVERS=$PWD
	node_env
}

teardown() {
	[ ! -f loops.pid ] || end "$(cat loops.pid)" || true
	stop felix confd
	for pid in etcd.pid frozen.pid; do
		[ ! -f $pid ] || end "$(cat $pid)" -KILL
	done
	umount /etc/resolv.conf ro 2>/dev/null || true
	ip route flush proto 80
	nft flush ruleset
}

has_blackhole() { # BLOCK
	ip route show type blackhole | grep -q "^blackhole $1 "
}

has_no_blackhole() {
	[ -z "$(ip route show type blackhole)" ]
}

user() { # PERMISSION
	etcdctl user add root:root
	etcdctl user add margay:secret
	etcdctl role add calico
	etcdctl role grant-permission calico "$1" /calico/ --prefix
	etcdctl user grant-role margay calico
	etcdctl auth enable
	export ETCD_USERNAME=margay ETCD_PASSWORD=secret
}

@test "etcd: unreachable" {
	export ETCD_ENDPOINTS=http://127.0.0.1:2379
	daemons
	hindered away 'Failed to connect to 127.0.0.1 port 2379'
	sleep 5
	# 0.1 s doubling: 6 tries, of each kind
	[ "$(metric felix 'requests_total{verb="list"}')" -le 60 ]
	[ "$(grep -c 'Failed to connect' felix.log)" -le 2 ]
	etcd_start
	well
}

@test "etcd: a wrong password" {
	export ETCD_ENDPOINTS=http://127.0.0.1:2379
	etcd_start
	user readwrite
	export ETCD_PASSWORD=wr0ng
	daemons
	hindered denied 'authentication failed'
	etcdctl --user root:root user passwd margay --interactive=false <<<wr0ng
	well
	run -1 grep -r wr0ng felix.log confd.log
}

@test "etcd: a wrong CA" {
	for ca in ca other; do
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $ca.key -out $ca.pem \
			-days 2 -subj /CN=$ca -addext subjectAltName=IP:127.0.0.1 2>/dev/null
	done
	ETCD_URL=https://127.0.0.1:2379
	etcd_start --cert-file ca.pem --key-file ca.key --listen-client-urls $ETCD_URL --advertise-client-urls $ETCD_URL
	export ETCD_ENDPOINTS=$ETCD_URL ETCD_CA_CERT_FILE=$PWD/trusted.pem
	cp other.pem trusted.pem
	daemons
	hindered away certificate
	cp ca.pem trusted.pem
	well
}

@test "etcd: read only" {
	export ETCD_ENDPOINTS=http://127.0.0.1:2379
	etcd_start
	user read
	daemons
	hindered denied 'BAD node: write /calico/resources/v3/projectcalico.org/nodes/node-1' felix
	says felix 'permission denied'
	within 10 says confd 'ok  datastore'
	etcdctl --user root:root role grant-permission calico readwrite /calico/ --prefix
	well
}

@test "etcd: out of space" {
	export ETCD_ENDPOINTS=http://127.0.0.1:2379
	etcd_start --quota-backend-bytes 2000000
	daemons
	within 20 says felix 'ok  node'
	etcdctl put "$IPAM/host/node-1/ipv4/block/10.244.0.0-26" '{"state":"confirmed"}'
	within 10 has_blackhole 10.244.0.0/26
	head -c 1000000 /dev/zero | tr '\0' x >big
	until ! etcdctl put "/other" <big 2>put.log; do :; done
	grep -q 'database space exceeded' put.log
	# this node's own address changes, and another's block: reads and watches go on
	ip address del 192.0.2.1/24 dev lo
	stop felix
	export IP=192.0.2.2/24
	start felix
	hindered full 'database space exceeded' felix
	within 10 says felix 'ok  datastore'
	etcdctl del "$IPAM/host/node-1/ipv4/block/10.244.0.0-26"
	within 10 has_no_blackhole
	rev=$(etcdctl get /other -w json | jq .header.revision)
	etcdctl compact "$rev"
	etcdctl defrag
	etcdctl alarm disarm
	well
	[ "$(etcdctl get --print-value-only "$V3/nodes/node-1" | jq -r .spec.bgp.ipv4Address)" = 192.0.2.2/24 ]
	ip address add 192.0.2.1/24 dev lo
}

@test "etcd: an older copy is put back" {
	export ETCD_ENDPOINTS=http://127.0.0.1:2379
	etcd_start
	daemons
	within 20 says felix 'ok  node'
	etcdctl snapshot save old.snapshot
	etcdctl put "$IPAM/host/node-1/ipv4/block/10.244.0.0-26" '{"state":"confirmed"}'
	within 10 has_blackhole 10.244.0.0/26
	for token in etcd-cluster another; do
		end "$ETCD" -KILL
		rm -r etcd
		etcdctl snapshot restore old.snapshot --data-dir etcd --initial-cluster-token $token
		etcd_start
		if [ $token = another ]; then
			hindered away 'another cluster'
			continue
		fi
		within 40 grep -q 'an older copy was put back' felix.log
		within 40 says confd 'ok  datastore'
		etcdctl put "$IPAM/host/node-1/ipv4/block/10.244.0.64-26" '{"state":"confirmed"}'
		within 10 has_blackhole 10.244.0.64/26
		has_blackhole 10.244.0.0/26
	done
	has_blackhole 10.244.0.0/26
	has_blackhole 10.244.0.64/26
	stop felix confd
	start felix
	start confd
	well
}

@test "etcd: it hangs" {
	export ETCD_ENDPOINTS=http://127.0.0.1:2379
	etcd_start
	daemons
	within 20 says felix 'ok  node'
	within 20 says confd 'ok  datastore'
	lists=$(metric felix 'requests_total{verb="list"}')
	cp etcd.pid frozen.pid
	kill -STOP "$ETCD"
	within 65 says felix 'BAD datastore'
	within 10 says confd 'BAD datastore'
	hindered timeout 'BAD datastore'
	kill -CONT "$ETCD"
	well
	echo "# $lists lists before, $(metric felix 'requests_total{verb="list"}') after" >&3
}

@test "etcd: a DNS server that is away" {
	echo nameserver 198.51.100.53 >resolv.conf
	mount --bind resolv.conf /etc/resolv.conf
	export ETCD_ENDPOINTS=http://etcd.example:2379
	daemons
	hindered away 'Resolving timed out'
	sleep 12
	loops_were_free
}

@test "SQLite: a read-only mount" {
	mkdir ro
	mount -t tmpfs none ro
	export MARGAY_SQLITE_PATH=$PWD/ro/db
	"$BIN/margayctl" apply -f - <<<'{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: p}, spec: {cidr: 10.244.0.0/16}}'
	mount -o remount,ro ro
	daemons
	hindered denied 'Read-only file system' felix
	mount -o remount,rw ro
	well
}

node_has_address() {
	[ "$("$BIN/margayctl" get node node-1 -o json | jq -r .spec.bgp.ipv4Address)" = "$1" ]
}

@test "SQLite: another process has the lock" {
	export MARGAY_SQLITE_PATH=$PWD/db
	daemons
	within 20 says felix 'ok  node'
	within 20 says confd 'ok  datastore'
	(
		echo 'BEGIN IMMEDIATE;'
		sleep 5
		echo 'COMMIT;'
	) | sqlite3 db 3>&- &
	locked=$!
	sleep 0.5
	# two wait, and one of them is a loop
	ip address del 192.0.2.1/24 dev lo
	stop felix
	export IP=192.0.2.2/24
	start felix
	"$BIN/margayctl" apply -f - <<<'{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: p}, spec: {cidr: 10.244.0.0/16}}'
	wait $locked
	within 10 node_has_address 192.0.2.2/24
	ip address add 192.0.2.1/24 dev lo
	well
}
