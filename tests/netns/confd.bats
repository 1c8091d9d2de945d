#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# margay-confd and stock BIRD: nodes as network namespaces on one segment, with one datastore file. The
# kernel's view is ip's, BIRD's is birdc's. Run in a network and a mount namespace of its own; BIN
# names the directory of the programs.

bats_require_minimum_version 1.5.0
load pods.bash

setup_file() {
	ip link set lo up
	ip link add segment type bridge
	ip link set segment up
}

setup() {
	T=$BATS_TEST_TMPDIR
	export DB=$T/db
	# The first that is applied makes the datastore.
	MARGAY_SQLITE_PATH=$DB "$BIN/margayctl" apply -f - <<-Y
		{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: pool-a}, spec: {cidr: 10.244.0.0/16}}
	Y
	pool pool-a 10.244.0.0/16 Never
}

teardown() {
	local f
	for f in "$T"/*/confd.pid; do
		kill "$(cat "$f")" 2>/dev/null && eventually 5 gone "$(cat "$f")"
	done
	for f in "$T"/*/bird.pid; do
		[ ! -e "$f" ] || kill -9 "$(cat "$f")" 2>/dev/null || true
	done
	for f in "$T"/*/monitor.pid; do
		[ ! -e "$f" ] || kill "$(cat "$f")" 2>/dev/null || true
	done
	pods_remove
	tail -n 40 "$T"/*/*.log
	run ! grep -E 'Sanitizer|runtime error' "$T"/*/confd.log
}

gone() { # PID
	! kill -0 "$1" 2>/dev/null
}

stop_confd() { # [-SIGNAL]
	local pid
	pid=$(cat "$T/n1/confd.pid")
	kill "${1:--TERM}" "$pid"
	eventually 5 gone "$pid"
}

put() {
	sqlite3 -cmd '.timeout 5000' "$DB" "INSERT OR REPLACE INTO kv SELECT max(rev)+1, '$1', max(rev)+1, '$2' FROM (SELECT 0 AS rev UNION SELECT rev FROM kv)"
}

unput() {
	sqlite3 -cmd '.timeout 5000' "$DB" "INSERT OR REPLACE INTO kv SELECT max(rev)+1, '$1', 0, NULL FROM kv"
}

readonly V3=/calico/resources/v3/projectcalico.org

pool() { # NAME CIDR IPIP-MODE
	put $V3/ippools/"$1" '{"kind":"IPPool","metadata":{"name":"'"$1"'"},"spec":{"cidr":"'"$2"'","blockSize":24,"ipipMode":"'"$3"'","vxlanMode":"Never"}}'
}

block() { # NODE CIDR
	put /calico/ipam/v2/host/"$1"/ipv4/block/"${2/\//-}" '{"state":"confirmed"}'
}

peer() { # NAME SPEC
	put $V3/bgppeers/"$1" '{"kind":"BGPPeer","metadata":{"name":"'"$1"'"},"spec":'"$2"'}'
}

# machine NAME ADDRESS: a namespace on the segment
machine() {
	mkdir -p "$T/$1"
	ip netns add "$1"
	ip -n "$1" link set lo up
	ip link add "v-$1" master segment type veth peer name eth0 netns "$1"
	ip link set "v-$1" up
	ip -n "$1" address add "$2/24" dev eth0
	ip -n "$1" link set eth0 up
}

# As the tests run in ASan's build, too: the descriptors of bats are closed.
bird_start() {
	ip netns exec "$1" bird -R -f -c "$T/$1/bird.conf" -s "$T/$1/bird.ctl" -P "$T/$1/bird.pid" \
		>>"$T/$1/bird.log" 2>&1 3>&- 4>&- &
}

confd_start() {
	DATASTORE_TYPE=sqlite MARGAY_SQLITE_PATH=$DB NODENAME=$1 MARGAY_RUN_DIR=$T/$1/run \
		BIRD_CTL=$T/$1/bird.ctl BIRD_CONF_DIR=$T/$1 MARGAY_SECRET_DIR=$T/secrets \
		MARGAY_CONFIG='' MARGAY_LOG_LEVEL=debug \
		ip netns exec "$1" "$BIN/margay-confd" >>"$T/$1/confd.log" 2>&1 3>&- 4>&- &
	echo $! >"$T/$1/confd.pid"
}

# node NAME ADDRESS: with BIRD and confd
node() {
	machine "$1" "$2"
	put $V3/nodes/"$1" '{"kind":"Node","metadata":{"name":"'"$1"'"},"spec":{"bgp":{"ipv4Address":"'"$2"'/24"}}}'
	confd_start "$1"
	eventually 5 test -e "$T/$1/bird.conf"
	bird_start "$1"
}

cli() { # NODE COMMAND...
	birdc -s "$T/$1/bird.ctl" "${@:2}"
}

no_protocol() { # NODE NAME
	! cli "$1" show protocols "$2"
}

eventually() { # SECONDS COMMAND...: until it succeeds
	local until=$((${EPOCHREALTIME//[!0-9]/} + $1 * 1000000))
	shift
	until "$@"; do
		[ "${EPOCHREALTIME//[!0-9]/}" -lt "$until" ] || { echo "not within time: $*"; return 1; }
		sleep 0.02
	done
}

# route NODE PREFIX PROTOCOL [VIA]
route() {
	ip -n "$1" -j route show "$2" |
		jq -e --arg p "$3" --arg via "${4:-}" 'any(.[]; .protocol == $p and ($via == "" or .gateway == $via))' >/dev/null
}

no_route() {
	[ "$(ip -n "$1" -j route show "$2")" = '[ ]' ] || [ "$(ip -n "$1" -j route show "$2")" = '[]' ]
}

established() { # NODE PROTOCOL
	cli "$1" show protocols "$2" | grep -q Established
}

ready() { # NODE: what /readyz says
	ip netns exec "$1" curl -s -m 2 http://127.0.0.1:9098/readyz
}

says() { # NODE TEXT
	ready "$1" | grep -q "$2"
}

is_done() { # NODE: all is well, and all that is wanted runs
	ip netns exec "$1" curl -s -m 2 -f -o /dev/null http://127.0.0.1:9098/readyz
}

two_nodes() {
	block n1 10.244.1.0/24
	block n2 10.244.2.0/24
	node n1 10.9.0.1
	node n2 10.9.0.2
	eventually 10 route n1 10.244.2.0/24 bird 10.9.0.2
	eventually 10 route n2 10.244.1.0/24 bird 10.9.0.1
}

@test "a block claimed on one node is in the other's kernel; a released one goes" {
	two_nodes
	block n1 10.244.7.0/24
	eventually 2 route n2 10.244.7.0/24 bird 10.9.0.1
	[ "$(ip -n n2 -j route show 10.244.7.0/24 | jq '.[0].metric // 0')" = 0 ]
	# Only felix writes blackholes.
	no_route n1 10.244.7.0/24
	unput /calico/ipam/v2/host/n1/ipv4/block/10.244.7.0-24
	eventually 2 no_route n2 10.244.7.0/24
	route n2 10.244.1.0/24 bird
	eventually 2 is_done n1
	# BIRD has withdrawn it, which is nothing to repair.
	ip -n n2 route del 10.244.1.0/24
	eventually 2 route n2 10.244.1.0/24 bird
	grep -q "BIRD's route 10.244.1.0/24 was deleted" "$T/n2/confd.log"
	run ! grep "BIRD's route 10.244.7.0/24 was" "$T/n2/confd.log"
}

@test "a route of BIRD's deleted or replaced by hand is back within a second" {
	two_nodes
	ip -n n1 route del 10.244.2.0/24
	eventually 1 route n1 10.244.2.0/24 bird 10.9.0.2
	ip -n n1 route replace 10.244.2.0/24 via 10.9.0.77
	eventually 1 route n1 10.244.2.0/24 bird 10.9.0.2
	ip -n n1 route flush proto bird
	eventually 1 route n1 10.244.2.0/24 bird 10.9.0.2
}

@test "a borrowed address: exported by its host route, and felix's own stays where BGP says otherwise" {
	two_nodes
	ip -n n1 link add cali0 type veth peer name pod0
	ip -n n1 link set cali0 up
	ip -n n1 link set pod0 up
	# Own block: the block alone is announced. Felix's blackhole of it stays felix's.
	ip -n n1 route add blackhole 10.244.1.0/24 proto 80
	ip -n n1 route add 10.244.1.9/32 dev cali0 proto 80
	# From node n2's block:
	ip -n n1 route add 10.244.2.9/32 dev cali0 proto 80
	eventually 2 route n2 10.244.2.9/32 bird 10.9.0.1
	no_route n2 10.244.1.9/32
	ip -n n1 -j route show 10.244.1.0/24 | jq -e '.[0].protocol == "80" and .[0].type == "blackhole"'

	# The pod's address is on n2 as well, for a while: felix's route there is not overwritten ...
	ip -n n2 link add cali0 type veth peer name pod0
	ip -n n2 link set cali0 up
	ip -n n2 link set pod0 up
	ip -n n2 route replace 10.244.2.9/32 dev cali0 proto 80
	eventually 2 bash -c "birdc -s $T/n2/bird.ctl show route for 10.244.2.9/32 | grep -q 'kernel1.*\* (150)'"
	cli n2 reload out kernel1
	cli n1 reload out Mesh_10_9_0_2
	ip -n n2 route del 10.244.1.0/24
	eventually 1 route n2 10.244.1.0/24 bird
	route n2 10.244.2.9/32 80
	# ... and when it goes, BGP's is there.
	ip -n n2 route del 10.244.2.9/32 dev cali0
	eventually 1 route n2 10.244.2.9/32 bird 10.9.0.1
}

@test "an address goes out by itself until its block is ours, and again when it is not any more" {
	two_nodes
	ip -n n1 link add cali0 type veth peer name pod0
	ip -n n1 link set cali0 up
	ip -n n1 link set pod0 up
	ip -n n1 route add 10.244.5.9/32 dev cali0 proto 80
	eventually 2 route n2 10.244.5.9/32 bird
	block n1 10.244.5.0/24
	eventually 2 route n2 10.244.5.0/24 bird
	eventually 4 no_route n2 10.244.5.9/32
	unput /calico/ipam/v2/host/n1/ipv4/block/10.244.5.0-24
	eventually 4 route n2 10.244.5.9/32 bird
	no_route n2 10.244.5.0/24
}

@test "a bad peer is named and left out, and blocks nothing else" {
	two_nodes
	mkdir -p "$T/secrets/bgp"
	printf 'with a "quote' >"$T/secrets/bgp/bad"
	peer bad-password '{"peerIP":"10.9.0.50","asNumber":65001,"password":{"secretKeyRef":{"name":"bgp","key":"bad"}}}'
	peer no-secret '{"peerIP":"10.9.0.51","asNumber":65001,"password":{"secretKeyRef":{"name":"bgp","key":"none"}}}'
	peer no-as '{"peerIP":"10.9.0.52"}'
	peer good '{"peerIP":"10.9.0.53","asNumber":65001}'
	block n1 10.244.8.0/24
	eventually 2 route n2 10.244.8.0/24 bird
	eventually 2 cli n1 show protocols Global_10_9_0_53
	for name in bad-password no-secret no-as; do
		grep -q "BGPPeer $name" "$T/n1/confd.log"
	done
	run ! grep -q quote "$T/n1/peers.inc"
	[ "$(cli n1 show protocols | grep -c Global_)" = 1 ]
	is_done n1
}

@test "a password that comes, and one that is exchanged as Kubernetes does it" {
	two_nodes
	peer router '{"peerIP":"10.9.0.50","asNumber":65001,"password":{"secretKeyRef":{"name":"bgp","key":"tor"}}}'
	eventually 2 grep -q 'BGPPeer router: the password: there is no secret' "$T/n1/confd.log"
	mkdir -p "$T/secrets/bgp/..1"
	echo first >"$T/secrets/bgp/..1/tor"
	ln -s ..1 "$T/secrets/bgp/..data"
	ln -s ..data/tor "$T/secrets/bgp/tor"
	eventually 2 grep -q '"first"' "$T/n1/peers.inc"
	eventually 2 cli n1 show protocols Global_10_9_0_50
	mkdir "$T/secrets/bgp/..2"
	echo second >"$T/secrets/bgp/..2/tor"
	ln -s ..2 "$T/secrets/bgp/..new"
	mv -T "$T/secrets/bgp/..new" "$T/secrets/bgp/..data"
	eventually 2 grep -q '"second"' "$T/n1/peers.inc"
	eventually 2 is_done n1
	# Gone, and with it the session, rather than one without a password.
	rm -r "$T/secrets"
	eventually 2 no_protocol n1 Global_10_9_0_50
}

@test "a configuration that BIRD refuses is reported with its place, and the one before stays" {
	mkdir "$T/templates"
	sed 's/hold time/held time/' "$BATS_TEST_DIRNAME/../../etc/templates/peers.inc.mustache" \
		>"$T/templates/peers.inc.mustache"
	two_nodes
	before=$(cat "$T/n1/peers.inc")
	stop_confd
	MARGAY_TEMPLATE_DIR=$T/templates confd_start n1
	eventually 3 says n1 'refuses.*peers.inc:[0-9]*:[0-9]* syntax error'
	[ "$(cat "$T/n1/peers.inc")" = "$before" ]
	established n1 Mesh_10_9_0_2
	route n1 10.244.2.0/24 bird
	# The next start reads what is good.
	stop_confd
	confd_start n1
	eventually 3 is_done n1
}

monitored() { # NODE PREFIX: set now, it was told. The same once more is no change, and not told.
	ip -n "$1" route add blackhole "$2" proto static metric $((++marks))
	grep -q "$2" "$T/$1/monitor"
}

# From here on, until monitor_stop, each change of a route is in the file "monitor".
monitor_start() { # NODE
	marks=0
	ip -n "$1" monitor route >"$T/$1/monitor" 3>&- 4>&- &
	echo $! >"$T/$1/monitor.pid"
	eventually 2 monitored "$1" 10.77.0.1
}

monitor_stop() { # NODE
	eventually 2 monitored "$1" 10.77.0.2
	kill "$(cat "$T/$1/monitor.pid")"
}

@test "BIRD killed and restarted: no route goes, and it runs what was rendered" {
	two_nodes
	monitor_start n1
	monitor_start n2
	kill -9 "$(cat "$T/n1/bird.pid")"
	eventually 2 bash -c "! birdc -s $T/n1/bird.ctl show status"
	block n1 10.244.9.0/24
	route n1 10.244.2.0/24 bird
	eventually 2 says n1 'waiting for BIRD'
	bird_start n1
	eventually 20 route n2 10.244.9.0/24 bird
	eventually 5 is_done n1
	monitor_stop n1
	monitor_stop n2
	run ! grep -i deleted "$T/n1/monitor" "$T/n2/monitor"
}

@test "confd killed and started: bytes that are the same are neither written nor loaded" {
	two_nodes
	eventually 3 is_done n1
	before=$(stat -c '%n %i %Y' "$T"/n1/*.inc "$T/n1/bird.conf")
	loaded=$(grep -c Reconfigured "$T/n1/bird.log")
	stop_confd -9
	confd_start n1
	eventually 3 is_done n1
	[ "$(stat -c '%n %i %Y' "$T"/n1/*.inc "$T/n1/bird.conf")" = "$before" ]
	[ "$(grep -c Reconfigured "$T/n1/bird.log")" = "$loaded" ]
}

# Without its old version it would look like one that is not there.
@test "confd started with an object that it cannot decode: what BIRD runs stays, and it is named" {
	two_nodes
	eventually 3 is_done n1
	loaded=$(grep -c Reconfigured "$T/n1/bird.log")
	stop_confd
	put /calico/resources/v3/projectcalico.org/ippools/pool-a '{"spec":'
	block n1 10.244.8.0/24
	confd_start n1
	eventually 3 grep -q 'ippools/pool-a cannot be decoded: BIRD' "$T/n1/confd.log"
	[ "$(grep -c Reconfigured "$T/n1/bird.log")" = "$loaded" ]
	run ! is_done n1
	pool pool-a 10.244.0.0/16 Never
	eventually 3 is_done n1
	eventually 3 route n2 10.244.8.0/24 bird
}

tunnelled() { # NODE PREFIX NEXT-HOP
	ip -n "$1" -j route show "$2" |
		jq -e --arg via "$3" '.[0].dev == "tunl0" and .[0].gateway == $via and (.[0].flags | index("onlink"))' >/dev/null
}

unreachable() { # NODE PREFIX
	ip -n "$1" -j route show "$2" | jq -e '.[0].type == "unreachable" and .[0].protocol == "bird"' >/dev/null
}

# tunnel NODE: up; where the kernel has no IP-in-IP another device has its name
tunnel() {
	ip -n "$1" link show tunl0 || {
		ip -n "$1" link add tunl0 type veth peer name tunl0-end
		ip -n "$1" link set tunl0-end up
	}
	ip -n "$1" link set tunl0 up
}

@test "a pool with IPIP Always: through tunl0, and through nothing else while it is down" {
	pool pool-a 10.244.0.0/16 Always
	pool pool-b 10.245.0.0/16 Never
	block n1 10.244.1.0/24
	block n2 10.244.2.0/24
	block n2 10.245.2.0/24
	node n1 10.9.0.1
	node n2 10.9.0.2
	eventually 10 unreachable n1 10.244.2.0/24
	tunnel n1
	eventually 2 tunnelled n1 10.244.2.0/24 10.9.0.2
	# The other pool's: by the network itself, though the session is the same.
	eventually 2 bash -c "ip -n n1 -j route show 10.245.2.0/24 | jq -e '.[0].dev == \"eth0\"'"
	route n1 10.245.2.0/24 bird 10.9.0.2
	ip -n n1 link set tunl0 down
	eventually 2 unreachable n1 10.244.2.0/24
	route n1 10.245.2.0/24 bird 10.9.0.2
	ip -n n1 link set tunl0 up
	eventually 2 tunnelled n1 10.244.2.0/24 10.9.0.2
	ip -n n1 route del 10.244.2.0/24
	eventually 1 tunnelled n1 10.244.2.0/24 10.9.0.2
}

@test "a pool with IPIP CrossSubnet: a neighbour directly, a node behind a router through tunl0" {
	pool pool-a 10.244.0.0/16 CrossSubnet
	block n1 10.244.1.0/24
	block n2 10.244.2.0/24
	block n3 10.244.3.0/24
	machine router 10.9.0.254
	ip netns exec router sysctl -qw net.ipv4.ip_forward=1
	node n1 10.9.0.1
	node n2 10.9.0.2
	node n3 10.8.0.3
	# n3 moves to a network of its own behind the router.
	ip -n n3 link set eth0 netns router name eth1
	ip link set v-n3 netns n3 name eth0
	ip -n n3 address add 10.8.0.3/24 dev eth0
	ip -n n3 link set eth0 up
	ip -n router address add 10.8.0.254/24 dev eth1
	ip -n router link set eth1 up
	ip -n n3 route add default via 10.8.0.254
	for n in n1 n2; do
		ip -n $n route add default via 10.9.0.254
	done
	for n in n1 n2 n3; do
		tunnel $n
	done
	eventually 10 tunnelled n1 10.244.3.0/24 10.8.0.3
	eventually 10 tunnelled n3 10.244.1.0/24 10.9.0.1
	eventually 10 tunnelled n3 10.244.2.0/24 10.9.0.2
	eventually 10 route n1 10.244.2.0/24 bird 10.9.0.2
	[ "$(ip -n n1 -j route show 10.244.2.0/24 | jq -r '.[0] | .dev, .flags[]')" = eth0 ]
	eventually 10 route n2 10.244.1.0/24 bird 10.9.0.1
	[ "$(ip -n n2 -j route show 10.244.1.0/24 | jq -r '.[0] | .dev, .flags[]')" = eth0 ]
	# The tunnel is no neighbour's business.
	ip -n n1 link set tunl0 down
	eventually 2 unreachable n1 10.244.3.0/24
	route n1 10.244.2.0/24 bird 10.9.0.2
}

@test "a router of another AS learns every node's block by eBGP" {
	machine tor 10.9.0.99
	cat >"$T/tor/bird.conf" <<-C
		router id 10.9.0.99;
		protocol device { }
		protocol kernel { ipv4 { export all; }; }
		template bgp node { local 10.9.0.99 as 65099; ipv4 { import all; export none; }; }
		protocol bgp n1 from node { neighbor 10.9.0.1 as 64512; }
		protocol bgp n2 from node { neighbor 10.9.0.2 as 64512; }
	C
	bird_start tor
	peer tor '{"peerIP":"10.9.0.99","asNumber":65099}'
	two_nodes
	eventually 10 established tor n1
	eventually 10 established tor n2
	eventually 2 route tor 10.244.1.0/24 bird 10.9.0.1
	eventually 2 route tor 10.244.2.0/24 bird 10.9.0.2
	[ "$(cli tor show route all 10.244.1.0/24 | grep -c 'BGP.as_path: 64512')" -ge 1 ]
	# A node that leaves: what it announced goes.
	cli n1 down
	eventually 5 no_route tor 10.244.1.0/24
	route tor 10.244.2.0/24 bird
}

@test "a node that joins and leaves" {
	two_nodes
	block n3 10.244.3.0/24
	node n3 10.9.0.3
	eventually 5 route n1 10.244.3.0/24 bird 10.9.0.3
	eventually 5 route n2 10.244.3.0/24 bird 10.9.0.3
	unput $V3/nodes/n3
	eventually 5 no_route n1 10.244.3.0/24
	[ "$(cli n1 show protocols | grep -c Mesh_10_9_0_3)" = 0 ]
}

@test "a file changed or deleted by hand is back, and BIRD runs it" {
	two_nodes
	eventually 3 is_done n1
	before=$(cat "$T/n1/bird.conf")
	sed -i 's/metric 0/metric 7/' "$T/n1/bird.conf"
	eventually 1 bash -c "grep -q 'metric 0' $T/n1/bird.conf"
	rm "$T/n1/peers.inc"
	eventually 1 test -e "$T/n1/peers.inc"
	eventually 1 is_done n1
	[ "$(cat "$T/n1/bird.conf")" = "$before" ]
	established n1 Mesh_10_9_0_2
}

@test "while there is no datastore nothing is rendered, and what runs stays" {
	two_nodes
	eventually 3 is_done n1
	before=$(stat -c '%n %i' "$T"/n1/*.inc "$T/n1/bird.conf")
	stop_confd -9
	real=$DB
	DB=/proc/nowhere/db confd_start n1
	eventually 3 says n1 'BAD *datastore'
	sleep 0.5
	[ "$(grep -c 'warn datastore: datastore /proc/nowhere/db: No such file or directory .*MARGAY_SQLITE_PATH' "$T/n1/confd.log")" = 1 ]
	[ "$(stat -c '%n %i' "$T"/n1/*.inc "$T/n1/bird.conf")" = "$before" ]
	established n1 Mesh_10_9_0_2
	route n1 10.244.2.0/24 bird
	# The node is unknown: nothing either.
	stop_confd
	DB=$real
	unput $V3/nodes/n1
	confd_start n1
	eventually 3 says n1 'configuration: node n1 is not in the datastore yet'
	[ "$(stat -c '%n %i' "$T"/n1/*.inc "$T/n1/bird.conf")" = "$before" ]
}

@test "somebody's own bird.conf is kept beside" {
	machine n1 10.9.0.1
	echo 'protocol device mine { }' >"$T/n1/bird.conf"
	bird_start n1
	put $V3/nodes/n1 '{"kind":"Node","metadata":{"name":"n1"},"spec":{"bgp":{"ipv4Address":"10.9.0.1/24"}}}'
	confd_start n1
	eventually 3 is_done n1
	grep -q mine "$T/n1/bird.conf.before-margay"
	cli n1 show protocols kernel1
}

@test "a route of BIRD's deleted while confd is dead is back when it starts" {
	two_nodes
	eventually 3 is_done n1
	stop_confd -9
	ip -n n1 route del 10.244.2.0/24
	# BIRD answers late, so that the routes are looked at before.
	kill -STOP "$(cat "$T/n1/bird.pid")"
	confd_start n1
	eventually 3 says n1 'ok *datastore'
	kill -CONT "$(cat "$T/n1/bird.pid")"
	# By BIRD's own scan it would take up to 10 s.
	eventually 2 route n1 10.244.2.0/24 bird 10.9.0.2
}

@test "confd killed right after a block went: its addresses are announced by themselves all the same" {
	two_nodes
	ip -n n1 link add cali0 type veth peer name pod0
	ip -n n1 link set cali0 up
	ip -n n1 link set pod0 up
	block n1 10.244.5.0/24
	ip -n n1 route add 10.244.5.9/32 dev cali0 proto 80
	eventually 2 route n2 10.244.5.0/24 bird
	eventually 4 no_route n2 10.244.5.9/32
	# What the block's coming has led to is done.
	sleep 1.5
	unput /calico/ipam/v2/host/n1/ipv4/block/10.244.5.0-24
	eventually 2 no_route n2 10.244.5.0/24
	stop_confd -9
	no_route n2 10.244.5.9/32
	confd_start n1
	eventually 5 route n2 10.244.5.9/32 bird
}

# As a supervisor does: until BIRD stays.
bird_restart() { # NODE
	until bird_start "$1" && sleep 0.3 && kill -0 $! 2>/dev/null; do :; done
}

@test "BIRD starts again whatever became of its files meanwhile" {
	two_nodes
	eventually 3 is_done n1
	kill -9 "$(cat "$T/n1/bird.pid")"
	eventually 2 says n1 'waiting for BIRD'
	rm "$T/n1/nodes.inc"
	: >"$T/n1/bird.conf"
	eventually 2 bird -p -c "$T/n1/bird.conf"
	bird_restart n1
	eventually 5 is_done n1
	# And where confd does not know what BIRD ran: a file that is empty, one that is missing ...
	for harm in "truncate -s 0 $T/n1/bird.conf" "rm $T/n1/peers.inc"; do
		stop_confd
		kill -9 "$(cat "$T/n1/bird.pid")"
		$harm
		run ! bird -p -c "$T/n1/bird.conf"
		confd_start n1
		eventually 3 bird -p -c "$T/n1/bird.conf"
		bird_restart n1
		eventually 5 is_done n1
	done
	# ... or one in the language of another BIRD, which only BIRD itself can tell.
	stop_confd
	kill -9 "$(cat "$T/n1/bird.pid")"
	echo 'protocol bgp of_bird_4 { };' >>"$T/n1/peers.inc"
	confd_start n1
	eventually 3 says n1 'waiting for BIRD'
	bird_restart n1
	eventually 5 is_done n1
	eventually 10 route n2 10.244.1.0/24 bird 10.9.0.1
	grep -q 'BIRD has started 3 times' "$T/n1/confd.log"
}
