#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# margay-felix on the real kernel, with the SQLite datastore: a node as a network and a mount
# namespace (tests/netns/CMakeLists.txt). The backstop timer is off: what heals, heals by events.
# BIN names the directory of the programs.

bats_require_minimum_version 1.5.0

setup_file() {
	ip link set lo up
}

setup() {
	export DB="$BATS_TEST_TMPDIR/db" PID="" LOG="$BATS_TEST_TMPDIR/log"
	export IP=10.130.29.80/24 NODENAME=node-80 MARGAY_SQLITE_PATH="$DB" NO_DEFAULT_POOLS=true
	export MARGAY_NODENAME_FILE="$BATS_TEST_TMPDIR/nodename" MARGAY_MTU_FILE="$BATS_TEST_TMPDIR/mtu"
	export FELIX_ENDPOINTSTATUSPATHPREFIX="$BATS_TEST_TMPDIR/calico"
	export FELIX_ROUTEREFRESHINTERVAL=0 FELIX_IPINIPENABLED=false MARGAY_FELIX_METRICS_ENABLED=true
	ip link add eth0 type veth peer name wire
	ip addr add 10.130.29.80/24 dev eth0
	ip link set eth0 up
	ip link set wire up
	nft add table ip other
	start
	until [ -e "$DB" ] && [ "$(value "$V3/nodes/node-80")" ]; do sleep 0.02; done
	put /calico/ipam/v2/host/node-80/ipv4/block/10.244.0.0-24 '{"state":"confirmed","deleted":false}'
	put $V3/ippools/p '{"kind":"IPPool","spec":{"cidr":"10.244.0.0/16","blockSize":24,"ipipMode":"Always","natOutgoing":true}}'
}

teardown() {
	local ended=0

	stop || ended=1
	umount /etc/hosts /etc/resolv.conf 2>/dev/null || true
	for link in $(ip -j link show type veth | jq -r '.[].ifname'); do
		ip link del "$link" 2>/dev/null || true
	done
	ip route flush table main || true
	nft flush ruleset
	return $ended
}

V3=/calico/resources/v3/projectcalico.org

start() {
	"$BIN/margay-felix" 2>>"$LOG" &
	PID=$!
}

stop() {
	# First, as a signal that comes while LeakSanitizer looks at the process hangs it.
	kill -CONT "$PID" && kill "${1:--TERM}" "$PID" || return
	wait "$PID" || true
}

put() {
	sqlite3 -cmd '.timeout 5000' "$DB" "INSERT OR REPLACE INTO kv SELECT max(rev)+1, '$1', max(rev)+1, '$2' FROM (SELECT 0 AS rev UNION SELECT rev FROM kv)"
}

del() {
	sqlite3 -cmd '.timeout 5000' "$DB" "UPDATE kv SET value = NULL, rev = (SELECT max(rev)+1 FROM kv) WHERE key = '$1'"
}

value() {
	sqlite3 -cmd '.timeout 5000' "$DB" "SELECT value FROM kv WHERE key = '$1'" 2>/dev/null
}

wep() { # NAME IFNAME IP [NODE]
	put "$V3/workloadendpoints/default/$1" \
		'{"kind":"WorkloadEndpoint","spec":{"node":"'"${4:-node-80}"'","interfaceName":"'"$2"'","ipNetworks":["'"$3"'/32"]}}'
}

veth() {
	ip link add "$1" type veth peer name "p$1"
	ip link set "p$1" up
	ip link set "$1" up
}

# within SECONDS COMMAND...
within() {
	local end=$((SECONDS + $1 + 1))

	shift
	while [ $SECONDS -lt $end ]; do
		"$@" && return
		sleep 0.01
	done
	echo "never came true: $*" >&2
	ip route show >&2
	cat "$LOG" >&2
	return 1
}

# What is promised of a repair.
eventually() {
	within 1 "$@"
}

has_route() {
	ip route show proto 80 | grep -qx -- "$1 *"
}

has_no_route() {
	! has_route "$1"
}

