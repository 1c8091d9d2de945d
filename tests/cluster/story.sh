#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2317 # what a scenario's file sets; steps are called by name
#
# A cluster is built and shown at work: what demo.sh tells, in tests/cluster/bed. Its argument is a file
# with all numbers, golden.conf by default. Each step prints what is expected, what was seen, and ok
# or FAILED; the exit status is 0 if none failed. With KEEP set a shell follows.
set -u
# shellcheck source=tests/cluster/build.sh
. "$(dirname "$0")/build.sh"

# ---- tables ----

wanted_routes() { # NODE
	local me=$1 block node pod
	echo "0.0.0.0 $TOR 0.0.0.0 UG 0 eth0"
	echo "${NODE_PREFIX%/*} 0.0.0.0 $(mask "${NODE_PREFIX#*/}") U 0 eth0"
	for node in "${!NODE_IP[@]}"; do
		for block in $(blocks_of "$node"); do
			if [ "$node" = "$me" ]; then
				echo "${block%/*} 0.0.0.0 $(mask "${block#*/}") U 0 *"
			elif is_tunnelled "$block"; then
				echo "${block%/*} ${NODE_IP[$node]} $(mask "${block#*/}") UG 0 tunl0"
			else
				echo "${block%/*} ${NODE_IP[$node]} $(mask "${block#*/}") UG 0 eth0"
			fi
		done
	done
	for pod in "${!POD_NODE[@]}"; do
		[ "${POD_NODE[$pod]}" != "$me" ] ||
			echo "${POD_IP[$pod]} 0.0.0.0 255.255.255.255 UH 0 cali"
	done
}

# route -n says just what the datastore implies. An interface of a pod's is cali and 11 digits.
routes_match() { # NODE
	on "$1" route -n >"$T/route"
	cat "$T/route"
	awk 'NR > 2 { print $1, $2, $3, $4, $5, $8 }' "$T/route" | sed -E 's/ cali[0-9a-f]{11}$/ cali/' |
		sort >"$T/have"
	wanted_routes "$1" | sort | diff - "$T/have" || return 1
}

# The routes to other nodes' blocks are BIRD's, and no other route is.
bird_routes_match() { # NODE
	local node block via
	for node in "${!NODE_IP[@]}"; do
		[ "$node" != "$1" ] || continue
		for block in $(blocks_of "$node"); do
			via=eth0
			! is_tunnelled "$block" || via=tunl0
			has_route "$1" "$block" bird "${NODE_IP[$node]}" "$via" || return 1
		done
	done
	on "$1" ip route show proto bird
}

show_protocols() { # NODE
	on "$1" birdc show protocols
	established "$1" ${#NODES[@]}
}

node_status() { # NODE
	local out
	out=$(on "$1" margayctl node status) || return 1
	printf '%s\n' "$out"
	[ "$(grep -c Established <<<"$out")" = ${#NODES[@]} ]
}

# virtual_server NODE HEAD REAL-SERVER...: just these
virtual_server() {
	local node=$1 head=$2 have
	shift 2
	have=$(on "$node" ipvsadm -Ln | tr -s ' ' |
		awk -v head="$head " '/^(TCP|UDP)/ { on = index($0 " ", head) == 1; if (on) print }
			/ ->/ && on { print $2, $3, $4 }')
	printf '%s\n' "$have"
	[ "$(sed 1d <<<"$have" | sort)" = "$(printf '%s Masq 1\n' "$@" | sort)" ] ||
		{ echo "want $head with $*"; return 1; }
}

reals() { # POD-PREFIX PORT
	local pod
	for pod in "${!POD_IP[@]}"; do
		[[ $pod != "$1"* ]] || echo "${POD_IP[$pod]}:$2"
	done
}

# The table as ipvsadm prints it, and that it is this and nothing else.
ipvs_matches() { # NODE
	local more
	on "$1" ipvsadm -Ln
	more=$(on "$1" ipvsadm -Ln | awk '/^(TCP|UDP)/ { print $1, $2 }' |
		grep -vxE "TCP ($KUBERNETES_IP:443|$DNS_IP:53|$WEB_IP:80|[0-9.]+:$WEB_PORT)|UDP $DNS_IP:53") || true
	[ -z "$more" ] || { echo "nobody has asked for $more"; return 1; }
	ipvs_has_all "$1" >"$T/ipvs" || { cat "$T/ipvs"; return 1; }
}

ipvs_has_all() { # NODE
	local apis=() node
	for node in $(node_names); do
		apis+=("${NODE_IP[$node]}:6443")
	done
	# shellcheck disable=SC2046
	virtual_server "$1" "TCP $KUBERNETES_IP:443 rr" "${apis[@]}" &&
		virtual_server "$1" "TCP $DNS_IP:53 rr" $(reals coredns 53) &&
		virtual_server "$1" "UDP $DNS_IP:53 rr" $(reals coredns 53) &&
		virtual_server "$1" "TCP $WEB_IP:80 rr" $(reals web- "$POD_PORT") &&
		virtual_server "$1" "TCP ${NODE_IP[$1]}:$WEB_PORT rr" $(reals web- "$POD_PORT")
}

show_nodes() {
	margayctl get nodes -o wide && margayctl get workloadendpoints -A && margayctl ipam show --show-blocks
}

# What the first node made, whatever the datastore.
cluster_resources() {
	local kind
	for kind in felixconfiguration bgpconfiguration ipamconfiguration; do
		margayctl get "$kind" default -o name || return 1
	done
	margayctl get clusterinformation default -o json >"$T/cluster"
	jq -c .spec "$T/cluster"
	jq -e '.spec | (.clusterGUID | test("^[0-9a-f]{32}$")) and .datastoreReady and
		(.clusterType | startswith("bgp")) and .calicoVersion == null' "$T/cluster" >/dev/null
}

tables() {
	local node
	chapter "tables"
	step "margayctl on what the first node has made" "the cluster's identity and configuration" cluster_resources
	step "margayctl on nodes, endpoints and addresses" "all are there" show_nodes
	for node in $(node_names); do
		step "route -n on $node" \
			"the connected network, a blackhole for its blocks, its pods by cali*, other blocks through their nodes; metric 0" \
			within 20 routes_match "$node"
		step "Routes to other nodes' blocks on $node" "each is BIRD's own" bird_routes_match "$node"
	done
	for node in $(node_names); do
		step "birdc show protocols on $node" "sessions with all other nodes and the router" \
			within 20 show_protocols "$node"
	done
	step "margayctl node status on $(node_names | head -n 1)" "the same sessions" \
		node_status "$(node_names | head -n 1)"
	for node in $(node_names); do
		ipvs_step "ipvsadm -Ln on $node" "kubernetes, kube-dns and web, with their endpoints" \
			within 10 ipvs_matches "$node"
	done
}

# ---- traffic ----

# From one place to all pods, by ping and by TCP.
reach_all() { # PLACE
	local targets=() pod
	for pod in $(all_pods); do
		targets+=("${POD_IP[$pod]}")
	done
	# shellcheck disable=SC2016
	at "$1" bash -c '
		rc=0
		port=$1
		shift
		for ip; do
			ping -q -c 1 -W 5 "$ip" >/dev/null || { echo "no ping of $ip"; rc=1; }
			"$ECHO" ask tcp "$ip" "$port" 1 >/dev/null || { echo "no TCP to $ip"; rc=1; }
		done
		exit $rc' reach "$POD_PORT" "${targets[@]}" || return 1
}

reach_all_from() { # PLACE...
	local place bad=0
	for place; do
		reach_all "$place" || { echo "from $place"; bad=1; }
	done
	echo "$# places, ${#POD_NODE[@]} pods each"
	return "$bad"
}

traffic() {
	chapter "traffic"
	# shellcheck disable=SC2046
	step "Ping and TCP from every node to every pod" "all arrive" reach_all_from $(node_names)
	# shellcheck disable=SC2046
	step "Ping and TCP from every pod to every pod" "all arrive" reach_all_from $(all_pods)
}

pour() { # FROM-POD TO-POD: 20 MB
	local sum
	in_pod "$2" timeout 60 socat -u -b 131072 TCP-LISTEN:9000,reuseaddr - | sha256sum >"$T/poured" &
	in_pod "$1" socat -u -b 131072 "FILE:$T/20MB" "TCP:${POD_IP[$2]}:9000,retry=50,interval=0.1"
	wait $!
	sum=$(cut -c1-64 "$T/poured")
	[ "$sum" = "$(sha256sum <"$T/20MB" | cut -c1-64)" ] ||
		{ echo "$1 to $2: what arrived differs"; return 1; }
	echo "$1 to $2: 20 MB, sha256 ${sum:0:16}..."
}

pour_all() {
	local a b
	head -c 20000000 /dev/urandom >"$T/20MB"
	for a in $(node_names); do
		for b in $(node_names); do
			[ "$a" = "$b" ] || pour "$(shell_of "$a")" "$(shell_of "$b")" || return 1
		done
	done
}

mtu_holds() { # FROM-POD TO-POD
	local mtu
	mtu=$(in_pod "$1" cat /sys/class/net/eth0/mtu)
	echo "the interface's MTU is $mtu"
	in_pod "$1" ping -q -M 'do' -c 2 -W 2 -s $((mtu - 28)) "${POD_IP[$2]}" || return 1
	! in_pod "$1" ping -q -M 'do' -c 1 -W 2 -s $((mtu - 27)) "${POD_IP[$2]}"
}

tunnels() {
	chapter "what passes through"
	step "20 MB by TCP between the pods of each two nodes, both ways" "they arrive as they were sent" pour_all
	# shellcheck disable=SC2046
	step "The largest packet with DF set" "passes, and one byte more does not" mtu_holds $(ends)
}

# From one of these addresses to another of them, in a line of tcpdump's: behind its Nth "IP".
among() { # N ADDRESS...
	local n=$1
	shift
	awk -v n="$n" -v addresses="$*" '
		BEGIN { count = split(addresses, list, " "); for (i = 1; i <= count; i++) is[list[i]] = 1 }
		{
			for (i = seen = 0; i < NF && seen < n;) seen += $(++i) == "IP"
			from = $(i + 1); to = $(i + 3); sub(/:$/, "", to)
			if (split(from, parts, ".") == 5) { sub(/\.[0-9]+$/, "", from); sub(/\.[0-9]+$/, "", to) } # ports
			if (seen == n && from in is && to in is) print
		}' | head -n 3
}

on_the_wire() {
	local read=(tcpdump -n -r "$T/wire.pcap")
	end "$TCPDUMP" -TERM
	"${read[@]}" 'tcp port 179 and tcp[tcpflags] & tcp-push != 0' 2>/dev/null | among 1 "${NODE_IP[@]}" >"$T/bgp"
	"${read[@]}" 'ip proto 4' 2>/dev/null | among 2 "${POD_IP[@]}" >"$T/ipip"
	cat "$T/bgp" "$T/ipip"
	grep -q BGP "$T/bgp" && grep -q 'IP .* > .*: IP ' "$T/ipip"
}

wire() {
	chapter "on the wire"
	[ -z "${PLAIN:-}" ] || { leave_out "What was captured on the nodes' segment" IPIP; return; }
	step "What was captured on the nodes' segment" \
		"BGP between nodes, and IP in IP (protocol 4) around the pods' packets" on_the_wire
}

# ---- Services ----

count_of() { # NAME PROGRAM: what a server has written of those it answered
	wc -l <"$T/log/$1.$2"
}

# ipvsadm's counters, real server by real server. The kernel adds them up every 2 s, in a busy machine
# some tenths of a second later.
conns() { # NODE PROTOCOL-FLAG VIP:PORT
	on "$1" ipvsadm -Ln --stats "$2" "$3" | awk '/ ->/ && NR > 3 { print $2, $3 }'
}

conns_settled() { # NODE PROTOCOL-FLAG VIP:PORT
	local was='' now
	until now=$(conns "$@") && [ "$was" = "$now" ]; do
		was=$now
		sleep 3
	done
	printf '%s\n' "$now"
}

# shares PLACE NODE VIP PORT SOURCE SERVER...: 60 connections; what each server counted itself, what
# it saw, and what IPVS on NODE counted. SERVER is LOG-NAME.
shares() {
	local place=$1 node=$2 vip=$3 port=$4 source=$5 server bad=0 n count
	local -A before=() ipvs=()
	shift 5
	for server; do before[$server]=$(wc -l <"$T/log/$server"); done
	while read -r n count; do ipvs[$n]=$count; done < <(conns_settled "$node" -t "$vip:$port")
	at "$place" "$ECHO" ask tcp "$vip" "$port" 60 >"$T/answers" || { echo "not all were answered:"; bad=1; }
	for server; do
		tail -n +$((before[$server] + 1)) "$T/log/$server" >"$T/counted"
		n=$(wc -l <"$T/counted")
		echo "${server%.*} counted $n, from $(cut -d' ' -f2 "$T/counted" | sort -u | paste -sd' ')"
		((n * $# >= 30 && n * $# <= 120)) || bad=1
		[ "$source" = . ] || ! cut -d' ' -f2 "$T/counted" | grep -vqx -e "$source" ||
			{ echo "want $source"; bad=1; }
	done
	[ "$(wc -l <"$T/answers")" = 60 ] || bad=1
	n=0
	while read -r server count; do
		echo "ipvsadm: $server has $((count - ${ipvs[$server]:-0}))"
		n=$((n + count - ${ipvs[$server]:-0}))
	done < <(conns_settled "$node" -t "$vip:$port")
	((n == 60)) || { echo "ipvsadm has $n in all"; bad=1; }
	return "$bad"
}

dns_counted() { # POD PROTOCOL: what knotd has counted
	on "${POD_NODE[$1]}" knotc -s "/run/knot-$1/knot.sock" stats mod-stats.request-protocol |
		awk -v p="[$2]" 'index($1, p) { n = $3 } END { print n + 0 }'
}

dns_sources() { # POD
	tcpdump -n -r "$T/dns-$1.pcap" 2>/dev/null | awk '{ print $3 }' | cut -d. -f1-4 | sort -u | paste -sd' '
}

# The same for knotd: its own statistics, and the source in its pod's packets. Each query has a port of
# its own, outside of ip_local_port_range: two from one are one connection to IPVS.
dns_shares() { # PLACE NODE PROTOCOL SOURCE
	local place=$1 node=$2 proto=$3 source=$4 pod n bad=0 queries=() flag=-u option=+notcp
	local -A before=() capture=()
	[ "$proto" = udp4 ] || { flag=-t; option=+tcp; }
	for pod in $(dns_pods); do
		before[$pod]=$(dns_counted "$pod" "$proto")
		background "$pod.tcpdump" nsenter -t "${MACHINE[${POD_NODE[$pod]}]}" -m -n -- ip netns exec "$pod" \
			tcpdump -i eth0 --immediate-mode -U -w "$T/dns-$pod.pcap" "dst port 53"
		capture[$pod]=$LAST
		within 10 grep -q listening "$T/log/$pod.tcpdump"
	done
	conns_settled "$node" "$flag" "$DNS_IP:53" >/dev/null
	on "$node" ipvsadm -Z "$flag" "$DNS_IP:53"
	for n in {20001..20060}; do
		queries+=(web.default.svc.cluster.local A -b "0.0.0.0#$n")
	done
	n=$(at "$place" kdig "@$DNS_IP" +short +retry=0 "$option" "${queries[@]}" | grep -cx "$WEB_IP")
	echo "$n of 60 queries are answered"
	((n == 60)) || bad=1
	for pod in $(dns_pods); do
		end "${capture[$pod]}" -TERM
		n=$(($(dns_counted "$pod" "$proto") - before[$pod]))
		echo "$pod counted $n, from $(dns_sources "$pod")"
		((n >= 15 && n <= 45)) || bad=1
		[ "$(dns_sources "$pod")" = "$source" ] || { echo "want $source"; bad=1; }
	done
	n=$(conns_settled "$node" "$flag" "$DNS_IP:53" | awk '{ print "ipvsadm: " $1 " has " $2; n += $2 }
		END { print "in all " n }')
	echo "$n"
	[ "${n##* }" = 60 ] || bad=1
	return "$bad"
}

logs() { # POD-PREFIX
	all_pods | grep "^$1" | sed 's/$/.echo/'
}

node_logs() {
	node_names | sed 's/$/.api/'
}

# One connection of each place to each Service.
services_from() { # PLACE...
	local place bad=0
	for place; do
		if ! at "$place" "$ECHO" ask tcp "$KUBERNETES_IP" 443 1 >/dev/null ||
			! at "$place" "$ECHO" ask tcp "$WEB_IP" 80 1 >/dev/null ||
			[ "$(at "$place" kdig "@$DNS_IP" +short +retry=0 web.default.svc.cluster.local)" != "$WEB_IP" ]; then
			echo "not from $place"
			bad=1
		fi
	done
	echo "$# places"
	return "$bad"
}

delete_victim() { # NODE POD: seen from a pod on a node
	local victim_line bad=0
	victim_line=$(printf '%s\n' "${PODS[@]}" | grep "^$VICTIM ")
	no_pod "$VICTIM" || return 1
	in_pod "$2" "$ECHO" ask tcp "$WEB_IP" 80 60 >"$T/answers" || bad=1
	cut -d' ' -f1 "$T/answers" | sort | uniq -c
	! grep -q -e "^$VICTIM " -e '^-' -e '^refused' "$T/answers" || bad=1
	# shellcheck disable=SC2046
	within 5 virtual_server "$1" "TCP $WEB_IP:80 rr" $(reals web- "$POD_PORT") || bad=1
	# shellcheck disable=SC2086
	pod $victim_line || bad=1
	# shellcheck disable=SC2046
	within 5 virtual_server "$1" "TCP $WEB_IP:80 rr" $(reals web- "$POD_PORT") || bad=1
	return "$bad"
}

services() {
	local first last client node
	first=$(node_names | head -n 1)
	last=$(node_names | tail -n 1)
	client=$(first_pod "shell-${last#node-}")
	chapter "Services, 60 connections each"
	# shellcheck disable=SC2046
	ipvs_step "One connection from every pod and every node to each Service" "all are answered" \
		services_from $(all_pods) $(node_names)
	# shellcheck disable=SC2046
	ipvs_step "kubernetes, $KUBERNETES_IP:443, from $client" \
		"equal shares of the nodes' servers, which see the pod's address, or its node's, as what leaves the pools" \
		shares "$client" "$last" "$KUBERNETES_IP" 443 "${POD_IP[$client]}\|${NODE_IP[$last]}" $(node_logs)
	# shellcheck disable=SC2046
	ipvs_step "web, $WEB_IP:80, from $client" "equal shares, and the pod's address" \
		shares "$client" "$last" "$WEB_IP" 80 "${POD_IP[$client]}" $(logs web-)
	ipvs_step "kube-dns, $DNS_IP:53, UDP, from $client" "equal shares, and the pod's address" \
		dns_shares "$client" "$last" udp4 "${POD_IP[$client]}"
	ipvs_step "kube-dns, $DNS_IP:53, TCP, from $client" "equal shares, and the pod's address" \
		dns_shares "$client" "$last" tcp4 "${POD_IP[$client]}"
	# shellcheck disable=SC2046
	ipvs_step "web's node port, ${NODE_IP[$first]}:$WEB_PORT, from the host outside" \
		"equal shares; the client's address is masqueraded by one of the node's" \
		shares outside "$first" "${NODE_IP[$first]}" "$WEB_PORT" \
		"$(node_addresses "$first")" $(logs web-)
	ipvs_step "$VICTIM is deleted, and 60 connections follow at once from $client" \
		"none fails, and none reaches it; then it comes back" delete_victim "$last" "$client"
}

# A pattern for what a node's own addresses are: its link's and its tunnel's.
node_addresses() {
	on "$1" ip -j -4 address show | jq -r '[.[].addr_info[].local] | join("\\|")'
}

# ---- the outside ----

seen_outside() { # POD: the source that a host outside sees
	local out
	out=$(in_pod "$1" "$ECHO" ask tcp "$OUTSIDE" 80 1)
	echo "$out"
	[ "$out" = "outside ${NODE_IP[${POD_NODE[$1]}]}" ]
}

tor_table() {
	local node block bad=0
	on tor birdc show route | sed 1d
	for node in "${!NODE_IP[@]}"; do
		for block in $(blocks_of "$node"); do
			has_route tor "$block" bird "${NODE_IP[$node]}" || bad=1
		done
	done
	return "$bad"
}

called_from_outside() {
	local out
	on tor ip route get "${POD_IP[$CALLED]}" | head -n 1
	out=$(on outside "$ECHO" ask tcp "${POD_IP[$CALLED]}" "$POD_PORT" 1)
	echo "$out"
	[ "$out" = "$CALLED $OUTSIDE" ]
}

outside() {
	local node
	chapter "the outside"
	daemon outside echo "$ECHO" serve outside 80
	for node in $(node_names); do
		step "A pod on $node connects to the host outside" "which sees the node's address" \
			within 5 seen_outside "$(shell_of "$node")"
	done
	step "birdc show route on the router, AS $TOR_AS" "every node's blocks, learned by eBGP" tor_table
	step "The host outside connects to $CALLED, ${POD_IP[$CALLED]}, through the router" \
		"it is answered, and its own address is seen" called_from_outside
}

# ---- repair ----

repair() {
	local block node=${NODES[0]} other=${NODES[1]}
	node=${node%% *} other=${other%% *}
	chapter "routes deleted by hand"
	step "felix's route to ${POD_IP[web-0]} on $node" "it is back within a second" \
		repaired "$node" 1 "ip route del ${POD_IP[web-0]} proto 80" \
		"ip route show ${POD_IP[web-0]} proto 80 | grep ."
	block=$(blocks_of "$other" | head -n 1)
	step "BIRD's route to a block of $other, $block, on $node" "it is back within a second" \
		repaired "$node" 1 "ip route del $block proto bird" "ip route show $block proto bird | grep ."
}

# ---- DNS ----

new_service() {
	local pod=$1 ip started
	apply_services <<-Y || return 1
		apiVersion: v1
		kind: Service
		metadata: {name: fresh, namespace: default}
		spec:
		  selector: {app: web}
		  ports: [{name: http, port: 80, targetPort: $POD_PORT}]
	Y
	started=${EPOCHREALTIME/./}
	ip=$(margayctl get service fresh -n default -o json | jq -r .spec.clusterIP)
	within 5 resolves "$pod" fresh "$ip" || return 1
	echo "after $(ms_since "$started") ms"
	# shellcheck disable=SC2016
	[ "${PLAIN:-}" ] || in_pod "$pod" bash -c 'exec 3<>/dev/tcp/fresh/80 && head -n 1 <&3'
}

status_of() { # POD NAME TYPE
	in_pod "$1" kdig +retry=0 +timeout=2 "$2" "$3" | sed -n 's/.*status: \([A-Z]*\);.*/\1/p'
}

is_nxdomain() {
	[ "$(status_of "$1" "$2" A)" = NXDOMAIN ]
}

service_gone() {
	local started
	delete_service fresh || return 1
	started=${EPOCHREALTIME/./}
	within 5 is_nxdomain "$1" fresh.default.svc.cluster.local || return 1
	echo "NXDOMAIN after $(ms_since "$started") ms"
}

records() { # POD: A, SRV and PTR
	local reverse out name=web.default.svc.cluster.local
	reverse=$(awk -F. '{ print $4 "." $3 "." $2 "." $1 ".in-addr.arpa" }' <<<"$WEB_IP")
	out=$(in_pod "$1" kdig +short +retry=0 "$name" A "_http._tcp.$name" SRV "$reverse" PTR)
	printf '%s\n' "$out"
	[ "$out" = "$(printf '%s\n0 100 80 %s.\n%s.' "$WEB_IP" "$name" "$name")" ]
}

# A zone that changes five times while another pod asks without a pause.
no_query_lost() { # POD
	local asked lost asking i
	# shellcheck disable=SC2016
	background asking nsenter -t "${MACHINE[${POD_NODE[$1]}]}" -m -n -- ip netns exec "$1" bash -c '
		while :; do
			answer=$(kdig +short +retry=0 +timeout=2 web.default.svc.cluster.local A)
			echo "${answer:-none}"
		done'
	asking=$LAST
	for i in 1 2 3 4 5; do
		apply_services >/dev/null <<-Y || return 1
			apiVersion: v1
			kind: Service
			metadata: {name: more-$i, namespace: default}
			spec: {selector: {app: web}, ports: [{port: 80, targetPort: $POD_PORT}]}
		Y
		within 5 resolves "$1" "more-$i" \
			"$(margayctl get service "more-$i" -n default -o json | jq -r .spec.clusterIP)" || return 1
	done
	end "$asking" -TERM
	for i in 1 2 3 4 5; do
		delete_service "more-$i" >/dev/null
	done
	asked=$(wc -l <"$T/log/asking")
	lost=$(grep -cvx "$WEB_IP" "$T/log/asking")
	echo "$asked queries meanwhile, $lost without an answer"
	((asked >= 10 && lost == 0))
}

dns() {
	local pod last
	last=$(node_names | tail -n 1)
	pod=$(first_pod "shell-${last#node-}")
	chapter "names"
	step "A, SRV and PTR of web, asked by $pod" "as Kubernetes' DNS specification has them" records "$pod"
	step "A new Service, resolved by $pod, whose resolv.conf has the search list" \
		"within 5 s$([ "${PLAIN:-}" ] || echo ", and it answers by name")" new_service "$pod"
	step "The Service is deleted" "NXDOMAIN within 5 s" service_gone "$pod"
	step "Five changes of the zone while $pod keeps asking" "no query is lost" no_query_lost "$pod"
}

# ---- a node that joins ----

joins() {
	local name=$1 started node block
	started=${EPOCHREALTIME/./}
	start_node "$name" "$2" || return 1
	within 60 is_ready "$name" >/dev/null || { is_ready "$name"; return 1; }
	echo "$name is ready after $(ms_since "$started") ms"
	start_pods "${JOINER_PODS[@]}" || return 1
	[ "$(blocks_of "$name")" ] || { echo "$name has no block"; return 1; }
	started=${EPOCHREALTIME/./}
	for node in $(node_names) tor; do
		for block in $(blocks_of "$name"); do
			within 10 has_route "$node" "$block" bird "$2" || return 1
		done
	done
	echo "all others have its route $(ms_since "$started") ms after its pod"
	reach_all_from "$name" "$(shell_of "$name")" || return 1
	[ "${PLAIN:-}" ] || services_from "$name" "$(shell_of "$name")"
}

# leaves NODE BLOCK...: as a node is taken out of a cluster
leaves() {
	local name=$1 started node block pod
	shift
	[ $# -gt 0 ] || { echo "$name has no block"; return 1; }
	for pod in $(all_pods); do
		[ "${POD_NODE[$pod]}" != "$name" ] || no_pod "$pod" || return 1
	done
	started=${EPOCHREALTIME/./}
	stop "$name" bird
	kill_machine "$name"
	delete_node "$name" || return 1
	unset "NODE_IP[$name]"
	for node in $(node_names) tor; do
		for block; do
			within 10 has_no_route "$node" "$block" || return 1
		done
		echo "$node has no route to $* after $(ms_since "$started") ms"
	done
	for node in $(node_names); do
		within 10 sessions_are "$node" ${#NODES[@]} || return 1
	done
}

sessions_are() { # NODE N: and no other is configured
	local out
	out=$(on "$1" birdc show protocols | grep ' BGP ')
	[ "$(wc -l <<<"$out")" = "$2" ] || { echo "$1 has other sessions:"; echo "$out"; return 1; }
}

join() {
	local name address
	read -r name address <<<"$JOINER"
	chapter "a node that joins, and leaves"
	step "$name joins" "it and its pod reach all, and all have its route" joins "$name" "$address"
	step "route -n on $name" "as on the others" within 10 routes_match "$name"
	# shellcheck disable=SC2046
	step "$name leaves" "its block is withdrawn everywhere, the router included" \
		leaves "$name" $(blocks_of "$name")
}

# ---- a node without BIRD ----

falls_silent() {
	local node block started=${EPOCHREALTIME/./}
	[ "$(blocks_of "$SILENT")" ] || { echo "$SILENT has no block"; return 1; }
	stop "$SILENT" bird
	for node in $(node_names) tor; do
		[ "$node" != "$SILENT" ] || continue
		for block in $(blocks_of "$SILENT"); do
			within 10 has_no_route "$node" "$block" || return 1
		done
		echo "$node has no route to $(blocks_of "$SILENT" | paste -sd' ') after $(ms_since "$started") ms"
	done
}

speaks_again() {
	local node block
	start_bird "$SILENT"
	for node in $(node_names) tor; do
		[ "$node" != "$SILENT" ] || continue
		for block in $(blocks_of "$SILENT"); do
			within 20 has_route "$node" "$block" bird "${NODE_IP[$SILENT]}" || return 1
		done
	done
	reach_all_from "$SILENT" "$(shell_of "$SILENT")"
}

silent() {
	chapter "a node whose BIRD stops for good"
	step "BIRD is stopped on $SILENT (SIGTERM)" "its blocks go from all others" falls_silent
	step "It is started again" "they are back, and its pods reach all" speaks_again
}

# ---- all of it ----

# A file of numbers may have something happen behind the story's back.
declare -F meanwhile >/dev/null || meanwhile() { :; }

# A word that is no step must not count as one that is ok.
for s in "${STEPS[@]}"; do
	case $s in
	tables | traffic | tunnels | wire | services | outside | repair | dns | join | silent) ;;
	*)
		echo "story.sh: STEPS has $s, which is no step" >&2
		exit 2
		;;
	esac
done

build
meanwhile
for s in "${STEPS[@]}"; do
	$s
done
if [ "${KEEP:-}" ]; then
	cat <<-H

		The cluster is yours until you leave this shell. For instance:
		  on ${NODES[0]%% *} route -n
		  on ${NODES[0]%% *} birdc show protocols
		  in_pod web-0 ping ${POD_IP[$CALLED]}
		  margayctl get nodes
		Its logs are in $T/log.
	H
	ETCD=${ETCD:-} KUBE=${KUBE:-}
	bash --rcfile <(
		declare -f on in_pod at margayctl kube
		declare -p MACHINE POD_NODE POD_IP ETCD KUBE
		echo "PS1='margay# '"
	) -i
fi
finish
