# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034
#
# A cluster of nodes on one kernel, for scripts in tests/cluster/bed: source it. Each node is a network
# and a mount namespace with its own /run, /etc and /var/lib; nodes share one Ethernet segment and the
# datastore's file, nothing else; with ETCD or KUBE, addresses of servers on the router, not even that
# file. Beyond them stand a router of another AS, the top of rack, which is everybody's default route and knows of no pod,
# and behind it a host outside.
#
# A pod is a network namespace of its node, made and removed by CNI calls alone.
#
# $BIN holds the programs, $ECHO is tests/cluster/echo.c. What it logs is in $T. With PLAIN set the kernel
# needs neither ipip nor ip_vs.

: "${BIN:?the directory of the programs}" "${ECHO:?tests/cluster/echo.c, compiled}"
export PATH=$BIN:$PATH LC_ALL=C

# A tmpfs, since an overlay cannot lie on another, outside of what nodes have of their own.
T=$(mktemp -d "${TMPDIR:-/tmp}/margay-cluster.XXXXXX")
mount -t tmpfs none "$T"
mkdir "$T/shared" "$T/log" "$T/pods"
export MARGAY_SQLITE_PATH=$T/shared/margay.db
ETC=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../etc" && pwd)
KUBE_APISERVER_SCRIPT=$ETC/../tests/interop/kube-apiserver

declare -A MACHINE=() DAEMON=() POD_NODE=() POD_IP=() POD_NAMESPACE=()
STARTED=()

cluster_end() {
	local pid
	for pid in "${STARTED[@]}"; do
		kill -9 "$pid" 2>/dev/null
	done
	wait 2>/dev/null
	umount /run/netns
	[ -z "${BED_OUT:-}" ] || cp -r "$T/log" "$BED_OUT" 2>/dev/null
	umount -l "$T"
	rmdir "$T"
}
trap cluster_end EXIT

# Whoever runs this on a kernel with more in it shall not see it.
mkdir -p /run/netns
mount -t tmpfs none /run/netns
sysctl -qw net.ipv4.neigh.default.gc_thresh3=8192 2>/dev/null

# ---- machines ----

# within SECONDS COMMAND...: until it succeeds; says what it said last where it does not
within() {
	local end=$((${EPOCHREALTIME/./} + $1 * 1000000)) out
	shift
	until out=$("$@" 2>&1); do
		if [ "${EPOCHREALTIME/./}" -gt "$end" ]; then
			printf '%s\n' "$out"
			return 1
		fi
		sleep 0.05
	done
	[ -z "$out" ] || printf '%s\n' "$out"
}

# on MACHINE COMMAND...
on() {
	local pid=${MACHINE[$1]:-0}
	shift
	nsenter -t "$pid" -m -n -- "$@"
}

# in_pod POD COMMAND...: with the pod's resolv.conf
in_pod() {
	local pod=$1
	shift
	on "${POD_NODE[$pod]}" ip netns exec "$pod" "$@"
}

# at PLACE COMMAND...: a pod or a machine
at() {
	if [ "${POD_NODE[$1]:-}" ]; then in_pod "$@"; else on "$@"; fi
}

# put MACHINE FILE: what is read
put() {
	# shellcheck disable=SC2016
	on "$1" sh -c 'mkdir -p "${0%/*}" && cat >"$0"' "$2"
}

# background LOG COMMAND...: its process is $LAST, if COMMAND is a program
background() {
	local log=$T/log/$1
	shift
	"$@" >>"$log" 2>&1 </dev/null &
	LAST=$!
	STARTED+=("$LAST")
}

# daemon MACHINE NAME COMMAND...: a program in a machine, that stop and start know by name
daemon() {
	local machine=$1 name=$2
	shift 2
	background "$machine.$name" nsenter -t "${MACHINE[$machine]}" -m -n -- "$@"
	DAEMON[$machine.$name]=$LAST
}