address_is() { # of the node, in the datastore
	[ "$(value "$V3/nodes/node-80" | jq -r .spec.bgp.ipv4Address)" = "$1" ]
}

fib() { # what `route -n` prints for a destination, without the interface's end
	route -n | awk -v d="$1" '$1 == d { print $2, $3, $4, $5, $8 }'
}

ready() {
	curl -sf "127.0.0.1:9099/readyz" >/dev/null
}

@test "a node comes up: node, name, blackhole, MTU, forwarding, readiness" {
	eventually has_route "blackhole 10.244.0.0/24"
	[ "$(value $V3/nodes/node-80 | jq -r .spec.bgp.ipv4Address)" = 10.130.29.80/24 ]
	[ "$(cat "$MARGAY_NODENAME_FILE")" = node-80 ]
	eventually test "$(cat "$MARGAY_MTU_FILE")" = 1500
	[ "$(cat /proc/sys/net/ipv4/ip_forward)" = 1 ]
	[ "$(value $V3/clusterinformations/default | jq -r .spec.datastoreReady)" = true ]
	[ "$(value $V3/bgpconfigurations/default | jq -r .kind)" = BGPConfiguration ]
	eventually ready
}

@test "the daemons take the node's name from felix's file" {
	eventually test -e "$MARGAY_NODENAME_FILE"
	for daemon in confd proxy; do
		env -u NODENAME MARGAY_RUN_DIR="$BATS_TEST_TMPDIR" BIRD_CONF_DIR="$BATS_TEST_TMPDIR" \
			"$BIN/margay-$daemon" 2>"$BATS_TEST_TMPDIR/$daemon" &
		within 5 grep -q "$daemon: node node-80, datastore" "$BATS_TEST_TMPDIR/$daemon"
		kill $!
		wait $! || true
	done
}

@test "a pod's route is there as route -n shows it, and follows link and endpoint" {
	wep web-0 cali123 10.244.0.140
	eventually has_route "blackhole 10.244.0.0/24"
	has_no_route "10.244.0.140 dev cali123 scope link"
	veth cali123
	eventually has_route "10.244.0.140 dev cali123 scope link"
	[ "$(fib 10.244.0.140)" = "0.0.0.0 255.255.255.255 UH 0 cali123" ]
	[ "$(cat /proc/sys/net/ipv4/conf/cali123/proxy_arp)" = 1 ]
	[ "$(cat /proc/sys/net/ipv4/conf/cali123/forwarding)" = 1 ]
	[ "$(cat /proc/sys/net/ipv4/neigh/cali123/proxy_delay)" = 0 ]
	wep elsewhere cali123 10.244.9.9 node-81
	ip link set cali123 down
	ip link set cali123 up
	eventually has_route "10.244.0.140 dev cali123 scope link"
	del $V3/workloadendpoints/default/web-0
	eventually has_no_route "10.244.0.140 dev cali123 scope link"
	has_no_route "10.244.9.9 dev cali123 scope link"
}

