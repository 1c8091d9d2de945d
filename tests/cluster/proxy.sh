#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# margay-proxy on a kernel with IPVS: one node with three pods, and a host outside, each a network
# namespace. ipvsadm, nft, conntrack and what clients see are the oracles. For the bed:
# `tests/cluster/bed BIN=... ECHO=... tests/cluster/proxy.sh`, or as root where the host's kernel has
# ip_vs. $BIN holds the programs, $ECHO is tests/cluster/echo.c.
set -u
: "${BIN:?the directory of the programs}" "${ECHO:?tests/cluster/echo.c, compiled}"

T=$(mktemp -d /tmp/margay-proxy-test.XXXXXX)
NS=mpx$$
VIP=10.96.0.10
NODE=10.130.29.80
export DATASTORE_TYPE=sqlite MARGAY_SQLITE_PATH=$T/margay.db MARGAY_RUN_DIR=$T NODENAME=node-80 \
	SERVICE_CLUSTER_IP_RANGE=10.96.0.0/16,fd96::/112
PIDS=()
# shellcheck source=tests/cluster/tap.sh
. "$(dirname "$0")/tap.sh"

cleanup() {
	local p
	for p in "${PIDS[@]}"; do
		kill "$p" 2>/dev/null
	done
	wait 2>/dev/null
	for p in n x a b c; do
		ip netns del $NS-$p 2>/dev/null
	done
	rm -rf "$T"
}
trap cleanup EXIT

on() { # NAMESPACE COMMAND...
	nsenter --net="/run/netns/$NS-$1" -- "${@:2}"
}

context() {
	on n ipvsadm -Ln
	tail -n 20 "$T/proxy.log"
}

# An emulated machine is slower, and so much the more where the host has other work.
slow=1
grep -qs QEMU /sys/class/dmi/id/sys_vendor && slow=10

# The same, however slow the machine is.
within_real() {
	local slow=1
	within "$@"
}

# In $have, on one line, with single blanks. Few processes: emulated, each takes its time.
virtual_servers() {
	local words
	read -r -d '' -a words < <(on n ipvsadm -Ln)
	have=${words[*]}
	echo "$have"
}

# servers PATTERN...: each is in ipvsadm -Ln, blanks apart
servers() {
	virtual_servers
	for pattern; do
		[[ $have =~ $pattern ]] || { echo "missing: $pattern"; return 1; }
	done
}

no_servers() {
	virtual_servers
	for pattern; do
		[[ ! $have =~ $pattern ]] || { echo "still there: $pattern"; return 1; }
	done
}