# end PID [-SIGNAL]: and waits for it, without bash's word on that
end() {
	{
		kill "${2:--KILL}" "$1"
		wait "$1"
	} 2>/dev/null
	return 0
}

# stop MACHINE NAME [-SIGNAL]
stop() {
	end "${DAEMON[$1.$2]}" "${3:--TERM}"
	unset "DAEMON[$1.$2]"
}

# stop_all MACHINE-OR-POD: what was started in it
stop_all() {
	local name
	for name in "${!DAEMON[@]}"; do
		[[ $name != "$1".* ]] || stop "$1" "${name#"$1".}" -KILL
	done
}

# machine NAME: namespaces, without a link
machine() {
	mkdir -p "$T/m/$1/etc" "$T/m/$1/work"
	# shellcheck disable=SC2016
	background "$1.machine" unshare -m -n --propagation private bash -c '
		set -e
		mount -t overlay -o "lowerdir=/etc,upperdir=$1/etc,workdir=$1/work" none /etc
		mount -t tmpfs none /etc/bird # whose files are not for every user of the host
		mount -t tmpfs none /run
		mount -t tmpfs none /var/lib
		mkdir -p /run/netns /run/bird /var/lib/cluster /etc/netns
		mount --bind "$2" /var/lib/cluster
		mount -t sysfs none /sys
		ip link set lo up
		touch /run/ready
		exec sleep infinity' machine "$T/m/$1" "$T/shared"
	MACHINE[$1]=$LAST
	within 20 on "$1" test -e /run/ready
}

# plug MACHINE DEVICE ADDRESS: into the segment
plug() {
	on "$1" ip link add "$2" type veth peer name "p-$1" netns "${MACHINE[segment]}"
	on segment ip link set "p-$1" up master br0
	on "$1" ip link set "$2" up
	on "$1" ip address add "$3" dev "$2"
}

# The segment, the router and the host outside. NODE_PREFIX, TOR, TOR_AS, AS, OUTSIDE and OUTSIDE_TOR
# come from the scenario's file.
fabric() {
	machine segment
	on segment ip link add br0 type bridge
	on segment ip link set br0 up
	machine tor
	plug tor eth0 "$TOR/${NODE_PREFIX#*/}"
	machine outside
	on outside ip link add eth0 type veth peer name eth1 netns "${MACHINE[tor]}"
	on outside ip link set eth0 up
	on outside ip address add "$OUTSIDE/24" dev eth0
	on tor ip link set eth1 up
	on tor ip address add "$OUTSIDE_TOR/24" dev eth1
	on outside ip route add default via "$OUTSIDE_TOR"
	on tor sysctl -qw net.ipv4.ip_forward=1
	put tor /etc/bird/bird.conf <<-C
		log stderr all;
		router id $TOR;
		protocol device { scan time 5; }
		protocol kernel { ipv4 { export all; import none; }; }
		protocol bgp nodes {
			local $TOR as $TOR_AS;
			neighbor range $NODE_PREFIX as $AS;
			dynamic name "node";
			passive on;
			graceful restart on;
			ipv4 { import all; export none; };
		}
	C
	daemon tor bird bird -f -c /etc/bird/bird.conf -s /run/bird/bird.ctl
}

# ---- the datastore ----

# Its server, if it has one.
start_store() {
	if [ "${ETCD:-}" ]; then
		start_etcd "$ETCD"
	elif [ "${KUBE:-}" ]; then
		start_kube
	fi
}

start_etcd() { # URL
	daemon tor etcd etcd --data-dir /var/lib/etcd --listen-client-urls "$1" --advertise-client-urls "$1"
	within 60 on tor env ETCDCTL_API=3 etcdctl --endpoints "$1" endpoint health >/dev/null
}

# The user's, where the datastore can be reached.
margayctl() {
	if [ "${ETCD:-}" ]; then
		on tor "$BIN/margayctl" --etcd-endpoints "$ETCD" "$@"
	elif [ "${KUBE:-}" ]; then
		on tor "$BIN/margayctl" --datastore-type kubernetes --kubeconfig /etc/margay/kubeconfig "$@"
	else
		command margayctl "$@"
	fi
}

