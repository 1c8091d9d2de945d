#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2317 # what a scenario's file sets; steps are called by name
#
# What happens to a running cluster: objects of ours are deleted by hand, and processes are killed while
# pods talk. felix's timer is off, and BIRD's scan is slower than what is asked, so that what heals,
# heals by events; of IPVS the kernel tells nothing, so that the paced reading has its 30 s.
set -u
# shellcheck source=tests/cluster/build.sh
. "$(dirname "$0")/build.sh"

NODE_PARAMETERS="FELIX_ROUTEREFRESHINTERVAL = 0"
TAIL=${TAIL:-60} # seconds of watching after the last restart

# ---- by hand ----

by_hand() {
	local node other pod block own ip shown
	node=$(node_names | head -n 1)
	other=$(node_names | tail -n 1)
	pod=$(shell_of "$node")
	ip=${POD_IP[$pod]}
	own=$(blocks_of "$node" | head -n 1)
	block=$(blocks_of "$other" | head -n 1)

	chapter "deleted by hand on $node"
	hand "the route to a pod, $ip" "ip route del $ip" "ip route show $ip proto 80 | grep cali"
	hand "the same, replaced by another device's" "ip route replace $ip dev eth0" \
		"ip route show $ip | grep 'cali.* proto 80'"
	hand "the blackhole of the own block, $own" "ip route del blackhole $own" \
		"ip route show type blackhole | grep '$own proto 80'"
	hand "BIRD's route to $block" "ip route del $block" "ip route show $block | grep 'tunl0 proto bird'"
	hand "the same, replaced by a direct one" "ip route replace $block via ${NODE_IP[$other]} dev eth0" \
		"ip route show $block | grep 'tunl0 proto bird'"
	shown=$(on "$node" ip -o -4 address show dev tunl0 | awk '{ print $4 }')
	hand "the tunnel's address, $shown" "ip address del $shown dev tunl0" \
		"ip -o -4 address show dev tunl0 | grep $shown"
	hand "the tunnel, set down" "ip link set tunl0 down" \
		"ip link show tunl0 up | grep . && ip route show $block | grep 'tunl0 proto bird'"
	hand "the tunnel's MTU" "ip link set tunl0 mtu 1000" "ip link show tunl0 | grep 'mtu 1480'"
	hand "the route of the Services" "ip route del local $SERVICE_RANGE dev lo table local" \
		"ip route show table local | grep '$SERVICE_RANGE'"
	for table in margay margay-proxy; do
		on "$node" nft -s list table ip $table >"$T/table"
		hand "nftables table $table" "nft delete table ip $table" \
			"nft -s list table ip $table | diff - '$T/table'"
		hand "the rules of one chain of it" "nft flush chain ip $table $(first_chain "$node" $table)" \
			"nft -s list table ip $table | diff - '$T/table'"
		hand "one rule of it" "nft delete rule ip $table $(first_rule "$node" $table)" \
			"nft -s list table ip $table | diff - '$T/table'"
	done
	on "$node" ipvsadm -Sn | sort >"$T/ipvs"
	SECONDS_ALLOWED=30 hand "a virtual server" "ipvsadm -D -t $WEB_IP:80" "ipvsadm -Sn | sort | diff - '$T/ipvs'"
	SECONDS_ALLOWED=30 hand "a real server" "ipvsadm -d -t $DNS_IP:53 -r ${POD_IP[coredns-a]}:53" \
		"ipvsadm -Sn | sort | diff - '$T/ipvs'"
}

first_chain() { # NODE TABLE: one with rules
	on "$1" nft -j list table ip "$2" | jq -r '[.nftables[].rule | select(.)][0].chain'
}

first_rule() { # NODE TABLE
	on "$1" nft -j -a list table ip "$2" |
		jq -r '[.nftables[].rule | select(.)][0] | "\(.chain) handle \(.handle)"'
}

hand() { # WHAT BREAK CHECK
	step "$1: $2" "back within ${SECONDS_ALLOWED:-1} s" \
		repaired "$node" "${SECONDS_ALLOWED:-1}" "$2" "$3"
}

# ---- kills ----

# What a node loses, from now on: routes, links, addresses, nftables; and IPVS, of which the kernel's
# list is read four times a second by a process that executes no other.
watch_node() { # NODE
	daemon "$1" ip-monitor ip -ts monitor link address route rule
	daemon "$1" nft-monitor nft monitor
	# shellcheck disable=SC2016
	daemon "$1" ipvs-monitor bash -c '
		declare -A was now
		n=0
		exec {never}<> <(:)
		while :; do
			now=()
			while read -r a b c d _; do
				case $a in
				TCP | UDP) server="$a $b"; now[$server]=1 ;;
				"->") [[ $b = Remote* ]] || now["$server to $b $c $d"]=1 ;;
				esac
			done <<<"$(</proc/net/ip_vs)" # in one reading: bash reads a file of the kernel by bytes
			for key in "${!was[@]}"; do
				[ "${now[$key]:-}" ] || echo "gone: $key"
			done
			was=()
			for key in "${!now[@]}"; do was[$key]=1; done
			echo "sample $((++n)): ${#now[@]} entries"
			read -r -t 0.25 -u "$never" a
		done'
}