@test "a file says which pods' interfaces are up" {
	pod=$V3/workloadendpoints/default/node--80-k8s-web--0-eth0
	files="$FELIX_ENDPOINTSTATUSPATHPREFIX/endpoint-status"
	file="$files/k8s default%2Fweb-0 eth0"
	endpoint() { # ADDRESS
		put "$pod" '{"kind":"WorkloadEndpoint","spec":{"node":"node-80","interfaceName":"cali123","ipNetworks":["'"$1"'/32","fd00::1/128"]}}'
	}
	endpoint 10.244.0.140
	eventually test -d "$files"
	veth cali123
	eventually test -e "$file"
	jq -e '. == {"ifaceName":"cali123","ipv4Nets":["10.244.0.140/32"],"ipv6Nets":["fd00::1/128"]}' "$file"
	ip link set pcali123 down
	eventually test ! -e "$file"
	ip link set pcali123 up
	eventually test -e "$file"
	endpoint 10.244.0.141
	eventually grep -q 10.244.0.141 "$file"
	# What an earlier life has left, and what is nobody's.
	stop -KILL
	touch "$files/k8s default%2Fgone eth0" "$files/other"
	echo old >"$file"
	start
	eventually test ! -e "$files/k8s default%2Fgone eth0"
	eventually grep -q 10.244.0.141 "$file"
	[ -e "$files/other" ]
	del "$pod"
	eventually test ! -e "$file"
	stop
	rm -r "$FELIX_ENDPOINTSTATUSPATHPREFIX"
	endpoint 10.244.0.142
	FELIX_ENDPOINTSTATUSPATHPREFIX=none start
	eventually has_route "10.244.0.142 dev cali123 scope link"
	eventually ready
	[ ! -e "$FELIX_ENDPOINTSTATUSPATHPREFIX" ]
	# As the datastore has it, now and later.
	stop
	unset FELIX_ENDPOINTSTATUSPATHPREFIX
	config() { # PREFIX
		put "$V3/felixconfigurations/default" '{"kind":"FelixConfiguration","spec":{"endpointStatusPathPrefix":"'"$1"'"}}'
	}
	config "$BATS_TEST_TMPDIR/one"
	start
	eventually test -e "$BATS_TEST_TMPDIR/one/endpoint-status/k8s default%2Fweb-0 eth0"
	config "$BATS_TEST_TMPDIR/two"
	eventually test -e "$BATS_TEST_TMPDIR/two/endpoint-status/k8s default%2Fweb-0 eth0"
	[ ! -e "$BATS_TEST_TMPDIR/one/endpoint-status/k8s default%2Fweb-0 eth0" ]
	[ ! -e /var/run/calico ]
}

@test "what somebody changes or removes is back within a second, and others' things stay" {
	wep web-0 cali123 10.244.0.140
	veth cali123
	ip route add 10.99.0.0/16 dev cali123 proto static
	eventually has_route "10.244.0.140 dev cali123 scope link"
	ip route del 10.244.0.140
	eventually has_route "10.244.0.140 dev cali123 scope link"
	ip route del blackhole 10.244.0.0/24
	eventually has_route "blackhole 10.244.0.0/24"
	ip route replace 10.244.0.140 dev eth0 proto static
	eventually has_route "10.244.0.140 dev cali123 scope link"
	ip route flush proto 80
	eventually has_route "10.244.0.140 dev cali123 scope link"
	eventually has_route "blackhole 10.244.0.0/24"
	ip route show | grep "10.99.0.0/16 dev cali123 proto static"
	ip route show | grep "10.130.29.0/24 dev eth0"
}

masquerades() {
	nft list table ip margay 2>/dev/null | grep -q "ip saddr @masq-pools ip daddr != @all-pools masquerade" &&
		nft list set ip margay masq-pools | grep -q "10.244.0.0/16"
}

@test "NAT rules are back within a second" {
	eventually masquerades
	for tampering in "flush chain ip margay nat-postrouting" "flush set ip margay masq-pools" \
		"delete table ip margay"; do
		# shellcheck disable=SC2086
		nft $tampering
		eventually masquerades
	done
	nft list table ip other
}

@test "pools that overlap are named, and NAT goes on" {
	put $V3/ippools/q '{"kind":"IPPool","spec":{"cidr":"10.244.8.0/21","natOutgoing":true}}'
	eventually grep -q "ippool q: 10.244.8.0/21 overlaps 10.244.0.0/16 of ippool p" "$LOG"
	put /calico/resources/v3/projectcalico.org/ippools/v '{"kind":"IPPool","spec":{"cidr":"10.99.0.0/16","vxlanMode":"Always"}}'
	eventually grep -q "ippool v: vxlanMode Always: this version has no VXLAN" "$LOG"
	put $V3/ippools/r '{"kind":"IPPool","spec":{"cidr":"10.9.0.0/16","natOutgoing":true}}'
	masq_pools() {
		nft list set ip margay masq-pools | grep -q "10.9.0.0/16, 10.244.0.0/16"
	}
	eventually masq_pools
}