# What a node's plugin is told.
conflist() {
	if [ "${ETCD:-}" ]; then
		jq --arg etcd "$ETCD" '.plugins[0] |= (del(.sqlite_path) + {datastore_type: "etcdv3", etcd_endpoints: $etcd})'
	elif [ "${KUBE:-}" ]; then
		jq '.plugins[0] |= (del(.sqlite_path) + {datastore_type: "kubernetes",
			kubernetes: {kubeconfig: "/etc/margay/kubeconfig"}})'
	else
		sed 's|/var/lib/margay/margay.db|/var/lib/cluster/margay.db|'
	fi <"$ETC/cni/10-margay.conflist"
}

# And its daemons.
datastore() {
	if [ "${ETCD:-}" ]; then
		echo "ETCD_ENDPOINTS = $ETCD"
	elif [ "${KUBE:-}" ]; then
		echo "DATASTORE_TYPE = kubernetes"
		echo "KUBECONFIG = /etc/margay/kubeconfig"
	else
		echo "MARGAY_SQLITE_PATH = /var/lib/cluster/margay.db"
	fi
}

# blocks_of NODE: CIDRs, from the datastore
blocks_of() {
	local prefix=/calico/ipam/v2/host/$1/ipv4/block/
	if [ "${ETCD:-}" ]; then
		on tor env ETCDCTL_API=3 etcdctl --endpoints "$ETCD" get --prefix --keys-only "$prefix" | grep .
	elif [ "${KUBE:-}" ]; then
		kube GET /apis/crd.projectcalico.org/v1/blockaffinities |
			jq -r --arg node "$1" '.items[].spec | select(.node == $node).cidr | "/" + sub("/"; "-")'
	else
		sqlite3 "$MARGAY_SQLITE_PATH" \
			"SELECT key FROM kv WHERE value IS NOT NULL AND key LIKE '$prefix%'"
	fi | sed 's|.*/||; s|-|/|'
}

# ---- Kubernetes ----

# A real API server, and nothing else of Kubernetes: what its controllers and kubelets do to nodes, pods
# and EndpointSlices is done here, in their words.
start_kube() {
	local server
	server=$("$KUBE_APISERVER_SCRIPT") || return 1
	start_etcd http://127.0.0.1:2379 || return 1
	printf '%s\n' 'admin,admin,admin,system:masters' \
		'node,system:serviceaccount:kube-system:margay,margay,system:serviceaccounts' | put tor /etc/margay/tokens
	# shellcheck disable=SC2016
	on tor sh -c 'openssl ecparam -name prime256v1 -genkey -noout -out /etc/margay/sa.key 2>/dev/null'
	daemon tor api "$server" --etcd-servers=http://127.0.0.1:2379 --bind-address="$TOR" --secure-port=6443 \
		--advertise-address="$TOR" --endpoint-reconciler-type=none --cert-dir=/etc/margay/pki \
		--token-auth-file=/etc/margay/tokens --authorization-mode=RBAC \
		--service-account-key-file=/etc/margay/sa.key --service-account-signing-key-file=/etc/margay/sa.key \
		--service-account-issuer=https://kubernetes.default.svc --service-cluster-ip-range="$SERVICE_RANGE" \
		--disable-admission-plugins=ServiceAccount
	within 600 kube GET /readyz >/dev/null || return 1
	kubeconfig admin | put tor /etc/margay/kubeconfig
	kube_apply <"$ETC/manifests/crds-v1.yaml" && kube_apply <"$ETC/manifests/rbac.yaml" || return 1
	within 60 kube GET /apis/crd.projectcalico.org/v1/ippools >/dev/null &&
		within 60 kube GET /apis/crd.projectcalico.org/v1/ipreservations >/dev/null
}

