#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2317 # steps are called by name
#
# README's walk of one node, word by word, under Debian's systemd: cmake --install, the units, stock
# BIRD with our drop-in, a pod, a Service. Then each daemon and BIRD are restarted, killed, started
# in vain and stopped, while a pod talks to a host outside and that host to the pod.
#
# For the bed with --systemd. The host outside is a network namespace, which runs BIRD, too, and learns
# the pods' block by BGP.
set -u
[ -e /run/bed/run ] || { echo "units.sh: only for tests/cluster/bed --systemd" >&2; exit 2; }
: "${BIN:?the directory of the programs}" "${ECHO:?tests/cluster/echo.c, compiled}"

T=$(mktemp -d /run/margay-units.XXXXXX)
DAEMONS=(margay-felix margay-confd margay-proxy)
declare -A PORT=([margay-felix]=9099 [margay-confd]=9098 [margay-proxy]=10256)
# shellcheck source=tests/cluster/tap.sh
. "$(dirname "$0")/tap.sh"

# ---- README ----

# walk WORDS [GREP-OPTION...]: runs the commands of README's one block of this walk that has WORDS, or
# those of its lines that grep then finds. What they leave in the background does not hold up a pipe.
walk() {
	local commands status
	commands=$(awk -v words="$1" '
		/^## / { on = /^## One node/ }
		/^    / { block = block substr($0, 5) "\n"; next }
		{ if (on && index(block, words)) printf "%s", block; block = "" }' README.md)
	shift
	[ $# = 0 ] || commands=$(grep "$@" <<<"$commands")
	[ "$commands" ] || { echo "README has no such command"; return 1; }
	commands=${commands//CLUSTER-IP/${CLUSTER_IP:-}}
	printf '%s\n' "$commands"
	# shellcheck disable=SC2016
	bash -ec 'sudo() { "$@"; }; eval "$1"' walk "$commands" >"$T/walk" 2>&1
	status=$?
	cat "$T/walk"
	return "$status"
}

# ---- what is there before ----

outside() {
	ip netns exec outside "$@"
}

pod() {
	ip netns exec web-0 "$@"
}

# As the package leaves it, readable in this machine whoever runs the bed.
stock_bird() {
	chown bird:bird /etc/bird && chmod 750 /etc/bird &&
		install -o bird -g bird -m 640 /usr/share/bird2/bird.conf /etc/bird/bird.conf
}

world() {
	set -e
	mount -t tmpfs none /etc/bird
	printf 'BIRD_RUN_USER=bird\nBIRD_RUN_GROUP=bird\n' >/etc/bird/envvars
	stock_bird
	mkdir /etc/systemd/system/multi-user.target.wants
	ln -s /lib/systemd/system/bird.service /etc/systemd/system/multi-user.target.wants
	rm -rf /var/lib/margay /etc/margay /etc/cni /opt/cni
	ip netns add outside
	ip link add eth0 type veth peer name eth0 netns outside
	ip address add 10.0.0.5/24 dev eth0
	ip link set eth0 up
	ip -n outside link set lo up
	ip -n outside link set eth0 up
	ip -n outside address add 10.0.0.1/24 dev eth0
	ip -n outside address add 203.0.113.1/32 dev lo
	ip route add default via 10.0.0.1
	echo '203.0.113.1 deb.debian.org' >>/etc/hosts
	cat >"$T/outside.conf" <<-C
		router id 10.0.0.1;
		protocol device { }
		protocol kernel { ipv4 { export all; import none; }; }
		protocol bgp node {
			local 10.0.0.1 as 64513;
			neighbor 10.0.0.5 as 64512;
			passive on;
			graceful restart on;
			ipv4 { import all; export none; };
		}
	C
	outside bird -c "$T/outside.conf" -s "$T/outside.ctl" -P "$T/outside.pid"
	outside "$ECHO" serve outside 7000 >"$T/outside.log" 2>&1 &
}

# ---- what must be so ----

ready() { # DAEMON...
	local daemon
	for daemon; do
		systemctl is-active --quiet "$daemon" || { systemctl status --no-pager "$daemon"; return 1; }
		curl -sf -m 5 "http://127.0.0.1:${PORT[$daemon]}/readyz" >/dev/null ||
			{ echo "$daemon:"; curl -sS -m 5 "http://127.0.0.1:${PORT[$daemon]}/readyz"; return 1; }
	done
}

# And has told what it was silent about after a start: a neighbour keeps the routes of a BIRD that
# goes again before that no longer (RFC 4724, 4.2).
established() {
	birdc show protocols | grep 'BGP .*Established' || { birdc show protocols; return 1; }
	! birdc show status | grep 'Graceful restart recovery'
}

learned() { # the pods' block, outside
	ip -n outside route show proto bird | grep "via 10.0.0.5"
}

has_capabilities() { # DAEMON MASK: bounding, permitted, effective
	local pid
	pid=$(systemctl show -P MainPID "$1")
	grep -E '^Cap(Prm|Eff|Bnd)' "/proc/$pid/status"
	[ "$(grep -cE "^Cap(Prm|Eff|Bnd):.*$2\$" "/proc/$pid/status")" = 3 ]
}

# The pod is seen as the node.
masqueraded() {
	pod "$ECHO" ask tcp 203.0.113.1 7000 1 | grep -x 'outside 10.0.0.5'
}

service_answers() {
	[ "$(walk 'margayctl get services' '^curl' | tail -n 1)" = web-0 ]
}

verify() {
	local out
	out=$(systemd-analyze verify /usr/local/lib/systemd/system/margay-*.service bird.service 2>&1) || return 1
	echo "$out"
	[ -z "$out" ]
}

# begin_pings, then no_ping_lost: pod to outside, and outside to pod
begin_pings() {
	ip netns exec web-0 ping -n -q -i 0.1 203.0.113.1 >"$T/out" 2>&1 &
	PINGS=($!)
	ip netns exec outside ping -n -q -i 0.1 "$POD_IP" >"$T/in" 2>&1 &
	PINGS+=($!)
}

# A step is a subshell, which cannot wait for them.
no_ping_lost() {
	kill -INT "${PINGS[@]}"
	within 5 grep 'packet loss' "$T/out" && within 5 grep 'packet loss' "$T/in" &&
		[ "$(cat "$T/out" "$T/in" | grep -c ' 0% packet loss')" = 2 ]
}

restarted() { # UNIT
	systemctl restart "$1" && settled
}

killed() { # UNIT
	local was
	was=$(systemctl show -P MainPID "$1")
	systemctl kill -s KILL "$1"
	within 10 is_another "$1" "$was" && settled
}

is_another() { # UNIT PID
	local pid
	pid=$(systemctl show -P MainPID "$1")
	[ "$pid" != 0 ] && [ "$pid" != "$2" ]
}

settled() {
	within 30 ready "${DAEMONS[@]}" && within 30 established && within 30 learned && service_answers
}

stopped() { # UNIT...: cleanly
	local unit
	systemctl stop "$@"
	for unit; do
		if [ "$(systemctl show -P ActiveState "$unit")" != inactive ] ||
			[ "$(systemctl show -P Result "$unit")" != success ]; then
			systemctl status --no-pager "$unit"
			return 1
		fi
	done
}

# As at a boot: nothing runs, /run and the kernel know nothing of Margay.
boot() { # WHAT-IS-DIFFERENT...
	set -e
	systemctl stop "${DAEMONS[@]}" bird
	rm -rf /run/margay /run/bird
	nft flush ruleset
	ipvsadm -C
	ip route flush proto 80
	modprobe -r ipip ip_vs_rr ip_vs
	"$@"
	systemctl start --no-block multi-user.target
}

# One of ours that BIRD refuses, as that of another version may be.
break_bird_conf() {
	echo 'protocol nonsense { }' >>/etc/bird/bird.conf
}

forget_all() {
	rm -rf /var/lib/margay
	rm /etc/bird/*.inc
	stock_bird
}

# ---- the walk ----

step "a node with an interface, a host outside, stock BIRD" world
step "README: cmake --install" walk 'cmake --install' 'cmake --install'
step "README: the daemons and BIRD" walk 'systemctl enable'
step "README: BIRD's state" within 10 walk 'margayctl node status'
step "systemd-analyze verify says nothing" verify
step "the daemons are ready" within 30 ready "${DAEMONS[@]}"
step "margay-felix has CAP_NET_ADMIN and no other" has_capabilities margay-felix 0000000000001000
step "margay-proxy has CAP_NET_ADMIN and no other" has_capabilities margay-proxy 0000000000001000
step "margay-confd has no capability" has_capabilities margay-confd 0000000000000000
step "the kernel was asked for ip_vs" test -d /sys/module/ip_vs
step "margay-felix has turned forwarding on" grep -x 1 /proc/sys/net/ipv4/ip_forward
step "README: the plugin is where a runtime looks" walk 'margay-cni install'
step "README: a pod" walk 'CNI_COMMAND=ADD'
step "README: it reaches the outside" walk 'ping -c 1'
step "as the node" masqueraded
step "README: a Service" walk 'margayctl get services' -v '^curl'
CLUSTER_IP=$(margayctl get service web -o json | jq -r .spec.clusterIP)
step "README: answers at its address" within 30 service_answers
step "README: margayctl apply of a sample, a peer" margayctl apply -f /usr/local/share/margay/samples/bgppeer.yaml
step "the peer learns the pods' block" within 30 learned
POD_IP=$(ip -n web-0 -j address show dev eth0 | jq -r '.[0].addr_info[] | select(.family == "inet").local')

# ---- afterwards ----

for unit in "${DAEMONS[@]}" bird; do
	begin_pings
	step "systemctl restart $unit" restarted "$unit"
	step "no ping was lost" no_ping_lost
done
begin_pings
for unit in "${DAEMONS[@]}" bird; do
	step "systemctl kill -s KILL $unit: starts again" killed "$unit"
done
step "no ping was lost" no_ping_lost
begin_pings
step "systemctl stop of all" stopped "${DAEMONS[@]}" bird
step "the Service answers" service_answers
sleep 1
step "no ping was lost" no_ping_lost
step "a boot, with a bird.conf that BIRD refuses" boot break_bird_conf
step "settles" settled
step "a first boot" boot forget_all
step "settles" within 60 ready "${DAEMONS[@]}"

if [ ${#failed[@]} != 0 ]; then
	journalctl --no-pager -o short-monotonic -u 'margay-*' -u bird | tail -n 150 | sed 's/^/# /'
fi
tap_end