@test "SIGKILL and a new start remove nothing" {
	wep web-0 cali123 10.244.0.140
	veth cali123
	veth cali456
	# A pod whose endpoint is not written yet: its CNI plugin has just made this.
	ip route add 10.244.0.77 dev cali456 scope link proto 80
	eventually has_route "10.244.0.140 dev cali123 scope link"
	eventually masquerades
	stop -KILL
	# Not links: the kernel tells of a carrier up to a second after the link has come up.
	ip monitor route address >"$BATS_TEST_TMPDIR/ip" &
	ipmon=$!
	nft monitor >"$BATS_TEST_TMPDIR/nft" &
	nftmon=$!
	start
	eventually ready
	sleep 0.3
	kill $ipmon $nftmon
	wait $ipmon $nftmon || true
	cat "$BATS_TEST_TMPDIR/ip" "$BATS_TEST_TMPDIR/nft"
	run -1 grep -i delete "$BATS_TEST_TMPDIR/ip"
	[ ! -s "$BATS_TEST_TMPDIR/nft" ]
	has_route "10.244.0.77 dev cali456 scope link"
	# Of a block that is no longer ours, and a pod that is gone for certain.
	stop
	del /calico/ipam/v2/host/node-80/ipv4/block/10.244.0.0-24
	start
	eventually has_no_route "blackhole 10.244.0.0/24"
}

@test "the datastore away: everything stays, repairs go on, readiness says why" {
	wep web-0 cali123 10.244.0.140
	veth cali123
	eventually has_route "10.244.0.140 dev cali123 scope link"
	mv "$DB" "$DB.away"
	rm -f "$DB-wal" "$DB-shm"
	mkdir "$DB"
	ip route del 10.244.0.140
	eventually has_route "10.244.0.140 dev cali123 scope link"
	stop -KILL
	start
	sleep 0.5
	has_route "10.244.0.140 dev cali123 scope link"
	has_route "blackhole 10.244.0.0/24"
	run curl -s 127.0.0.1:9099/readyz
	[[ "$output" == *"BAD datastore"*"$DB"* ]]
	rmdir "$DB"
	mv "$DB.away" "$DB"
	for _ in $(seq 100); do ready && break; sleep 0.1; done
	ready
}

@test "another node has the address: a clear refusal" {
	put $V3/nodes/node-81 '{"kind":"Node","metadata":{"name":"node-81"},"spec":{"bgp":{"ipv4Address":"10.130.29.81/24"}}}'
	stop
	IP=10.130.29.81/24 start
	eventually grep "its address 10.130.29.81 is node node-81's already" "$LOG"
	[ "$(value $V3/nodes/node-80 | jq -r .spec.bgp.ipv4Address)" = 10.130.29.80/24 ]
	run -22 curl -sf 127.0.0.1:9099/readyz
}

@test "the node's address is detected, and a default pool made" {
	stop
	rm -f "$DB" "$DB"-*
	ip link add eth9 type veth peer name wire9
	ip addr add 172.31.7.1/24 dev eth9
	export CALICO_IPV4POOL_CIDR=192.168.0.0/16 CALICO_IPV4POOL_IPIP=Always
	unset NO_DEFAULT_POOLS
	for case in "first-found 172.31.7.1/24" "interface=no,et{1,2}h0 10.130.29.80/24" "cidr=10.0.0.0/8 10.130.29.80/24" \
		"skip-interface=eth9 10.130.29.80/24" "can-reach=10.130.29.99 10.130.29.80/24"; do
		# shellcheck disable=SC2086
		set -- $case
		IP=autodetect IP_AUTODETECTION_METHOD=$1 start
		until [ "$(value $V3/nodes/node-80 | jq -r .spec.bgp.ipv4Address)" = "$2" ]; do
			sleep 0.05
		done
		stop
	done
	run value $V3/ippools/default-ipv4-ippool
	[ "$(jq -c '.spec | [.cidr, .ipipMode, .blockSize, .natOutgoing]' <<<"$output")" = \
		'["192.168.0.0/16","Always",26,true]' ]
	# An address for the tunnel, from a block of this node.
	[ "$(value /calico/ipam/v2/handle/ipip-tunnel-addr-node-80 | jq -r '.block | length')" = 1 ]
	[[ "$(value $V3/nodes/node-80 | jq -r .spec.bgp.ipv4IPIPTunnelAddr)" == 192.168.* ]]
	start
	tunnel=$(value $V3/nodes/node-80 | jq -r .spec.bgp.ipv4IPIPTunnelAddr)
	sleep 0.3
	[ "$(value $V3/nodes/node-80 | jq -r .spec.bgp.ipv4IPIPTunnelAddr)" = "$tunnel" ]
}