kubeconfig() { # TOKEN
	cat <<-K
		apiVersion: v1
		kind: Config
		current-context: cluster
		contexts: [{name: cluster, context: {cluster: cluster, user: user}}]
		users: [{name: user, user: {token: $1}}]
		clusters:
		- name: cluster
		  cluster:
		    server: $KUBE
		    certificate-authority-data: $(on tor base64 -w0 /etc/margay/pki/apiserver.crt)
	K
}

# kube METHOD PATH [TYPE]: with the standard input, if it has a TYPE
kube() {
	local body=()
	[ -z "${3:-}" ] || body=(-H "Content-Type: application/$3" --data-binary @-)
	on tor curl -sS --fail-with-body --cacert /etc/margay/pki/apiserver.crt -H 'Authorization: Bearer admin' \
		-X "$1" "${body[@]}" "$KUBE$2"
}

# kube_path KIND NAMESPACE NAME
kube_path() {
	case $1 in
	CustomResourceDefinition) echo "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/$3" ;;
	EndpointSlice) echo "/apis/discovery.k8s.io/v1/namespaces/$2/endpointslices/$3" ;;
	ClusterRole*) echo "/apis/rbac.authorization.k8s.io/v1/${1,,}s/$3" ;;
	Node) echo "/api/v1/nodes/$3" ;;
	*) echo "/api/v1/namespaces/$2/${1,,}s/$3" ;;
	esac
}

# The documents of the standard input, as kubectl apply --server-side does it.
kube_apply() {
	local doc kind namespace name
	while read -r -d $'\x01' doc; do
		kind=$(sed -n 's/^kind: //p' <<<"$doc")
		namespace=$(sed -n '/^metadata:/s/.*namespace: \([^,} ]*\).*/\1/p' <<<"$doc")
		name=$(sed -n 's/^metadata: {name: \([^,}]*\).*/\1/p; s/^  name: //p' <<<"$doc" | head -n 1)
		[ "$kind" ] || continue
		kube PATCH "$(kube_path "$kind" "$namespace" "$name")?fieldManager=cluster&force=true" apply-patch+yaml \
			<<<"$doc" >"$T/answer" || { jq -r .message "$T/answer"; return 1; }
	done < <(sed 's/^---$/\x01/'; printf '\x01')
}

# A kubelet's first word.
kube_node() { # NAME ADDRESS
	jq -cn --arg name "$1" --arg ip "$2" '{kind: "Node", apiVersion: "v1", metadata: {name: $name},
		status: {addresses: [{type: "InternalIP", address: $ip}]}}' | kube POST /api/v1/nodes json >/dev/null
}

# A pod as the scheduler has bound it.
kube_pod() { # NAME NODE LABEL=VALUE
	jq -cn --arg name "$1" --arg node "$2" --arg key "${3%%=*}" --arg value "${3#*=}" '{kind: "Pod", apiVersion: "v1",
		metadata: {name: $name, labels: {($key): $value}},
		spec: {nodeName: $node, containers: [{name: "c", image: "i"}]}}' |
		kube POST "/api/v1/namespaces/${POD_NAMESPACE[$1]}/pods" json >/dev/null
}

# It runs.
kube_pod_runs() { # NAME
	jq -cn --arg ip "${POD_IP[$1]}" '{status: {phase: "Running", podIP: $ip, podIPs: [{ip: $ip}],
		conditions: [{type: "Ready", status: "True"}]}}' |
		kube PATCH "/api/v1/namespaces/${POD_NAMESPACE[$1]}/pods/$1/status" strategic-merge-patch+json >/dev/null &&
		kube_slices
}