# removals NODE: what its monitors have seen of them
removals() {
	grep -E '^(\[[^]]*\] *)?Deleted ' "$T/log/$1.ip-monitor"
	grep -E '^delete ' "$T/log/$1.nft-monitor"
	grep '^gone: ' "$T/log/$1.ipvs-monitor"
}

# Half of the readings that were meant must be there: reading takes its time on a slow machine.
nothing_removed() {
	local node seen samples entries bad=0 least=$(((SECONDS - WATCHED_SINCE) * 2))
	for node in $(node_names); do
		seen=$(removals "$node")
		[ -z "$seen" ] || { echo "$node: $seen"; bad=1; }
		samples=$(grep -c '^sample' "$T/log/$node.ipvs-monitor")
		entries=$(sed -n 's/^sample.*: //p' "$T/log/$node.ipvs-monitor" | sort -u | paste -sd,)
		echo "$node: $(wc -l <"$T/log/$node.ip-monitor") lines of ip monitor," \
			"$(wc -l <"$T/log/$node.nft-monitor") of nft monitor, $samples readings of IPVS ($entries)"
		[ "$samples" -ge "$least" ] || { echo "that is too few, $least is the least"; bad=1; }
	done
	return "$bad"
}

# That they would have seen one.
monitors_see() {
	local node
	for node in $(node_names); do
		on "$node" ip route del "$(blocks_of "$node" | head -n 1)" proto 80
		on "$node" nft delete table ip margay
		within 20 sees_three "$node" || return 1
		removals "$node" | head -n 1
	done
}

# The virtual server goes again and again, as it may be back before IPVS is looked at.
sees_three() { # NODE
	local seen octets server
	IFS=. read -ra octets <<<"$WEB_IP"
	server=$(printf '%02X%02X%02X%02X:0050' "${octets[@]}")
	on "$1" ipvsadm -D -t "$WEB_IP:80" 2>/dev/null
	seen=$(removals "$1")
	if ! grep -q 'Deleted blackhole' <<<"$seen" || ! grep -q 'delete table ip margay' <<<"$seen" ||
		! grep -q "gone: TCP $server" <<<"$seen"; then
		echo "$1: $seen"
		return 1
	fi
}

start_flows() {
	local a b
	read -r a b < <(ends | paste -sd' ')
	head -c 32768 /dev/urandom >"$T/chunk"
	pod_daemon "$a" ping ping -D -O -i 0.05 "${POD_IP[$b]}"
	pod_daemon "$b" sink socat -u -b 131072 TCP-LISTEN:9001,reuseaddr "CREATE:$T/received"
	# shellcheck disable=SC2016
	pod_daemon "$a" source bash -c '
		until { exec 3<>"/dev/tcp/$1/9001"; } 2>/dev/null; do sleep 0.1; done
		while [ ! -e "$2.stop" ]; do
			cat "$2" >&3 || exit 1
			echo x >>"$2.sent"
			sleep 0.05
		done' source "${POD_IP[$b]}" "$T/chunk"
	SOURCE=$LAST
	within 10 test -s "$T/chunk.sent" && within 10 test -s "$T/received"
}

flows_whole() {
	local a sent want have lost
	read -r a _ < <(ends | paste -sd' ')
	touch "$T/chunk.stop"
	wait "$SOURCE" || { echo "the sender failed"; return 1; }
	sleep 1
	sent=$(wc -l <"$T/chunk.sent")
	want=$((sent * 32768))
	have=$(stat -c %s "$T/received")
	echo "TCP: $want bytes were sent, $have arrived, $(in_pod "$a" nstat -asz TcpRetransSegs |
		awk '/Retrans/ { print $2 }') segments were sent again"
	[ "$want" = "$have" ] || return 1
	stop "$a" ping -INT
	tail -n 3 "$T/log/$a.ping"
	lost=$(grep -c 'no answer yet' "$T/log/$a.ping")
	echo "$lost echo requests were without answer for 50 ms"
	grep -q ' 0% packet loss' "$T/log/$a.ping"
}

killed() { # NODE NAME
	stop "$1" "$2" -KILL
	sleep 1
	"start_$2" "$1"
	within 30 is_ready "$1" >/dev/null || { is_ready "$1"; return 1; }
	within 30 established "$1" ${#NODES[@]} || return 1
	echo "ready, and all sessions are established"
}

kills() {
	local node name
	chapter "processes are killed while pods talk"
	WATCHED_SINCE=$SECONDS
	for node in $(node_names); do
		watch_node "$node"
	done
	step "A ping, 20 a second, and a TCP transfer from the first node to the last" "both run" start_flows
	for node in $(node_names | sed -n '1p;$p'); do
		for name in felix confd proxy bird; do
			step "SIGKILL of $name on $node, and a new start a second later" \
				"ready again" killed "$node" $name
		done
	done
	sleep "$TAIL"
	step "The flows, $TAIL s after the last start" "no packet is lost" flows_whole
	step "What the monitors saw on every node" "no removal of anything" nothing_removed
	step "A route, a table and a virtual server are removed by hand" "the monitors see it" monitors_see
}

build
by_hand
kills
finish