@test "the node's IPv6 address, and the interfaces that its addresses are on" {
	stop
	bgp_is() { [ "$(value $V3/nodes/node-80 | jq -c '[.spec.bgp.ipv4Address, .spec.bgp.ipv6Address]')" = "$1" ]; }
	interfaces_are() { [ "$(value $V3/nodes/node-80 | jq -c '[.spec.interfaces[] | [.name, .addresses]]')" = "$1" ]; }
	export IP=autodetect IP6=autodetect
	# Without one all else is done.
	del $V3/nodes/node-80
	start
	within 5 grep -q 'node node-80 has no IPv6 address: IP6_AUTODETECTION_METHOD first-found: no IPv6 address of this host fits' "$LOG"
	bgp_is '["10.130.29.80/24",null]'
	ip link add eth1 type veth peer name cali7
	ip link set eth1 up
	ip addr add fd00:7::1/128 dev cali7
	ip addr add fd00:81::1/64 dev eth1 nodad
	within 5 bgp_is '["10.130.29.80/24","fd00:81::1/64"]'
	interfaces_are '[["eth0",["10.130.29.80"]],["eth1",["fd00:81::1"]]]'
	ip addr add fd00:80::1/64 dev eth0 nodad
	within 5 interfaces_are '[["eth0",["10.130.29.80","fd00:80::1"]],["eth1",["fd00:81::1"]]]'
	bgp_is '["10.130.29.80/24","fd00:81::1/64"]'
	stop
	IP6_AUTODETECTION_METHOD=can-reach=fd00:80::9 start
	within 5 bgp_is '["10.130.29.80/24","fd00:80::1/64"]'
	stop
	# The one that is stored stays.
	IP='' IP6='' start
	node_is_well() { curl -s 127.0.0.1:9099/readyz | grep -q 'ok  node'; }
	within 5 node_is_well
	bgp_is '["10.130.29.80/24","fd00:80::1/64"]'
}

@test "parameters that contradict each other are refused" {
	for cidr in CALICO_IPV4POOL_CIDR=10.0.0.0/16 CALICO_IPV6POOL_CIDR=fd00::/48; do
		run env "$cidr" timeout 5 "$BIN/margay-felix"
		[ "$status" = 1 ]
		[[ "$output" == *"${cidr%=*} is ${cidr#*=}, and NO_DEFAULT_POOLS says"* ]]
	done
}

@test "an address that is none, such an AS number and a pattern that is none are refused by name" {
	run env AS=1.2.3 timeout 5 "$BIN/margay-felix"
	[ "$status" = 1 ]
	[[ "$output" == *'AS '*'"1.2.3": want an AS number'* ]]
	run env IP=1.2.3 timeout 5 "$BIN/margay-felix"
	[ "$status" = 1 ]
	[[ "$output" == *'parameter IP '*'"1.2.3"'* ]]
	run env IP=fd00::1 timeout 5 "$BIN/margay-felix"
	[ "$status" = 1 ]
	[[ "$output" == *'parameter IP '*'got "fd00::1", want an address of IPv4'* ]]
	run env AS=0 timeout 5 "$BIN/margay-felix"
	[ "$status" = 1 ]
	[[ "$output" == *'AS '*'got 0, want 1 to 4294967295'* ]]
	run env FELIX_INTERFACEPREFIX=cali,tap timeout 5 "$BIN/margay-felix"
	[[ "$output" == *'FELIX_INTERFACEPREFIX '*'"cali,tap": want one prefix'* ]]
	run env FELIX_MTUIFACEPATTERN='^(en' timeout 5 "$BIN/margay-felix"
	[ "$status" = 1 ]
	[[ "$output" == *FELIX_MTUIFACEPATTERN*'"^(en": not a regular expression'* ]]
	stop
	AS=1.10 start
	number_is() { [ "$(value $V3/nodes/node-80 | jq .spec.bgp.asNumber)" = "$1" ]; }
	eventually number_is 65546
}