# Services' slices are made of the pods that are ready, each in the node's time.
kube_slices() {
	local slice
	kube GET /api/v1/services >"$T/services" && kube GET /api/v1/pods >"$T/kube-pods" || return 1
	jq -c --slurpfile pods "$T/kube-pods" '.items[] | select(.spec.selector) | . as $s |
		[$pods[0].items[] | select(.metadata.namespace == $s.metadata.namespace and .status.podIP and
			(.metadata.deletionTimestamp | not) and
			(.metadata.labels // {} | contains($s.spec.selector)))] as $of |
		{kind: "EndpointSlice", apiVersion: "discovery.k8s.io/v1", addressType: "IPv4",
		metadata: {name: $s.metadata.name, namespace: $s.metadata.namespace,
			labels: {"kubernetes.io/service-name": $s.metadata.name}},
		ports: [$s.spec.ports[] | {name: (.name // ""), protocol, port: .targetPort}],
		endpoints: [$of[] | {addresses: [.status.podIP], conditions: {ready: true}, nodeName: .spec.nodeName,
			targetRef: {kind: "Pod", name: .metadata.name, namespace: .metadata.namespace}}]}' \
		"$T/services" >"$T/slices"
	while read -r slice; do
		kube PATCH "$(jq -r '"/apis/discovery.k8s.io/v1/namespaces/\(.metadata.namespace)/endpointslices/\(.metadata.name)"
			' <<<"$slice")?fieldManager=cluster&force=true" apply-patch+yaml <<<"$slice" >"$T/answer" ||
			{ jq -r .message "$T/answer"; return 1; }
	done <"$T/slices"
}

# ---- nodes ----

start_felix() {
	daemon "$1" felix "$BIN/margay-felix"
}

start_confd() {
	daemon "$1" confd "$BIN/margay-confd"
}

start_proxy() {
	daemon "$1" proxy "$BIN/margay-proxy"
}

# As the drop-in of etc/systemd has it.
start_bird() {
	daemon "$1" bird bird -f -R -c /etc/bird/bird.conf -s /run/bird/bird.ctl
}

has_bird_conf() {
	on "$1" test -s /etc/bird/bird.conf
}

# node NAME ADDRESS: a machine on the segment with margay.conf, a conflist, and the programs
node() {
	machine "$1"
	plug "$1" eth0 "$2/${NODE_PREFIX#*/}"
	on "$1" ip route add default via "$TOR"
	put "$1" /etc/margay/margay.conf <<-C
		NODENAME = $1
		$(datastore)
		NO_DEFAULT_POOLS = true
		SERVICE_CLUSTER_IP_RANGE = $SERVICE_RANGE
		${NODE_PARAMETERS:-}
	C
	conflist | put "$1" /etc/cni/net.d/10-margay.conflist
	if [ "${KUBE:-}" ]; then
		kubeconfig node | put "$1" /etc/margay/kubeconfig
		kube_node "$1" "$2" || return 1
	fi
	start_felix "$1"
	start_confd "$1"
	start_proxy "$1"
	within 20 has_bird_conf "$1"
	start_bird "$1"
}

# What is left of a node that goes.
kill_machine() {
	stop_all "$1"
	end "${MACHINE[$1]}"
	unset "MACHINE[$1]"
}

# ---- pods ----

# cni NODE VERB POD [ARGUMENTS]: what a runtime does with the node's conflist; ARGUMENTS is a JSON
# object, merged into the plugin's configuration
cni() {
	local arguments=${4:-}
	on "$1" cat /etc/cni/net.d/10-margay.conflist |
		jq -c --argjson more "${arguments:-"{}"}" '(.plugins[0] + {name, cniVersion}) * $more' |
		on "$1" env CNI_COMMAND="$2" CNI_CONTAINERID="$3" CNI_NETNS="/run/netns/$3" \
			CNI_IFNAME=eth0 CNI_PATH="$BIN" \
			CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAMESPACE=${POD_NAMESPACE[$3]};K8S_POD_NAME=$3" \
			"$BIN/margay" 2>>"$T/log/$1.cni"
}

# pod NAME NODE ADDRESS|- LABEL=VALUE [POOL]: without an address it is given one. The DNS server's are
# in kube-system, as in any cluster.
pod() {
	local arguments
	POD_NAMESPACE[$1]=default
	[ "$4" != k8s-app=kube-dns ] || POD_NAMESPACE[$1]=kube-system
	arguments=$(jq -cn --arg ip "$3" --arg key "${4%%=*}" --arg value "${4#*=}" --arg pool "${5:-}" '
		{args: {cni: ({labels: [{key: $key, value: $value}]} +
			if $ip == "-" then {} else {ips: [$ip]} end)}} +
		if $pool == "" then {} else {ipam: {ipv4_pools: [$pool]}} end')
	on "$2" ip netns add "$1"
	on "$2" ip -n "$1" link set lo up
	put "$2" "/etc/netns/$1/resolv.conf" <<-C
		nameserver ${DNS_SERVER:-$DNS_IP}
		search default.svc.cluster.local svc.cluster.local cluster.local
		options ndots:5
	C
	[ -z "${KUBE:-}" ] || kube_pod "$1" "$2" "$4" || return 1
	if ! cni "$2" ADD "$1" "$arguments" >"$T/pods/$1"; then
		echo "CNI ADD of $1 on $2:"
		cat "$T/pods/$1"
		return 1
	fi
	POD_NODE[$1]=$2
	POD_IP[$1]=$(jq -r '.ips[0].address | split("/")[0]' "$T/pods/$1")
	pod_daemon "$1" echo "$ECHO" serve "$1" "$POD_PORT"
	[ -z "${KUBE:-}" ] || kube_pod_runs "$1"
}

# pod_daemon POD NAME COMMAND...
pod_daemon() {
	local pod=$1 name=$2
	shift 2
	background "$pod.$name" nsenter -t "${MACHINE[${POD_NODE[$pod]}]}" -m -n -- \
		ip netns exec "$pod" "$@"
	DAEMON[$pod.$name]=$LAST
}

# no_pod NAME: CNI DEL, and its processes end
no_pod() {
	local path="/api/v1/namespaces/${POD_NAMESPACE[$1]}/pods/$1"
	[ -z "${KUBE:-}" ] || { kube DELETE "$path" >/dev/null && kube_slices; } || return 1
	cni "${POD_NODE[$1]}" DEL "$1" || return 1
	[ -z "${KUBE:-}" ] || kube DELETE "$path?gracePeriodSeconds=0" >/dev/null || return 1
	stop_all "$1"
	on "${POD_NODE[$1]}" ip netns del "$1"
	unset "POD_NODE[$1]" "POD_IP[$1]"
}

# ---- what oracles say ----

# has_route MACHINE PREFIX PROTOCOL [VIA [DEVICE]]
has_route() {
	on "$1" ip -j route show "$2" | jq -e --arg p "$3" --arg via "${4:-}" --arg dev "${5:-}" \
		'any(.[]; .protocol == $p and ($via == "" or .gateway == $via) and
			($dev == "" or .dev == $dev))' >/dev/null ||
		{ echo "$1 has no route $2 proto $3 ${4:-}: $(on "$1" ip route show "$2")"; return 1; }
}

has_no_route() {
	local out
	out=$(on "$1" ip route show "$2") || return 1
	[ -z "$out" ] || { echo "$1 has it still: $out"; return 1; }
}

established() { # MACHINE N: so many BGP sessions are
	local n
	n=$(on "$1" birdc show protocols 2>&1 | grep -c 'BGP .* Established')
	[ "$n" -ge "$2" ] || { echo "$1: $n sessions are established, want $2"; return 1; }
}

# With PLAIN the proxy has no IPVS, and has read the datastore.
is_ready() { # NODE
	local port said
	for port in 9099 9098 10256; do
		said=$(on "$1" curl -sS -m 5 "http://127.0.0.1:$port/readyz" 2>&1) || { echo "port $port: $said"; return 1; }
		[ -z "${PLAIN:-}" ] || [ $port != 10256 ] || said=$(grep ' datastore' <<<"$said")
		! grep BAD <<<"$said" || return 1
	done
}