# answers NAMESPACE PROTOCOL IP PORT N SOURCE NAME...: N answers, from each NAME and no other, all of
# whom saw SOURCE ("." = any); the shares are fair.
answers() {
	local from=$1 proto=$2 ip=$3 port=$4 n=$5 source=$6 lines line name seen
	local -A count=()
	shift 6
	mapfile -t lines < <(on "$from" "$ECHO" ask "$proto" "$ip" "$port" "$n")
	printf '%s\n' "${lines[@]}"
	for line in "${lines[@]}"; do
		read -r name seen <<<"$line"
		[[ " $* " == *" $name "* && $source =~ ^(\.|"$seen")$ ]] ||
			{ echo "\"$line\": want answers of $*, as seen from $source"; return 1; }
		count[$name]=$((${count[$name]:-0} + 1))
	done
	for name; do
		((${count[$name]:-0} >= n / $# / 2 && ${count[$name]:-0} <= 2 * n / $#)) ||
			{ echo "$name: ${count[$name]:-0} of $n"; return 1; }
	done
}

refused() { # NAMESPACE PROTOCOL IP PORT
	local out
	out=$(on "$1" "$ECHO" ask "$2" "$3" "$4" 3)
	printf '%s\n' "$out"
	[ "$out" = $'refused\nrefused\nrefused' ]
}

apply() {
	"$BIN/margayctl" apply -f - >"$T/apply.log" 2>&1 || { cat "$T/apply.log"; return 1; }
}

endpoint() { # NAME IP
	apply <<-E
		apiVersion: projectcalico.org/v3
		kind: WorkloadEndpoint
		metadata:
		  name: node--80-k8s-web--$1-eth0
		  namespace: default
		  labels: {app: web}
		spec:
		  node: node-80
		  orchestrator: k8s
		  pod: web-$1
		  endpoint: eth0
		  interfaceName: cali$1
		  ipNetworks: [$2/32]
	E
}

ip_of() { # NAME: hexadecimal a is 10
	echo "10.244.0.$((16#$1))"
}

no_endpoint() { # NAME
	"$BIN/margayctl" delete workloadendpoint "node--80-k8s-web--$1-eth0" --skip-not-exists >/dev/null
}

service() { # AFFINITY
	apply <<-E
		apiVersion: v1
		kind: Service
		metadata: {name: web, namespace: default}
		spec:
		  type: NodePort
		  clusterIP: $VIP
		  selector: {app: web}
		  sessionAffinity: $1
		  sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}
		  ports:
		  - {name: tcp, protocol: TCP, port: 80, targetPort: 8080, nodePort: 30080}
		  - {name: udp, protocol: UDP, port: 80, targetPort: 8080, nodePort: 30080}
	E
}

# background NAMESPACE COMMAND...: $! is the command's own number
background() {
	exec nsenter --net="/run/netns/$NS-$1" -- "${@:2}"
}

start_proxy() { # OPTION...
	background n "$BIN/margay-proxy" "$@" >>"$T/proxy.log" 2>&1 &
	PROXY=$!
	PIDS+=("$PROXY")
}

# shellcheck disable=SC2016 # it is the other bash that expands it
ready() {
	on n bash -c 'exec 3<>/dev/tcp/127.0.0.1/10256 && printf "GET /readyz HTTP/1.0\r\n\r\n" >&3 &&
		read -r line <&3 && [[ $line == *" 200 "* ]]'
}

dump() {
	on n ipvsadm -Sn | sort
	on n nft list ruleset
	on n ip route show table local
}

# ---- the node, its pods, and the host outside ----
for p in n x a b c; do
	ip netns add $NS-$p
	on $p ip link set lo up
done
on n ip link add eth0 type veth peer name eth0 netns $NS-x
on n ip addr add $NODE/24 dev eth0
on x ip addr add 10.130.29.100/24 dev eth0
on n ip link set eth0 up
on x ip link set eth0 up
on x ip route add 10.96.0.0/16 via $NODE
i=10
for p in a b c; do
	on n ip link add cali$p type veth peer name eth0 netns $NS-$p
	on n ip link set cali$p up address ee:ee:ee:ee:ee:ee
	on n ip route add 10.244.0.$i dev cali$p
	on $p ip link set eth0 up
	on $p ip addr add 10.244.0.$i/32 dev eth0
	on $p ip route add 169.254.1.1 dev eth0
	on $p ip route add default via 169.254.1.1
	on $p ip neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0
	background $p "$ECHO" serve $p 8080 >/dev/null &
	PIDS+=($!)
	i=$((i + 1))
done
# What must not be reached through a Service's address; a virtual server of somebody else's.
background n "$ECHO" serve host 22 80 6443 >/dev/null &
PIDS+=($!)
on n ipvsadm -A -t 192.0.2.1:80 -s wrr
on n ipvsadm -a -t 192.0.2.1:80 -r 10.244.0.10:8080 -m
on n ipvsadm -A -t $NODE:31999 -s wrr
on n ipvsadm -A -f 7 -s rr

apply <<-E
	apiVersion: projectcalico.org/v3
	kind: IPPool
	metadata: {name: pods}
	spec: {cidr: 10.244.0.0/16, blockSize: 24, ipipMode: Always, natOutgoing: true}
	---
	apiVersion: projectcalico.org/v3
	kind: Node
	metadata: {name: node-80}
	spec: {bgp: {ipv4Address: $NODE/24}}
	---
	apiVersion: v1
	kind: Service
	metadata: {name: kubernetes, namespace: default}
	spec:
	  clusterIP: 10.96.0.1
	  ports: [{name: https, port: 443, targetPort: 6443}]
	---
	apiVersion: discovery.k8s.io/v1
	kind: EndpointSlice
	metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
	addressType: IPv4
	ports: [{name: https, port: 6443}]
	endpoints: [{addresses: [$NODE]}]
E
endpoint a 10.244.0.10
endpoint b 10.244.0.11
endpoint c 10.244.0.12
service None

start_proxy
step "ready" within 30 ready
step "virtual servers" servers "TCP 10.96.0.1:443 rr" "$NODE:6443 Masq 1" "TCP $VIP:80 rr" \
	"UDP $VIP:80 rr" "TCP $NODE:30080 rr" "UDP $NODE:30080 rr" "10.244.0.12:8080 Masq 1"
step "others' virtual servers are left" servers "TCP 192.0.2.1:80 wrr" "TCP $NODE:31999 wrr" "FWM 7 rr"

step "ClusterIP, TCP, from a pod (its own share comes back masqueraded)" \
	answers a tcp $VIP 80 30 . a b c
step "ClusterIP, TCP, from the node, with its own address" answers n tcp $VIP 80 30 $NODE a b c
step "ClusterIP, UDP, from a pod" answers b udp $VIP 80 30 . a b c
step "ClusterIP, UDP, from the node" answers n udp $VIP 80 30 $NODE a b c
step "ClusterIP, TCP, from outside, masqueraded" answers x tcp $VIP 80 30 . a b c
step "NodePort, TCP, from outside, masqueraded" answers x tcp $NODE 30080 30 . a b c
step "NodePort, UDP, from outside" answers x udp $NODE 30080 30 . a b c
step "NodePort from the node" answers n tcp $NODE 30080 30 . a b c
step "NodePort from a pod" answers c tcp $NODE 30080 30 . a b c
step "a node's own server, from the node" answers n tcp 10.96.0.1 443 10 $NODE host
step "a node's own server, from a pod" answers a tcp 10.96.0.1 443 10 10.244.0.10 host

sources() { # what each server saw
	on "$1" "$ECHO" ask tcp "$2" "$3" 30 | sort -u
}
pod_source_kept() {
	local out
	out=$(sources a $VIP 80)
	printf '%s\n' "$out"
	grep -q '^b 10.244.0.10$' <<<"$out" && grep -q '^c 10.244.0.10$' <<<"$out" &&
		grep -q '^a ' <<<"$out" && ! grep -q '^a 10.244.0.10$' <<<"$out"
}
step "a pod's address is kept, but for its way to itself" pod_source_kept
outside_hidden() {
	local out
	out=$(sources x $VIP 80; sources x $NODE 30080)
	printf '%s\n' "$out"
	[ -n "$out" ] && ! grep -q '10.130.29.100' <<<"$out"
}
step "the address outside is hidden" outside_hidden

step "a host's server does not answer at a Service's address, from a pod" refused a tcp $VIP 22
step "nor from the node" refused n tcp $VIP 22
step "nor from outside, UDP" refused x udp $VIP 22
step "an address of no Service is refused" refused a tcp 10.96.77.7 80
step "ping of a Service is answered" on a ping -c 1 -W 2 $VIP

# ---- removal ----
mkfifo "$T/in"
background x "$ECHO" hold $NODE 30080 <"$T/in" >"$T/hold" &
PIDS+=($!)
exec 9>"$T/in"
within 5 grep -q . "$T/hold"
victim=$(cut -d' ' -f1 <"$T/hold")
others=$(tr ' ' '\n' <<<"a b c" | grep -v "$victim")
victim_ip=$(ip_of "$victim")
no_endpoint "$victim"
step "an endpoint that goes has weight 0" within 5 servers "$victim_ip:8080 Masq 0"
# shellcheck disable=SC2086
step "and gets no new connection" answers x tcp $NODE 30080 60 . $others
# shellcheck disable=SC2086
step "nor from a pod" answers c tcp $VIP 80 60 . $others
# shellcheck disable=SC2086
step "nor UDP" answers x udp $VIP 80 30 . $others
still_talks() {
	echo hello >&9
	within 5 grep -q hello "$T/hold"
}
step "its connection lives on" still_talks
no_stale() {
	local out
	out=$(on n conntrack -L -p udp --dst $VIP 2>/dev/null) || return 1
	! grep "src=$victim_ip " <<<"$out"
}
step "no UDP connection leads to it" no_stale
endpoint "$victim" "$victim_ip"
step "it comes back with its weight" within 5 servers "$victim_ip:8080 Masq 1"
step "its connection still lives" still_talks
no_endpoint "$victim"
exec 9>&-
step "it is deleted when it has no connection" within 60 no_servers "$victim_ip:8080 Masq 0"
endpoint "$victim" "$victim_ip"
within 5 servers "$victim_ip:8080 Masq 1"

# A flow of UDP: one client, one port.
flow=$(on x "$ECHO" ask udp $VIP 80 5 40000 | cut -d' ' -f1 | sort -u)
step "a flow of UDP has one endpoint" grep -qx '[abc]' <<<"$flow"
no_endpoint "$flow"
no_udp_server() {
	local out
	out=$(on n ipvsadm -Ln -u $VIP:80) && ! grep -q "$1" <<<"$out"
}
flow_moves() {
	local out
	within 5 no_udp_server "$(ip_of "$flow")"
	out=$(on x "$ECHO" ask udp $VIP 80 5 40000)
	printf '%s\n' "$out"
	[ "$(grep -c '^[abc] ' <<<"$out")" -ge 4 ] && ! grep -q "^$flow " <<<"$out"
}
step "which moves when that is gone, with one datagram lost at most" flow_moves

for p in a b c; do no_endpoint $p; done
step "a Service without endpoints is refused, TCP" within 60 refused a tcp $VIP 80
step "and UDP, also on the node" refused n udp $VIP 80
endpoint a 10.244.0.10
step "and answers when there is one again" within 5 answers n tcp $VIP 80 6 $NODE a
endpoint b 10.244.0.11
endpoint c 10.244.0.12
within 5 servers "10.244.0.12:8080 Masq 1"

# ---- affinity ----
service ClientIP
step "affinity" within 5 servers "TCP $VIP:80 rr persistent 600"
sticks() {
	[ "$(on x "$ECHO" ask tcp $VIP 80 20 | sort -u | wc -l)" -eq 1 ]
}
step "a client sticks to its endpoint" sticks
service None
step "until it is switched off" within 5 no_servers "persistent"

# ---- restart ----
dump >"$T/before"
background n nft monitor >"$T/nft-monitor" &
PIDS+=($!)
MONITOR=$!
background n ip monitor route >"$T/ip-monitor" &
PIDS+=($!)
IPMONITOR=$!
kill -9 "$PROXY"
wait "$PROXY" 2>/dev/null
step "it is dead" eval '! ready'
step "traffic flows without the proxy" answers c tcp $VIP 80 30 . a b c
start_proxy
step "ready again" within 30 ready
dump >"$T/after"
step "a restart changes nothing" diff "$T/before" "$T/after"
# What the monitors were told before, they have written when they have written this.
on n nft add table ip marked
on n ip route add blackhole 203.0.113.0/24
within 10 grep -q marked "$T/nft-monitor"
within 10 grep -q 203.0.113.0/24 "$T/ip-monitor"
kill $MONITOR $IPMONITOR
on n nft delete table ip marked
on n ip route del blackhole 203.0.113.0/24
nothing_else() { # FILE MARK
	grep -q "$2" "$1" && ! grep -v -e "$2" -e '^# new generation' "$1"
}
step "and writes nothing to nftables" nothing_else "$T/nft-monitor" marked
step "nor to the routes" nothing_else "$T/ip-monitor" 203.0.113.0/24

kill -9 "$PROXY"
wait "$PROXY" 2>/dev/null
no_endpoint c
# From here on it reads the kernel again only when the kernel tells it something.
start_proxy --ipvs-sync-period 0
step "what changed meanwhile is done" within 30 servers "10.244.0.11:8080 Masq 1"
step "an endpoint that went meanwhile has gone" within 10 no_servers "10.244.0.12:8080 Masq 1"
endpoint c 10.244.0.12
within 10 servers "10.244.0.12:8080 Masq 1"

# ---- tampering, told by the kernel: there is no timer ----
on n ip route del local 10.96.0.0/16 dev lo
route_is_back() {
	on n ip route show table local | grep -q 'local 10.96.0.0/16 dev lo.*src 10.130.29.80'
}
step "the route comes back by event" within 1 route_is_back
rules=$(on n nft -s list table ip margay-proxy)
for what in "delete table ip margay-proxy" "flush chain ip margay-proxy filter-input" \
	"flush set ip margay-proxy hairpin" "delete element ip margay-proxy tcp-node-ports { 30080 }" \
	"add rule ip margay-proxy nat-postrouting counter"; do
	# shellcheck disable=SC2086
	on n nft $what
	rules_are_back() { [ "$(on n nft -s list table ip margay-proxy)" = "$rules" ]; }
	step "nft $what: repaired by event" within 1 rules_are_back
done

# ---- at rest, for the record: bench/run has no IPVS. The timer, which is not set here, adds its own ----
wakeups() {
	awk '/^voluntary_ctxt_switches/ { print $2 }' "/proc/$PROXY/status"
}
sleep 5
n_wakeups=$(wakeups)
sleep 20
echo "# in 20 s without a change: $(($(wakeups) - n_wakeups)) wakeups, PSS" \
	"$(awk '/^Pss:/ { print $2 }' "/proc/$PROXY/smaps_rollup") kB"

# ---- tampering with IPVS, which the kernel tells nobody: it is read again every 20 s ----
kill -9 "$PROXY"
wait "$PROXY" 2>/dev/null
start_proxy
step "ready with the timer" within 30 ready
on n ipvsadm -D -t $VIP:80
on n ipvsadm -d -u $VIP:80 -r 10.244.0.11:8080
on n ipvsadm -e -t $NODE:30080 -r 10.244.0.10:8080 -m -w 7
on n ipvsadm -E -t 10.96.0.1:443 -s wrr
ipvs_is_back() {
	diff <(grep -e '^-[Aa]' "$T/before") <(on n ipvsadm -Sn | sort | grep -e '^-[Aa]')
}
step "IPVS is repaired by the paced reading" within_real 30 ipvs_is_back

# ---- the node's address ----
on n ip addr add 10.130.29.180/24 dev eth0
step "a second address has the node port" within 5 servers "TCP 10.130.29.180:30080 rr"
on n ip addr del 10.130.29.180/24 dev eth0
step "until it is gone" within 5 no_servers "10.130.29.180:30080"
on n ip addr flush dev eth0
on n ip addr add $NODE/24 dev eth0
step "the route is back after the address was away" within 5 route_is_back

# ---- the other family ----
kill "$PROXY"
wait "$PROXY"
on n ip -6 addr add fd00::80/64 dev eth0 nodad
on n ip -6 route add fd44::10 dev calia
apply <<-E
	apiVersion: v1
	kind: Service
	metadata: {name: six, namespace: default}
	spec:
	  clusterIP: fd96::6
	  ports: [{port: 80, protocol: TCP}]
	---
	apiVersion: discovery.k8s.io/v1
	kind: EndpointSlice
	metadata: {name: six, namespace: default, labels: {kubernetes.io/service-name: six}}
	addressType: IPv6
	ports: [{port: 8080}]
	endpoints: [{addresses: ["fd44::10"]}]
E
start_proxy
step "IPv6" within 30 servers 'TCP \[fd96::6\]:80 rr' '\[fd44::10\]:8080 Masq 1'
route6_is_there() {
	on n ip -6 route show table local | grep 'local fd96::/112 dev lo proto 81'
}
step "its route" within 5 route6_is_there
step "its rules" on n nft list set ip6 margay-proxy service-ips

# ---- deletion ----
"$BIN/margayctl" delete service web -n default >/dev/null
step "a deleted Service is gone" within 5 no_servers "$VIP:80" ":30080"
step "and refused" refused a tcp $VIP 80
step "the other one is left" servers "TCP 10.96.0.1:443 rr"
step "others' virtual servers were left" servers "TCP 192.0.2.1:80 wrr" "TCP $NODE:31999 wrr" "FWM 7 rr"
kill "$PROXY"
wait "$PROXY"
step "SIGTERM leaves everything" servers "TCP 10.96.0.1:443 rr"

tap_end