@test "can-reach looks a name up until it was found once, and then no more" {
	stop
	echo "10.9.0.1 far.example" >"$BATS_TEST_TMPDIR/hosts"
	mount --bind "$BATS_TEST_TMPDIR/hosts" /etc/hosts
	ip route add 10.9.0.0/24 dev eth0
	export IP=autodetect IP_AUTODETECTION_METHOD=can-reach=far.example
	sqlite3 "$DB" "DELETE FROM kv WHERE key = '$V3/nodes/node-80'"
	start
	within 3 address_is 10.130.29.80/24
	: >"$BATS_TEST_TMPDIR/hosts"
	ip addr add 10.130.30.80/24 dev eth0
	ip route replace 10.9.0.0/24 dev eth0 src 10.130.30.80
	within 5 address_is 10.130.30.80/24
}

@test "a DNS server that does not answer keeps no route waiting" {
	stop
	export IP='' IP_AUTODETECTION_METHOD=can-reach=far.example
	cp /etc/hosts "$BATS_TEST_TMPDIR/hosts"
	printf 'nameserver 127.0.0.1\noptions timeout:3 attempts:1\n' >"$BATS_TEST_TMPDIR/resolv.conf"
	mount --bind "$BATS_TEST_TMPDIR/hosts" /etc/hosts
	mount --bind "$BATS_TEST_TMPDIR/resolv.conf" /etc/resolv.conf
	timeout 30 python3 -c 'import socket
with socket.socket(type=socket.SOCK_DGRAM) as s:
    s.bind(("127.0.0.1", 53))
    print("ready", flush=True)
    while s.recv(512):
        print("asked", flush=True)' >"$BATS_TEST_TMPDIR/asked" 3>&- 4>&- &
	silent=$!
	within 5 grep -q ready "$BATS_TEST_TMPDIR/asked"
	del $V3/nodes/node-80
	start
	within 3 grep -q asked "$BATS_TEST_TMPDIR/asked"
	eventually has_route "blackhole 10.244.0.0/24"
	ip route del blackhole 10.244.0.0/24
	eventually has_route "blackhole 10.244.0.0/24"
	within 6 grep -q 'node node-80 has no address: IP_AUTODETECTION_METHOD: looking up far.example' "$LOG"
	stop
	# of both families, which end one after the other
	: >"$LOG"
	IP6=autodetect IP6_AUTODETECTION_METHOD=can-reach=farther.example start
	within 15 grep -q 'node node-80 has no address: IP_AUTODETECTION_METHOD: looking up far.example' "$LOG"
	stop
	start
	kill "$silent"
	echo "10.130.29.1 far.example" >>"$BATS_TEST_TMPDIR/hosts"
	within 20 address_is 10.130.29.80/24
}

@test "its files: directories are made, and what cannot be written is said and tried again" {
	stop
	touch "$BATS_TEST_TMPDIR/var"
	export MARGAY_NODENAME_FILE="$BATS_TEST_TMPDIR/var/lib/nodename"
	export MARGAY_MTU_FILE="$BATS_TEST_TMPDIR/var/lib/mtu"
	start
	unready() {
		curl -s "127.0.0.1:9099/readyz" | grep -q "BAD files: node name:"
	}
	eventually unready
	rm "$BATS_TEST_TMPDIR/var"
	within 5 ready
	[ "$(cat "$MARGAY_NODENAME_FILE")" = node-80 ]
	[ "$(cat "$MARGAY_MTU_FILE")" = 1500 ]
}

