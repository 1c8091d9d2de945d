# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034,SC2154,SC2317 # what files set and use of each other; steps are called by name
#
# A cluster by a scenario's file, told step by step: source it. $1 is the file, golden.conf by default.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
POD_PORT=8080
# shellcheck source=tests/cluster/cluster.sh
. "$here/cluster.sh"
# shellcheck source=tests/cluster/golden.conf
. "${1:-$here/golden.conf}"

# Without tunnels, and without IPVS for the Services' addresses.
if [ "${PLAIN:-}" ]; then
	POOLS=("${POOLS[@]/% Always/ Never}")
	DNS_SERVER=$(printf '%s\n' "${PODS[@]}" | awk '/^coredns/ && $3 != "-" { print $3; exit }')
fi

# What margayctl has from the environment, and nodes from margay.conf.
export SERVICE_CLUSTER_IP_RANGE=$SERVICE_RANGE

n_steps=0 n_failed=0 n_skipped=0 failed=()
declare -A NODE_IP=()

# ---- how it is told ----

chapter() {
	printf '\n==== %s\n' "$*"
}

# step TITLE EXPECTED COMMAND...: what the command prints is what was seen
step() {
	local rc out=$T/out started=$SECONDS title=$1
	n_steps=$((n_steps + 1))
	printf '\n%d. %s\n   expected  %s\n' "$n_steps" "$1" "$2"
	shift 2
	"$@" >"$out" 2>&1
	rc=$?
	if [ "$(wc -l <"$out")" -gt 40 ]; then
		sed -i -e '39q' "$out"
		echo '...' >>"$out"
	fi
	sed -e '1s/^/   seen      /' -e '2,$s/^/             /' "$out"
	if [ $rc = 0 ]; then
		echo "   ok$([ $((SECONDS - started)) -lt 5 ] || echo " ($((SECONDS - started)) s)")"
	else
		n_failed=$((n_failed + 1))
		failed+=("$n_steps. $title"$'\n'"$(cat "$out")")
		echo "   FAILED"
	fi
	return "$rc"
}

# ipvs_step as step, where there is IPVS.
ipvs_step() {
	if [ "${PLAIN:-}" ]; then leave_out "$1" IPVS; else step "$@"; fi
}

# leave_out TITLE WHAT: as check.sh reads it
leave_out() {
	n_steps=$((n_steps + 1)) n_skipped=$((n_skipped + 1))
	printf '\nok %d - %s # skip without %s; covered by cluster_golden\n' "$n_steps" "$1" "$2"
}

# need TITLE EXPECTED COMMAND...: a step without which there is nothing to show
need() {
	step "$@" || finish
}

