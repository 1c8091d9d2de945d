# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# For tests of what a datastore does to a node: etcd and a kube-apiserver on loopback in the directory
# $SERVERS, the daemons of a node in this network namespace, and a look at what they say. The tests run in
# a network and a mount namespace of their own (tests/apart); BIN names the directory of the programs.

export IPAM=/calico/ipam/v2 V3=/calico/resources/v3/projectcalico.org
export ETCDCTL_API=3

# within SECONDS COMMAND...
within() {
	local end=$((SECONDS + $1 + 1))

	shift
	while [ $SECONDS -lt $end ]; do
		! "$@" || return 0
		sleep 0.1
	done
	echo "never true: $*"
	tail -n 5 ./*.log
	false
}

gone() { # PID
	! kill -0 "$1" 2>/dev/null
}

end() { # PID [SIGNAL]: it is over when this returns, as it may have been before
	kill -CONT "$1" 2>/dev/null || return 0
	kill "${2:--TERM}" "$1" 2>/dev/null || true
	within 20 gone "$1"
}

# ---- servers ----

etcd_start() { # ARGUMENTS...
	etcd --data-dir "$SERVERS/etcd" --heartbeat-interval 20 --election-timeout 200 "$@" \
		>>"$SERVERS/etcd.log" 2>&1 3>&- 4>&- &
	ETCD=$!
	echo $ETCD >"$SERVERS/etcd.pid"
	within 20 curl -sko /dev/null "${ETCD_URL:-http://127.0.0.1:2379}/version"
}

# The tokens of admin and of whoever is named.
api_prepare() { # USER...
	local user

	cd "$SERVERS" || return
	echo secret-of-admin,admin,admin,system:masters >tokens
	for user; do
		echo "secret-of-$user,$user,$user" >>tokens
	done
	openssl genrsa -out sa.key 2048 2>/dev/null
}

api_start() { # ARGUMENTS...
	"$APISERVER" --etcd-servers=http://127.0.0.1:2379 --bind-address=127.0.0.1 --secure-port=6443 \
		--advertise-address=192.0.2.1 --cert-dir="$SERVERS/pki" --token-auth-file="$SERVERS/tokens" \
		--authorization-mode=RBAC --service-account-key-file="$SERVERS/sa.key" \
		--service-account-signing-key-file="$SERVERS/sa.key" \
		--service-account-issuer=https://kubernetes.default.svc \
		--service-cluster-ip-range=10.96.0.0/24 "$@" >>"$SERVERS/api.log" 2>&1 3>&- 4>&- &
	echo $! >"$SERVERS/api.pid"
	within 60 answers /readyz
}

api() { # CURL'S ARGUMENTS... PATH
	curl -sS --cacert "$SERVERS/pki/apiserver.crt" -H 'Authorization: Bearer secret-of-admin' \
		"${@:1:$#-1}" "https://127.0.0.1:6443${*: -1}"
}

answers() { # PATH
	api -f "$1" >/dev/null 2>&1
}

post() { # PATH BODY [TYPE]
	api -f -X POST -H "Content-Type: ${3:-application/json}" --data-binary "$2" "$1" >/dev/null
}

merge() { # PATH PATCH
	api -f -X PATCH -H 'Content-Type: application/merge-patch+json' --data-binary "$2" "$1" >/dev/null
}

crds_make() {
	local file

	awk -v out="$SERVERS/crd-" 'BEGIN { RS = "---\n" } NR > 1 { print > (out NR); close(out NR) }' \
		"${BASH_SOURCE[0]%/*}/../../etc/manifests/crds-v1.yaml"
	for file in "$SERVERS"/crd-*; do
		post /apis/apiextensions.k8s.io/v1/customresourcedefinitions "$(cat "$file")" application/yaml
	done
	within 20 answers /apis/crd.projectcalico.org/v1/ippools
	within 20 answers /apis/crd.projectcalico.org/v1/ipreservations
}

node_make() {
	post /api/v1/nodes '{"kind":"Node","apiVersion":"v1","metadata":{"name":"node-1"},
		"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.1"}]}}'
}

# kubeconfig SERVER CA USER-AS-YAML
kubeconfig() {
	cat >kubeconfig.new <<-K
		apiVersion: v1
		kind: Config
		current-context: c
		contexts: [{name: c, context: {cluster: k, user: u}}]
		clusters: [{name: k, cluster: {server: "$1", certificate-authority: "$2"}}]
		users: [{name: u, user: $3}]
	K
	mv kubeconfig.new kubeconfig
}

# ---- a node ----

node_env() {
	export MARGAY_LOG_LEVEL=warn NODENAME=node-1 IP=192.0.2.1/24 NO_DEFAULT_POOLS=true
	export FELIX_ROUTEREFRESHINTERVAL=0 FELIX_IPINIPENABLED=false
	export MARGAY_NODENAME_FILE=$PWD/nodename MARGAY_MTU_FILE=$PWD/mtu MARGAY_RUN_DIR=$PWD/run
	export BIRD_CTL=$PWD/bird.ctl BIRD_CONF_DIR=$PWD/bird MARGAY_SECRET_DIR=$PWD MARGAY_CONFIG=''
	export MARGAY_KUBE_ENDPOINTS_FILE=$PWD/endpoints
	export MARGAY_FELIX_METRICS_ENABLED=true MARGAY_CONFD_METRICS_ENABLED=true \
		MARGAY_PROXY_METRICS_ENABLED=true
	mkdir -p bird
}

start() { # DAEMON, or another one of it: DAEMON-2
	# a kubeconfig of its own, where there is one
	[ ! -f "kubeconfig-$1" ] || local -x KUBECONFIG=$PWD/kubeconfig-$1
	[[ $1 != *-2 ]] || local -x FELIX_HEALTHPORT=${HEALTH[$1]} FELIX_PROMETHEUSMETRICSPORT=${HEALTH[$1]} \
		MARGAY_NODENAME_FILE=$PWD/nodename-2 MARGAY_MTU_FILE=$PWD/mtu-2 MARGAY_RUN_DIR=$PWD/run-2 \
		MARGAY_KUBE_ENDPOINTS_FILE=$PWD/endpoints-2
	"$BIN/margay-${1%-2}" >>"$1.log" 2>&1 3>&- 4>&- &
	echo $! >"$1.pid"
	within 10 alive "$1"
}

stop() { # DAEMON...
	local d

	for d; do
		[ ! -f "$d.pid" ] || end "$(cat "$d.pid")"
	done
}

declare -gA HEALTH=([felix]=9099 [felix-2]=9199 [confd]=9098 [proxy]=10256)

alive() { # DAEMON
	curl -sfo /dev/null "127.0.0.1:${HEALTH[$1]}/healthz"
}

says() { # DAEMON TEXT
	curl -s "127.0.0.1:${HEALTH[$1]}/readyz" | grep -qF -- "$2"
}

metric() { # DAEMON NAME
	curl -s "127.0.0.1:${HEALTH[$1]}/metrics" | awk -v n="margay_datastore_$2" '$1 == n { print $2 }'
}

failed() { # DAEMON REASON
	[ "$(metric "$1" "failures_total{reason=\"$2\"}")" -ge 1 ]
}

# A store that fails does not hold up the loops of the daemons: how long /healthz took at worst, in ms.
loops_watch() { # DAEMON...
	(
		worst=0
		trap 'echo $worst >loops; exit' TERM
		while :; do
			for d; do
				ms=$(curl -s -o /dev/null -w '%{time_starttransfer}' "127.0.0.1:${HEALTH[$d]}/healthz" |
					awk '{ printf "%d", $1 * 1000 }')
				[ "$ms" -le "$worst" ] || worst=$ms
			done
			sleep 0.1
		done
	) 3>&- 4>&- &
	echo $! >loops.pid
}

loops_were_free() {
	end "$(cat loops.pid)"
	rm loops.pid
	echo "# a loop was busy for $(cat loops) ms at worst" >&3
	[ "$(cat loops)" -lt 2000 ]
}

# ---- felix and confd, whose datastore has a fault ----

daemons() {
	start felix
	start confd
	loops_watch felix confd
}

hindered() { # REASON TEXT [DAEMON...]: which is told, and counted
	local reason=$1 text=$2 d

	shift 2
	[ $# -gt 0 ] || set -- felix confd
	for d; do
		within 45 says "$d" "$text"
		within 45 failed "$d" "$reason"
		alive "$d"
	done
}

well() { # within what felix and confd back off to at most, and no credential was logged
	within 50 says felix 'ok  datastore'
	within 50 says felix 'ok  node'
	within 50 says confd 'ok  datastore'
	[ "$(metric felix up)" = 1 ]
	loops_were_free
	run -1 grep -E 'secret-of|eyJ' felix.log confd.log
}