@test "what fails for long keeps nothing else waiting" {
	wep web-0 cali123 10.244.0.140
	veth cali123
	eventually has_route "10.244.0.140 dev cali123 scope link"
	stop
	mkdir -p "$BATS_TEST_TMPDIR/sys/net"
	mkdir "$BATS_TEST_TMPDIR/var"
	export MARGAY_MTU_FILE="$BATS_TEST_TMPDIR/var/mtu"
	MARGAY_SYSCTL_ROOT="$BATS_TEST_TMPDIR/sys" start
	failing() {
		curl -s "127.0.0.1:9099/readyz" | grep -q "BAD sysctl"
	}
	eventually failing
	sleep 8 # the pause after a failure has become longer than the rest
	for _ in $(seq 200); do
		ip route del 10.244.0.140 2>/dev/null || true
	done
	within 4 has_route "10.244.0.140 dev cali123 scope link"
	failing
	# Nor is another part, that fails for the first time.
	rm "$MARGAY_MTU_FILE"
	rmdir "$BATS_TEST_TMPDIR/var"
	touch "$BATS_TEST_TMPDIR/var"
	ip link set eth0 mtu 1400
	failing_too() {
		curl -s "127.0.0.1:9099/readyz" | grep -q "BAD files"
	}
	eventually failing_too
	rm "$BATS_TEST_TMPDIR/var"
	within 4 mtu_is 1400
}

mtu_is() {
	[ "$(cat "$MARGAY_MTU_FILE" 2>/dev/null)" = "$1" ]
}

@test "the MTU is that of the links which look like the host's" {
	ip link set eth0 mtu 1400
	eventually mtu_is 1400
	# Before 6.2 only one that is down can be renamed.
	ip link set eth0 name plain 2>/dev/null || ip link set eth0 down name plain up
	eventually mtu_is 1460
	ip link set plain name eth0 2>/dev/null || ip link set plain down name eth0 up
	eventually mtu_is 1400
}

@test "a bad object is refused by name and blocks nothing else" {
	put $V3/ippools/bad '{"kind":"IPPool","spec":{"cidr":"10.244.0.0/33"}}'
	wep web-0 cali123 10.244.0.140
	veth cali123
	eventually has_route "10.244.0.140 dev cali123 scope link"
	eventually grep "ippools/bad" "$LOG"
}

@test "a storm of changes that overflows the socket loses nothing" {
	veth cali123
	stop
	sqlite3 "$DB" "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i < 2999)
		INSERT INTO kv SELECT (SELECT max(rev) FROM kv)+1+i, '$V3/workloadendpoints/default/storm-'||i,
		1, json_object('kind','WorkloadEndpoint','spec',json_object('node','node-80',
		'interfaceName','cali123','ipNetworks',json_array('10.244.'||(i/250)||'.'||(i%250)||'/32')))
		FROM n"
	start
	has_all() { [ "$(ip route show proto 80 dev cali123 | wc -l)" = 3000 ]; }
	within 10 has_all
	kill -STOP $PID
	ip route show proto 80 dev cali123 | awk '{print "route del", $1; print "route add", $1, "dev cali123 scope link proto 80"}' \
		>"$BATS_TEST_TMPDIR/batch"
	for _ in 1 2 3 4 5; do
		ip -batch "$BATS_TEST_TMPDIR/batch"
	done
	ip route flush proto 80 dev cali123
	kill -CONT $PID
	within 10 has_all
	curl -s 127.0.0.1:9099/metrics | grep "margay_felix_route_dumps_total [2-9]"
}

@test "tunl0 and its address: tests/cluster, where the kernel has IP in IP" {
	modprobe -q ipip 2>/dev/null || true
	ip link add tunl0 type ipip 2>/dev/null || ip link show tunl0 2>/dev/null ||
		skip "this kernel has no ipip: covered by cluster_faults"
	stop
	export FELIX_IPINIPENABLED=true
	start
	tunnel() {
		ip -4 addr show tunl0 | grep -q "inet 10.244.0" && ip link show tunl0 up | grep -q "mtu 1480"
	}
	eventually tunnel
	ip addr flush dev tunl0
	eventually tunnel
	ip link set tunl0 down
	eventually tunnel
	ip link set tunl0 mtu 1400
	eventually tunnel
}