# What a program says that was built with the sanitizers.
none_is_wrong() {
	! grep -A 30 -E 'ERROR: (Address|Leak)Sanitizer|runtime error:' "$T"/log/*
}

# What failed is said again at the end, where whoever has the last lines alone finds it.
finish() {
	none_is_wrong >/dev/null || step "What the programs have logged" "no word of a sanitizer" none_is_wrong
	[ "$n_failed" = 0 ] || printf '\nFAILED: %s\n' "${failed[@]}"
	printf '\n%d steps, %d ok, %d FAILED%s, %d s\n' "$n_steps" $((n_steps - n_failed - n_skipped)) "$n_failed" \
		"$([ "$n_skipped" = 0 ] || echo ", $n_skipped left out")" "$SECONDS"
	[ "$n_failed" = 0 ]
	exit
}

names() { # LINE...: the first words
	local line
	for line; do echo "${line%% *}"; done
}

node_names() {
	names "${NODES[@]}"
}

apply() {
	margayctl apply -f -
}

apply_services() {
	if [ "${KUBE:-}" ]; then kube_apply && kube_slices; else apply; fi
}

delete_service() {
	if [ "${KUBE:-}" ]; then
		kube DELETE "$(kube_path Service default "$1")" >/dev/null &&
			kube DELETE "$(kube_path EndpointSlice default "$1")" >/dev/null
	else
		margayctl delete service "$1" -n default
	fi
}

delete_node() {
	[ -z "${KUBE:-}" ] || kube DELETE "$(kube_path Node '' "$1")" >/dev/null || return 1
	margayctl delete node "$1"
}

in_prefix() { # ADDRESS CIDR
	local a b
	a=$(ip_number "$1") b=$(ip_number "${2%/*}")
	((a >> (32 - ${2#*/}) == b >> (32 - ${2#*/})))
}

ip_number() {
	local IFS=.
	# shellcheck disable=SC2086
	set -- $1
	echo $((($1 << 24) + ($2 << 16) + ($3 << 8) + $4))
}

mask() { # PREFIX-LENGTH
	local m=$(((0xffffffff << (32 - $1)) & 0xffffffff))
	echo "$((m >> 24)).$((m >> 16 & 255)).$((m >> 8 & 255)).$((m & 255))"
}

is_tunnelled() { # CIDR: by its pool, all nodes being in one subnet
	local pool cidr mode
	for pool in "${POOLS[@]}"; do
		read -r _ cidr _ mode <<<"$pool"
		! in_prefix "${1%/*}" "$cidr" || { [ "$mode" = Always ]; return; }
	done
	return 1
}

all_pods() {
	printf '%s\n' "${!POD_NODE[@]}" | sort
}

shell_of() { # NODE: a pod on it
	local pod
	for pod in $(all_pods); do
		[ "${POD_NODE[$pod]}" != "$1" ] || { echo "$pod"; return; }
	done
}

ends() { # two pods, on the first and the last node
	shell_of "$(node_names | head -n 1)"
	shell_of "$(node_names | tail -n 1)"
}

# repaired NODE SECONDS BREAK CHECK: shell code; the check comes true so soon after the break
repaired() {
	# shellcheck disable=SC2016
	on "$1" bash -c '
		limit=$(($1 * 1000000))
		eval "$2" || exit 1
		broken=${EPOCHREALTIME/./}
		until seen=$(eval "$3" 2>&1); do
			if ((${EPOCHREALTIME/./} - broken > limit)); then
				echo "not back after $1 s: $seen"
				exit 1
			fi
		done
		spent=$((${EPOCHREALTIME/./} - broken))
		echo "$seen" | head -n 5
		echo "after $((spent / 1000)) ms"
		((spent <= limit))' repaired "$2" "$3" "$4"
}

ms_since() { # EPOCHREALTIME without its dot
	echo $(((${EPOCHREALTIME/./} - $1) / 1000))
}

# ---- building it ----

resources() {
	local pool name cidr size mode
	for pool in "${POOLS[@]}"; do
		read -r name cidr size mode <<<"$pool"
		cat <<-Y
			---
			apiVersion: projectcalico.org/v3
			kind: IPPool
			metadata: {name: $name}
			spec: {cidr: $cidr, blockSize: $size, ipipMode: $mode, natOutgoing: true}
		Y
	done
	cat <<-Y
		---
		apiVersion: projectcalico.org/v3
		kind: BGPPeer
		metadata: {name: top-of-rack}
		spec: {peerIP: $TOR, asNumber: $TOR_AS}
	Y
}

apply_resources() {
	resources | apply
}

claim_blocks() {
	local node name block
	for node in "${NODES[@]}"; do
		read -r name _ block <<<"$node"
		[ -z "$block" ] || margayctl ipam claim "$block" --node "$name" || return 1
	done
}

start_node() { # NAME ADDRESS: and the API server's stand-in
	NODE_IP[$1]=$2
	node "$1" "$2" && daemon "$1" api "$ECHO" serve "$1" 6443
}

start_nodes() {
	local node name address
	for node in "${NODES[@]}"; do
		read -r name address _ <<<"$node"
		start_node "$name" "$address" || return 1
	done
	for name in $(node_names); do
		within 120 is_ready "$name" >/dev/null || { is_ready "$name"; return 1; }
		echo "$name is ready: felix, confd, proxy"
	done
}

start_pods() { # LINE...
	local line name wanted
	for line; do
		read -r name _ wanted _ <<<"$line"
		# shellcheck disable=SC2086
		pod $line || return 1
		echo "$name has ${POD_IP[$name]}, on ${POD_NODE[$name]}"
		[ "$wanted" = - ] || [ "$wanted" = "${POD_IP[$name]}" ] || return 1
	done
}

service_resources() {
	local node addresses=
	for node in $(node_names); do
		addresses+="{addresses: [${NODE_IP[$node]}]}, "
	done
	cat <<-Y
		apiVersion: v1
		kind: Service
		metadata: {name: kubernetes, namespace: default}
		spec:
		  clusterIP: $KUBERNETES_IP
		  ports: [{name: https, port: 443, targetPort: 6443}]
		---
		apiVersion: discovery.k8s.io/v1
		kind: EndpointSlice
		metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
		addressType: IPv4
		ports: [{name: https, port: 6443}]
		endpoints: [${addresses%, }]
		---
		apiVersion: v1
		kind: Service
		metadata: {name: kube-dns, namespace: kube-system}
		spec:
		  clusterIP: $DNS_IP
		  selector: {k8s-app: kube-dns}
		  ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
		---
		apiVersion: v1
		kind: Service
		metadata: {name: web, namespace: default}
		spec:
		  type: NodePort
		  selector: {app: web}
		  ports: [{name: http, port: 80, targetPort: $POD_PORT}]
	Y
}

services_of_cluster() {
	service_resources | apply_services || return 1
	WEB_IP=$(margayctl get service web -n default -o json | jq -r .spec.clusterIP)
	WEB_PORT=$(margayctl get service web -n default -o json | jq -r '.spec.ports[0].nodePort')
	echo "web was given $WEB_IP and node port $WEB_PORT"
}

dns_pods() {
	names "${PODS[@]}" | grep ^coredns
}

start_knotd() { # POD
	# shellcheck disable=SC2016
	pod_daemon "$1" knotd unshare -m bash -c '
		mkdir -p /run/knot
		mount --bind "/run/knot-$0" /run/knot
		mount --bind -o ro "/var/lib/margay/dns-$0" /var/lib/margay
		exec knotd -c /var/lib/margay/knot.conf' "$1"
}

# A stock knotd in each coredns pod: what it reads lies on the node, as a hostPath volume would, and
# margay-confd of that node writes it.
start_dns() {
	local pod node f
	for pod in $(dns_pods); do
		node=${POD_NODE[$pod]}
		on "$node" mkdir -p "/var/lib/margay/dns-$pod/zones" "/run/knot-$pod"
		for f in dns knot; do
			sed "s|/var/lib/margay|/var/lib/margay/dns-$pod|; s|/run/knot|/run/knot-$pod|" \
				"$ETC/confd.d/$f.conf" | put "$node" "/etc/margay/confd.d/$f-$pod.conf"
		done
	done
	for node in $(for pod in $(dns_pods); do echo "${POD_NODE[$pod]}"; done | sort -u); do
		stop "$node" confd
		start_confd "$node"
	done
	for pod in $(dns_pods); do
		within 20 on "${POD_NODE[$pod]}" test -s "/var/lib/margay/dns-$pod/knot.conf" || return 1
		start_knotd "$pod"
	done
	for pod in $(dns_pods); do
		within 20 resolves "$(first_pod shell)" web.default.svc.cluster.local "$WEB_IP" "${POD_IP[$pod]}" ||
			return 1
	done
}

first_pod() { # PREFIX
	names "${PODS[@]}" | grep "^$1" | head -n 1
}

# resolves POD NAME ADDRESS [SERVER]: by the server, else as a program would, by resolv.conf
resolves() {
	local out
	if [ "${4:-}" ]; then
		out=$(in_pod "$1" kdig +short +retry=0 "@$4" "$2" A)
	else
		out=$(in_pod "$1" getent ahostsv4 "$2" | awk 'NR == 1 { print $1 }')
	fi
	echo "$1: $2 is ${out:-unknown}"
	[ "$out" = "$3" ]
}

build() {
	chapter "a cluster of ${#NODES[@]} nodes"
	fabric
	background wire nsenter -t "${MACHINE[segment]}" -n -- \
		tcpdump -i br0 -s 128 -U -w "$T/wire.pcap" "tcp port 179 or ip proto 4"
	TCPDUMP=$LAST
	[ -z "${ETCD:-}${KUBE:-}" ] || need "${ETCD:+etcd}${KUBE:+kube-apiserver} on the router" "it is ready" start_store
	need "Pools, and the router as a BGP peer, in an empty datastore" \
		"margayctl takes the YAML" apply_resources
	need "Blocks are claimed for nodes that have never run" \
		"each is the node's own" claim_blocks
	need "The nodes start: margay-felix, margay-confd, margay-proxy and stock BIRD on each" \
		"all are ready" start_nodes
	need "Pods, each by one CNI ADD" "they have the addresses they ask for" start_pods "${PODS[@]}"
	need "Services, with selectors" "web is given an address and a node port" services_of_cluster
	need "Stock knotd in $(dns_pods | paste -sd' ')" "both answer from what margay-confd renders" start_dns
}
