#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The programs on a real kube-apiserver, with the resources in either group. There is no kubelet: the test
# makes the Node and the Pod. The programs are the ServiceAccount margay, bound to the role that is installed,
# and the server's audit log tells of every request that the role forbids. Run in a network and a mount
# namespace of its own (tests/apart); BIN names the directory of the programs.

bats_require_minimum_version 1.5.0

setup_file() {
	export MISSING=
	APISERVER=$("$BATS_TEST_DIRNAME/kube-apiserver" 2>&1) || {
		MISSING=$APISERVER
		return 0
	}
	ip link set lo up
	ip address add 192.0.2.1/24 dev lo
	cd "$BATS_FILE_TMPDIR" || exit
	printf 'secret-of-admin,admin,admin,system:masters\nsecret-of-nobody,nobody,nobody\n' >tokens
	openssl genrsa -out sa.key 2048 2>/dev/null
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout other.key -out other.pem \
		-days 2 -subj /CN=other 2>/dev/null
	cat >audit.yaml <<-A
		apiVersion: audit.k8s.io/v1
		kind: Policy
		rules: [{level: Metadata, users: ["system:serviceaccount:kube-system:margay"]}]
	A
	etcd --data-dir etcd >etcd.log 2>&1 3>&- &
	echo $! >etcd.pid
	"$APISERVER" --etcd-servers=http://127.0.0.1:2379 --bind-address=0.0.0.0 --secure-port=6443 \
		--advertise-address=192.0.2.1 \
		--cert-dir=pki --token-auth-file=tokens --authorization-mode=RBAC --service-account-key-file=sa.key \
		--service-account-signing-key-file=sa.key --service-account-issuer=https://kubernetes.default.svc \
		--service-cluster-ip-range=10.96.0.0/24 --disable-admission-plugins=ServiceAccount \
		--audit-policy-file=audit.yaml --audit-log-path=audit.log >api.log 2>&1 3>&- &
	echo $! >api.pid
	cat >kubeconfig <<-K
		apiVersion: v1
		kind: Config
		current-context: c
		contexts: [{name: c, context: {cluster: k, user: u}}]
		clusters: [{name: k, cluster: {server: "https://192.0.2.1:6443", certificate-authority: pki/apiserver.crt}}]
		users: [{name: u, user: {token: secret-of-admin}}]
	K
	eventually answers /readyz
	DATASTORE_TYPE=kubernetes KUBECONFIG=kubeconfig "$BIN/margayctl" get ippools >no-crds 2>&1 || true
	for group in v1 v3; do
		awk -v out="crd-$group-" 'BEGIN { RS = "---\n" } NR > 1 { print > (out NR); close(out NR) }' \
			"$BATS_TEST_DIRNAME/../../etc/manifests/crds-$group.yaml"
	done
	for file in crd-*; do
		post application/yaml /apis/apiextensions.k8s.io/v1/customresourcedefinitions "$(cat "$file")"
	done
	for group in crd.projectcalico.org/v1 projectcalico.org/v3; do
		eventually answers "/apis/$group/ippools"
		eventually answers "/apis/$group/ipreservations"
	done
	make_account
	sed -i "s/secret-of-admin/$TOKEN/" kubeconfig
}

# The ServiceAccount margay, as README makes it; its token in TOKEN.
make_account() {
	local rbac=/apis/rbac.authorization.k8s.io/v1
	awk 'BEGIN { RS = "---\n" } NR > 1 { print > ("rbac-" NR); close("rbac-" NR) }' \
		"$BATS_TEST_DIRNAME/../../etc/manifests/rbac.yaml"
	eventually answers /api/v1/namespaces/kube-system
	post application/yaml /api/v1/namespaces/kube-system/serviceaccounts "$(cat rbac-2)"
	post application/yaml $rbac/clusterroles "$(cat rbac-3)"
	post application/yaml $rbac/clusterrolebindings "$(cat rbac-4)"
	TOKEN=$(api -f -X POST -H 'Content-Type: application/json' --data-binary '{"kind":"TokenRequest",
		"apiVersion":"authentication.k8s.io/v1","spec":{}}' \
		/api/v1/namespaces/kube-system/serviceaccounts/margay/token | jq -r .status.token)
	export TOKEN
}

# Nothing that the programs asked for was forbidden: some of it they do without, and say nothing.
all_was_allowed() {
	grep -q system:serviceaccount:kube-system:margay "$BATS_FILE_TMPDIR/audit.log"
	run -0 jq -r 'select(.responseStatus.code == 403) | "\(.verb) \(.requestURI)"' "$BATS_FILE_TMPDIR/audit.log"
	echo "$output"
	[ -z "$output" ]
}

teardown_file() {
	cd "$BATS_FILE_TMPDIR" || exit
	[ ! -f api.pid ] || kill "$(cat api.pid)" "$(cat etcd.pid)"
}

api() { # CURL'S ARGUMENTS... PATH
	curl -sS --cacert "$BATS_FILE_TMPDIR/pki/apiserver.crt" -H 'Authorization: Bearer secret-of-admin' \
		"${@:1:$#-1}" "https://192.0.2.1:6443${*: -1}"
}

answers() { # PATH
	api -f "$1" >/dev/null 2>&1
}

post() { # TYPE PATH BODY
	api -f -X POST -H "Content-Type: $1" --data-binary "$3" "$2" >/dev/null
}

patch_meta() { # PATH METADATA-AS-JSON
	api -f -X PATCH -H 'Content-Type: application/merge-patch+json' --data-binary "{\"metadata\":$2}" "$1" >/dev/null
}

setup() {
	[ -z "$MISSING" ] || skip "$MISSING"
	cd "$BATS_TEST_TMPDIR" || exit
	export DATASTORE_TYPE=kubernetes KUBECONFIG=$BATS_FILE_TMPDIR/kubeconfig MARGAY_LOG_LEVEL=warn
	export NODENAME=node-1 CALICO_API_GROUP=$GROUP MARGAY_KUBE_ENDPOINTS_FILE=$PWD/endpoints
	FELIX=
}

teardown() {
	[ -z "$MISSING" ] || return 0
	[ -z "$FELIX" ] || kill "$FELIX" || true
	wait
	ip netns del web-0 2>/dev/null || true
	api -X DELETE '/api/v1/namespaces/default/pods/web-0?gracePeriodSeconds=0' >/dev/null
	api -X DELETE /api/v1/nodes/node-1 >/dev/null
	patch_meta /api/v1/namespaces/default '{"labels":{"team":null},"annotations":{"cni.projectcalico.org/ipv4pools":null}}'
	for plural in ippools ipamblocks blockaffinities ipamhandles clusterinformations felixconfigurations \
		bgpconfigurations tiers; do
		api -X DELETE "/apis/$GROUP/$plural" >/dev/null
	done
}

make_node() {
	post application/json /api/v1/nodes '{"kind":"Node","apiVersion":"v1","metadata":{"name":"node-1",
		"labels":{"rack":"r"}},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.1"}]}}'
}

make_pod() {
	post application/json /api/v1/namespaces/default/pods '{"kind":"Pod","apiVersion":"v1","metadata":{
		"name":"web-0"},"spec":{"nodeName":"node-1","containers":[{"name":"c","image":"i"}]}}'
}

annotation() { # PATH NAME
	api "$1" | jq -r --arg n "$2" '.metadata.annotations[$n] // ""'
}

eventually() { # COMMAND...
	for _ in {1..300}; do
		! "$@" || return 0
		sleep 0.05
	done
	echo "never true: $*"
	[ ! -f felix.log ] || cat felix.log
	false
}

cni() { # VERB [VERSION [EDIT-OF-THE-NETCONF]]
	jq -n --arg k "$KUBECONFIG" --arg g "$GROUP" --arg v "${2:-1.0.0}" '{cniVersion: $v, name: "k8s-pod-network", type: "calico",
		nodename: "node-1", datastore_type: "kubernetes", kubernetes: {kubeconfig: $k}, calico_api_group: $g,
		ipam: {type: "calico-ipam"}, policy: {type: "k8s"}} | '"${3:-.}" |
		CNI_COMMAND=$1 CNI_CONTAINERID=0f3c1d CNI_NETNS=/run/netns/web-0 CNI_IFNAME=eth0 CNI_PATH=/nowhere \
			CNI_ARGS='K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0' "$BIN/margay"
}

start_felix() { # [IP]
	export IP=${1:-192.0.2.1/24} CALICO_IPV4POOL_CIDR=10.244.0.0/16 CALICO_IPV4POOL_IPIP=Never
	export FELIX_ROUTEREFRESHINTERVAL=0
	export MARGAY_NODENAME_FILE=$PWD/nodename MARGAY_MTU_FILE=$PWD/mtu MARGAY_RUN_DIR=$PWD/run
	"$BIN/margay-felix" 2>felix.log 3>&- &
	FELIX=$!
}

node_is_written() {
	[ "$(annotation /api/v1/nodes/node-1 projectcalico.org/IPv4Address)" = 192.0.2.1/24 ]
}

servers_are_kept() {
	[ "$(cat endpoints)" = https://192.0.2.1:6443 ]
}

spec() { # PLURAL NAME
	api -f "/apis/$GROUP/$1/$2" | jq -c .spec
}

# In the words of Calico's own start-up.
cluster_is_made() {
	local config=ipamconfigs
	[ "$GROUP" = crd.projectcalico.org/v1 ] || config=ipamconfigurations
	[[ $(spec clusterinformations default | jq -r .clusterGUID) =~ ^[0-9a-f]{32}$ ]]
	[ "$(spec clusterinformations default | jq -c '[.clusterType, .datastoreReady]')" = '["bgp,kdd",true]' ]
	[ "$(spec $config default | jq -c '[.autoAllocateBlocks, .strictAffinity]')" = '[true,false]' ]
	[ "$(spec felixconfigurations default | jq -r .logSeverityScreen)" = Info ]
	run ! answers "/apis/$GROUP/felixconfigurations/node.node-1"
	eventually answers "/apis/$GROUP/tiers/kube-baseline"
	[ "$(spec tiers default)" = '{"defaultAction":"Deny","order":1000000}' ]
}

has_blackhole() {
	[ -n "$(ip route show type blackhole "$1")" ]
}

pod_life() {
	start_felix
	# kubelet is late
	eventually grep -q 'Kubernetes has no Node node-1' felix.log
	make_node
	eventually node_is_written
	eventually [ -e nodename ]
	[ "$(cat nodename)" = node-1 ]
	eventually answers "/apis/$GROUP/ippools/default-ipv4-ippool"
	eventually servers_are_kept
	cluster_is_made
	run -0 "$BIN/margayctl" get nodes -o wide
	[[ $output == *node-1*192.0.2.1/24* ]]
	cni STATUS 1.1.0
	ip netns add web-0
	make_pod
	cni ADD >result.json
	address=$(jq -r '.ips[0].address' result.json)
	[[ $address == 10.244.*/32 ]]
	[ "$(annotation /api/v1/namespaces/default/pods/web-0 cni.projectcalico.org/podIP)" = "$address" ]
	[ "$(annotation /api/v1/namespaces/default/pods/web-0 cni.projectcalico.org/containerID)" = 0f3c1d ]
	block=$(api "/apis/$GROUP/ipamblocks" | jq -r '.items[0].spec | select(.affinity == "host:node-1").cidr')
	[ -n "$block" ]
	[ "$(api "/apis/$GROUP/ipamhandles" | jq -r '.items[].spec.handleID')" = k8s-pod-network.0f3c1d ]
	[ "$(api "/apis/$GROUP/blockaffinities" | jq -r '.items[].spec.state')" = confirmed ]
	eventually has_blackhole "$block"
	run -0 "$BIN/margayctl" get workloadendpoints
	[[ $output == *web-0*node-1*"$address"* ]]
	run -0 "$BIN/margayctl" ipam show --ip="${address%/32}"
	[[ $output == *"is in use"* ]]
	"$BIN/margayctl" ipam check
	"$BIN/margayctl" datastore export -f all
	grep -q '"key":"/calico/ipam/v2/handle/k8s-pod-network.0f3c1d"' all
	cni DEL
	[ "$(annotation /api/v1/namespaces/default/pods/web-0 cni.projectcalico.org/podIP)" = "" ]
	[ "$(api "/apis/$GROUP/ipamhandles" | jq '.items | length')" = 0 ]
	cni DEL
	# the Service's address does not work yet
	DATASTORE_TYPE=kubernetes KUBECONFIG='' KUBERNETES_SERVICE_HOST=10.96.0.1 K8S_API_TOKEN=$TOKEN \
		K8S_CA_FILE=$BATS_FILE_TMPDIR/pki/apiserver.crt run -0 "$BIN/margayctl" get nodes
	[[ $output == *node-1* ]]
	all_was_allowed
}

GROUP=crd.projectcalico.org/v1

@test "a node and a pod, in crd.projectcalico.org/v1" {
	pod_life
}

@test "a node and a pod, in projectcalico.org/v3" {
	GROUP=projectcalico.org/v3
	export CALICO_API_GROUP=$GROUP
	pod_life
}

annotate() { # PATH ANNOTATIONS-AS-JSON
	patch_meta "$1" "{\"annotations\":$2}"
}

# Two pools, one for namespaces of team x, and a pod on the node.
make_pools() {
	make_node
	"$BIN/margayctl" apply -f - <<-Y
		{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: others},
		 spec: {cidr: 10.244.0.0/16, allowedUses: [Workload], namespaceSelector: team != 'x'}}
		---
		{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: a-team},
		 spec: {cidr: 10.9.0.0/16, allowedUses: [Workload], namespaceSelector: team == 'x'}}
	Y
	make_pod
	ip netns add web-0
}

address() { # of the pod, after DEL and ADD: [EDIT-OF-THE-NETCONF]
	cni DEL 1.0.0 "${1:-.}"
	cni ADD 1.0.0 "${1:-.}" | tee result.json | jq -r '.ips[0].address'
}

web=/api/v1/namespaces/default/pods/web-0

# The annotations are the Pod's before the Namespace's.
pod_asks() {
	local msg
	[[ $(address) == 10.244.* ]]
	patch_meta /api/v1/namespaces/default '{"labels":{"team":"x"}}'
	[[ $(address) == 10.9.* ]]
	annotate /api/v1/namespaces/default '{"cni.projectcalico.org/ipv4pools":"[\"10.244.0.0/16\"]"}'
	[[ $(address) == 10.244.* ]]
	annotate $web '{"cni.projectcalico.org/ipv4pools":"[\"a-team\"]","cni.projectcalico.org/hwAddr":"02:00:00:00:00:07",
		"cni.projectcalico.org/floatingIPs":"[\"192.0.2.8\"]",
		"cni.projectcalico.org/allowedSourcePrefixes":"[\"198.51.100.0/24\"]"}'
	cni DEL
	msg=$(cni ADD 1.0.0 2>/dev/null | jq -r .msg) || true
	[[ $msg == *"floatingIPs of Pod default/web-0: got "*feature_control.floating_ips* ]]
	[[ $(address '.feature_control.floating_ips = true') == 10.9.* ]]
	ip -n web-0 -j link show eth0 | jq -e '.[0].address == "02:00:00:00:00:07"'
	annotate $web '{"cni.projectcalico.org/floatingIPs":null,"cni.projectcalico.org/ipv4pools":"nonsense"}'
	cni DEL
	msg=$(cni ADD 1.0.0 2>/dev/null | jq -r .msg) || true
	[ "$msg" = "annotation cni.projectcalico.org/ipv4pools of Pod default/web-0: got nonsense, want a JSON list of names or CIDRs of pools, as in [\"pool-1\"]" ]
	annotate $web '{"cni.projectcalico.org/ipv4pools":null,"cni.projectcalico.org/ipAddrs":"[\"10.244.9.9\"]"}'
	[ "$(address)" = 10.244.9.9/32 ]
	annotate $web '{"cni.projectcalico.org/ipAddrs":null,"cni.projectcalico.org/ipAddrsNoIpam":"[\"10.66.0.1\"]"}'
	[ "$(address '.feature_control.ip_addrs_no_ipam = true')" = 10.66.0.1/32 ]
	cni CHECK 1.0.0 ".feature_control.ip_addrs_no_ipam = true | .prevResult = $(cat result.json)"
	[ "$(api "/apis/$GROUP/ipamhandles" | jq '.items | length')" = 0 ]
	cni DEL
	all_was_allowed
}

@test "what pods ask for by annotations, and namespaces by their labels" {
	make_pools
	pod_asks
}

@test "another datastore beside Kubernetes: the endpoint has what the pod has" {
	local beside
	make_node
	post application/json /api/v1/namespaces/default/pods '{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-0",
		"generateName":"web-","labels":{"app":"web"},"annotations":{"cni.projectcalico.org/ipv4pools":"[\"q\"]",
		"cni.projectcalico.org/floatingIPs":"[\"192.0.2.8\"]","cni.projectcalico.org/allowedSourcePrefixes":"[\"198.51.100.0/24\"]"}},
		"spec":{"nodeName":"node-1","serviceAccountName":"web","containers":[{"name":"c","image":"i",
		"ports":[{"name":"http","containerPort":80},{"containerPort":81}]}]}}'
	ip netns add web-0
	export DATASTORE_TYPE=sqlite MARGAY_SQLITE_PATH=$PWD/db
	"$BIN/margayctl" apply -f - <<-Y
		{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: p}, spec: {cidr: 10.244.0.0/16}}
		---
		{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: q}, spec: {cidr: 10.9.0.0/16}}
	Y
	beside=".datastore_type = \"sqlite\" | .sqlite_path = \"$PWD/db\" | .feature_control.floating_ips = true"
	cni ADD 1.0.0 "$beside" >result.json
	"$BIN/margayctl" get workloadendpoint node--1-k8s-web--0-eth0 -o json >wep
	address=$(jq -r '.ips[0].address' result.json)
	[[ $address == 10.9.* ]]
	jq -e --arg a "${address%/32}" '(.metadata | .generateName == "web-" and .labels == {app: "web", "projectcalico.org/namespace": "default",
		"projectcalico.org/orchestrator": "k8s", "projectcalico.org/serviceaccount": "web"}) and
		(.spec | .serviceAccountName == "web" and .profiles == ["kns.default", "ksa.default.web"] and
		.ports == [{name: "http", protocol: "TCP", port: 80, hostPort: 0, hostIP: ""}] and
		.ipNATs == [{internalIP: $a, externalIP: "192.0.2.8"}] and
		.allowSpoofedSourcePrefixes == ["198.51.100.0/24"])' wep || { cat wep; false; }
	cni DEL 1.0.0 "$beside"
	api -X DELETE '/api/v1/namespaces/default/pods/web-0?gracePeriodSeconds=0' >/dev/null
	run -1 cni ADD 1.0.0 "$beside"
	[[ $output == *'"code": 11'*"there is no Pod default/web-0"* ]]
	all_was_allowed
}

@test "what a deleted node had is given back" {
	make_node
	"$BIN/margayctl" apply -f - <<<'{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"p"},
		"spec":{"cidr":"10.244.0.0/16","blockSize":24}}'
	"$BIN/margayctl" ipam claim 10.244.7.0/24 --node node-1
	run -1 "$BIN/margayctl" delete node node-1
	echo "$output"
	[ "$output" = "margayctl: Node node-1: is Kubernetes' own: kubectl delete node node-1, and then this again, which gives back its blocks" ]
	[ "$(api "/apis/$GROUP/blockaffinities" | jq '.items | length')" = 1 ]
	api -f -X DELETE /api/v1/nodes/node-1 >/dev/null
	run -0 "$BIN/margayctl" delete node node-1
	[ "$(api "/apis/$GROUP/blockaffinities" | jq '.items | length')" = 0 ]
	[ "$(api "/apis/$GROUP/ipamblocks" | jq '.items | length')" = 0 ]
	run -1 "$BIN/margayctl" delete node node-1
	echo "$output"
	[ "$output" = "margayctl: Node node-1: does not exist" ]
	# The addresses of pods that went before their node, too.
	make_node
	make_pod
	ip netns add web-0
	cni ADD
	ip netns del web-0
	api -X DELETE '/api/v1/namespaces/default/pods/web-0?gracePeriodSeconds=0' >/dev/null
	api -f -X DELETE /api/v1/nodes/node-1 >/dev/null
	[ "$(api "/apis/$GROUP/ipamhandles" | jq '.items | length')" = 1 ]
	run -0 "$BIN/margayctl" delete node node-1
	for plural in ipamhandles ipamblocks blockaffinities; do
		[ "$(api "/apis/$GROUP/$plural" | jq '.items | length')" = 0 ]
	done
}

custom() { # KIND PLURAL NAME SPEC
	post application/json "/apis/$GROUP/$2" "$(jq -nc --arg g "$GROUP" --arg k "$1" --arg n "$3" --argjson s "$4" \
		'{kind: $k, apiVersion: $g, metadata: {name: $n}, spec: $s}')"
}

check_and_mend() {
	local config=ipamconfigs deleted='"false"'
	[ "$GROUP" = crd.projectcalico.org/v1 ] || config=ipamconfigurations deleted=false
	make_node
	"$BIN/margayctl" apply -f - <<<'{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"p"},
		"spec":{"cidr":"10.244.0.0/16","blockSize":24}}'
	make_pod
	ip netns add web-0
	cni ADD >result.json
	ip netns del web-0
	address=$(jq -r '.ips[0].address' result.json)
	run -0 "$BIN/margayctl" ipam check
	# A pod that has ended has no address as an endpoint, and keeps it until it is taken down.
	api -f -X PATCH -H 'Content-Type: application/merge-patch+json' --data-binary '{"status":{"phase":"Succeeded"}}' \
		/api/v1/namespaces/default/pods/web-0/status >/dev/null
	run -0 "$BIN/margayctl" get workloadendpoints -A -o json
	[ "$(jq -c .spec.ipNetworks <<<"$output")" = null ]
	run -0 "$BIN/margayctl" ipam check --repair --quarantine 0
	[ "$(api "/apis/$GROUP/ipamhandles" | jq '.items | length')" = 1 ]
	# Nobody was told that it went; and the rest is by another's hand.
	api -f -X DELETE '/api/v1/namespaces/default/pods/web-0?gracePeriodSeconds=0' >/dev/null
	block=$(api "/apis/$GROUP/ipamblocks" | jq -r '.items[0].spec.cidr')
	custom IPAMHandle ipamhandles net.empty "{\"handleID\":\"net.empty\",\"block\":{\"$block\":1},\"deleted\":false}"
	custom BlockAffinity blockaffinities "gone-$(tr ./ - <<<"$block")" \
		"{\"cidr\":\"$block\",\"node\":\"gone\",\"state\":\"confirmed\",\"deleted\":$deleted}"
	run -2 "$BIN/margayctl" ipam check
	echo "$output"
	[[ $output == *"${address%/32} was given to pod default/web-0, and no endpoint has it"* ]]
	run -0 "$BIN/margayctl" ipam check --repair --quarantine 0
	echo "$output"
	[[ $output == *"Repaired 3 of 3 problems."* ]]
	[ "$(api "/apis/$GROUP/ipamhandles" | jq '.items | length')" = 0 ]
	[ "$(api "/apis/$GROUP/blockaffinities" | jq -r '.items[].spec.node')" = node-1 ]
	[ "$(api "/apis/$GROUP/ipamblocks" | jq -c '[.items[].spec.allocations[] | values]')" = '[]' ]
	run -0 "$BIN/margayctl" ipam check
	# The configuration is the resource here.
	run -0 "$BIN/margayctl" ipam configure --strictaffinity=true --max-blocks-per-host=4
	[ "$(spec $config default | jq -c '[.strictAffinity, .autoAllocateBlocks, .maxBlocksPerHost]')" = '[true,true,4]' ]
	run -0 "$BIN/margayctl" ipam show --show-configuration
	[[ $output == *'| MaxBlocksPerHost             | 4       |'* ]]
	api -X DELETE "/apis/$GROUP/$config" >/dev/null
	custom ClusterInformation clusterinformations default '{"clusterGUID":"d5c2","datastoreReady":true}'
	"$BIN/margayctl" datastore lock
	run -0 "$BIN/margayctl" ipam split 2 --cidr=10.244.0.0/16
	"$BIN/margayctl" datastore unlock
	[ "$(api "/apis/$GROUP/ippools" | jq -r '.items[] | "\(.metadata.name) \(.spec.cidr)"' | xargs)" = \
		"split-p-0 10.244.0.0/17 split-p-1 10.244.128.0/17" ]
	all_was_allowed
}

@test "addresses are checked and mended, in crd.projectcalico.org/v1" {
	check_and_mend
}

@test "addresses are checked and mended, in projectcalico.org/v3" {
	GROUP=projectcalico.org/v3
	export CALICO_API_GROUP=$GROUP
	check_and_mend
}

@test "Services are Kubernetes' own" {
	run -1 "$BIN/margayctl" apply -f "$BATS_TEST_DIRNAME/../../etc/samples/service.yaml"
	echo "$output"
	[[ ${lines[0]} == *"Service default/"*": is Kubernetes' own: use kubectl" ]]
	run -1 "$BIN/margayctl" delete service kubernetes
	echo "$output"
	[[ ${lines[0]} == *"Service default/kubernetes: is Kubernetes' own: use kubectl" ]]
}

# A file of parameters for each datastore, and a datastore with every kind in SQLite.
make_places() {
	forget_everything
	unset DATASTORE_TYPE KUBECONFIG CALICO_API_GROUP
	printf '%s\n' 'DATASTORE_TYPE = sqlite' "MARGAY_SQLITE_PATH = $PWD/old.db" >old.conf
	printf '%s\n' 'DATASTORE_TYPE = sqlite' "MARGAY_SQLITE_PATH = $PWD/new.db" >new.conf
	printf '%s\n' 'ETCD_ENDPOINTS = http://127.0.0.1:2379' >etcd.conf
	for version in v1 v3; do
		printf '%s\n' 'DATASTORE_TYPE = kubernetes' "KUBECONFIG = $BATS_FILE_TMPDIR/kubeconfig" \
			"CALICO_API_GROUP = $([ $version = v3 ] || echo crd.)projectcalico.org/$version" >$version.conf
	done
	golden=$BATS_TEST_DIRNAME/../samples
	jq -c --slurpfile block "$golden/block-used.json" --slurpfile pool "$golden/pool.json" -n '
		def meta(n): {name: n, uid: "3f2a9c1e-7b4d-4e21-9a6c-0d5e8f713b42",
			creationTimestamp: "2026-08-01T12:00:00Z"};
		def resource(kind; plural; n; spec): {key: ("/calico/resources/v3/projectcalico.org/" + plural + "/" + n),
			value: {kind: kind, apiVersion: "projectcalico.org/v3", metadata: meta(n), spec: spec}};
		def ipam(key; value): {key: ("/calico/ipam/v2/" + key), value: value};
		[ipam("assignment/ipv4/block/10.244.66.128-29"; $block[0] | .affinity = "host:node-1"
			| .attributes[].secondary.node = "node-1" | .attributes[0].handle_id = "ipip-tunnel-addr-node-1"),
		ipam("assignment/ipv6/block/fd00::40-122"; {cidr: "fd00::40/122", affinity: "host:node-2",
			affinity_claim_time: "2026-08-01T12:00:00Z", allocations: [range(64) | null],
			unallocated: [range(64)], attributes: null, sequenceNumber: 1, sequenceNumberForAllocation: {},
			deleted: false}),
		ipam("handle/ipip-tunnel-addr-node-1"; {block: {"10.244.66.128/29": 1}, deleted: false}),
		ipam("handle/k8s-pod-network.0f3c1d"; {block: {"10.244.66.128/29": 1}, deleted: false}),
		ipam("host/node-1/ipv4/block/10.244.66.128-29"; {state: "confirmed", deleted: false}),
		ipam("host/node-2/ipv6/block/fd00::40-122"; {state: "confirmed", deleted: false}),
		ipam("config"; {auto_allocate_blocks: true, maxBlocksPerHost: 3}),
		{key: "/calico/resources/v3/projectcalico.org/ippools/default-ipv4-ippool", value: ($pool[0] |
			.metadata.labels = {"a": "b"} | .spec.nodeSelector = "a == \"<>&\"")},
		resource("IPPool"; "ippools"; "six"; {cidr: "fd00::/64", blockSize: 122, allowedUses: ["Workload"],
			nodeSelector: "all()", assignmentMode: "Manual"}),
		resource("IPReservation"; "ipreservations"; "r"; {reservedCIDRs: ["10.244.66.130/32"]}),
		resource("IPAMConfiguration"; "ipamconfigurations"; "default";
			{autoAllocateBlocks: true, strictAffinity: false, maxBlocksPerHost: 3}),
		resource("BGPConfiguration"; "bgpconfigurations"; "default"; {asNumber: 64513, nodeToNodeMeshEnabled: true,
			logSeverityScreen: "Info", serviceLoadBalancerAggregation: "Enabled"}),
		resource("BGPPeer"; "bgppeers"; "router"; {peerIP: "192.0.2.254", asNumber: 64514, unknown: {to: ["us"]}}),
		resource("BGPFilter"; "bgpfilters"; "f"; {exportV4: [{action: "Accept"}]}),
		({nftablesMode: "Auto", nftablesFlowTableOffload: "Disabled"} as $defaults |
			resource("FelixConfiguration"; "felixconfigurations"; "default"; $defaults + {logSeverityScreen: "Info"}),
			resource("FelixConfiguration"; "felixconfigurations"; "node.node-1"; $defaults + {ipipMTU: 1400})),
		resource("ClusterInformation"; "clusterinformations"; "default";
			{clusterGUID: "00112233445566778899aabbccddeeff", clusterType: "margay", datastoreReady: true}),
		(resource("Node"; "nodes"; "node-1"; {bgp: {ipv4Address: "192.0.2.1/24", asNumber: 64515,
			ipv4IPIPTunnelAddr: "10.244.66.128"}}) | .value.metadata.labels = {mine: "yes"}),
		resource("Node"; "nodes"; "node-2"; {bgp: {ipv4Address: "192.0.2.2/24"}}),
		(resource("WorkloadEndpoint"; "workloadendpoints"; "default/node--1-k8s-web--0-eth0"; {node: "node-1",
			orchestrator: "k8s", pod: "web-0", endpoint: "eth0", ipNetworks: ["10.244.66.129/32"]})
			| .value.metadata.namespace = "default" | .value.metadata.name = "node--1-k8s-web--0-eth0"),
		{key: "/margay/v1/services/default/dns", value: {kind: "Service", apiVersion: "v1",
			metadata: {name: "dns", namespace: "default"}, spec: {clusterIP: "10.96.0.10"}}},
		{key: "/margay/v1/serviceips/10.96.0.10", value: {service: "default/dns", time: 1795573000, id: 7}}]
		| {datastore: "export", version: 1, objects: length}, .[]' >start
}

# Without what a datastore sets, and without what Kubernetes has of its own.
plain() { # FILE
	jq -S -s 'map(select(.key and (.key | test("/margay/|node-2$|workloadendpoints|profiles") | not)) |
		del(.value.metadata?.uid?, .value.metadata?.creationTimestamp?, .value.metadata?.labels?.rack?,
			.value.spec?.orchRefs?, .value.spec?.addresses?, .value.spec?.datastoreReady?) |
		walk(if type == "object" then with_entries(select(.value != {} and .value != [] and .value != null))
			else . end)) | sort_by(.key)[]' "$1"
}

forget_everything() {
	for group in crd.projectcalico.org/v1 projectcalico.org/v3; do
		for plural in $(api "/apis/$group" | jq -r '.resources[].name'); do
			api -X DELETE "/apis/$group/$plural" >/dev/null
		done
	done
	ETCDCTL_API=3 etcdctl del --prefix /calico >/dev/null
	ETCDCTL_API=3 etcdctl del --prefix /margay >/dev/null
	rm -f ./*.db*
}

ctl_on() { # CONF ARGUMENTS...
	"$BIN/margayctl" --config "$1.conf" "${@:2}"
}

move() { # FROM TO
	run -0 --separate-stderr "$BIN/margayctl" datastore migrate --from "$1.conf" --to "$2.conf"
	# shellcheck disable=SC2154 # bats sets it
	echo "$output" "$stderr"
	[[ $stderr == *" stays locked; give the new parameters"* ]]
	ctl_on "$2" ipam check
	[[ $(ctl_on "$1" get clusterinformation -o json) == *'"datastoreReady": false'* ]]
	[[ $(ctl_on "$2" get clusterinformation -o json) == *'"datastoreReady": true'* ]]
}

@test "everything is moved: SQLite, etcd, Kubernetes in either group, and back" {
	make_node
	make_pod
	api -f -X PATCH -H 'Content-Type: application/merge-patch+json' --data-binary '{"metadata":{"annotations":{
		"cni.projectcalico.org/podIP":"10.244.66.129/32"}}}' /api/v1/namespaces/default/pods/web-0/status >/dev/null
	make_places
	ctl_on old datastore import -f start
	ctl_on old ipam check
	move old etcd
	move etcd v1
	[[ $stderr == *"left out"*"1 workloadendpoints, "*"1 services"* ]]
	[[ $stderr == *"none of this name: node-2;"* ]]
	[ "$(annotation /api/v1/nodes/node-1 projectcalico.org/IPv4Address)" = 192.0.2.1/24 ]
	move v1 v3
	move v3 new
	ctl_on new datastore export -f end
	diff <(plain start) <(plain end)
	[ "$(jq -c 'select(.key and (.key | test("workloadendpoints"))) | .value.spec.ipNetworks' end)" = '["10.244.66.129/32"]' ]
	# the same again changes nothing, and into one that has other objects is refused
	ctl_on v3 datastore unlock
	run -0 ctl_on v3 datastore migrate --to new.conf -o json
	[[ $output == *'"written": 0'* ]]
	ctl_on new delete bgppeer router
	run -1 ctl_on new datastore migrate --to etcd.conf
	[[ $output == *"differs: /calico/resources/v3/projectcalico.org/bgppeers/router"* ]]
	[[ $output == *"nothing was written"*"--overwrite"* ]]
	[[ $(ctl_on new get clusterinformation -o json) == *'"datastoreReady": true'* ]]
	ctl_on new datastore migrate --to etcd.conf --overwrite
	[ "$(ctl_on etcd get bgppeers -o name)" = "" ]
}

@test "a status is for those to write who report it" {
	make_places
	jq -c 'if .key and (.key | test("ippools/six$")) then
		.value.status = {conditions: [{type: "Allocatable", status: "True", reason: "OK", message: "",
			lastTransitionTime: "2026-08-01T12:00:00Z"}]} else . end' start >with
	ctl_on old datastore import -f with
	move old etcd
	[[ $stderr != *"the status"* ]]
	run -0 --separate-stderr ctl_on etcd datastore migrate --to v1.conf -o json
	echo "$output" "$stderr"
	[ "$(jq -c .statusLeftOut <<<"$output")" = '{"ippools":1}' ]
	[[ $stderr == *"left out"*"the status of 1 ippools"* ]]
}

@test "what cannot be read is not moved" {
	make_places
	ctl_on v1 apply -f - <<<'{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"p"},
		"spec":{"cidr":"10.244.0.0/16"}}'
	api -f -X PATCH -H 'Content-Type: application/merge-patch+json' --data-binary '{"metadata":{"annotations":{
		"projectcalico.org/metadata":"{half"}}}' /apis/crd.projectcalico.org/v1/ippools/p >/dev/null
	why='margayctl: 1 objects cannot be read: mend or delete them; the first is
		/calico/resources/v3/projectcalico.org/ippools/p:
		"IPPool p: annotation projectcalico.org/metadata: want a JSON object"'
	for args in "export" "migrate --to etcd.conf"; do
		# shellcheck disable=SC2086 # words
		run -1 ctl_on v1 datastore $args
		echo "$output"
		[ "$output" = "$(tr -s '\n\t' ' ' <<<"$why" | sed 's/ $//')" ]
	done
	[ "$(ctl_on etcd get ippools -o name)" = "" ]
}

@test "a migration that is killed anywhere goes on" {
	make_places
	jq -c '.objects += 2000 | if .datastore then ., (range(2000) | {key: "/calico/ipam/v2/handle/h\(.)",
		value: {block: {}, deleted: false}}) else del(.objects) end' start >many
	ctl_on old datastore import -f many
	rounds=0
	until "$BIN/margayctl" datastore migrate --from old.conf --to etcd.conf 2>err & pid=$!
		sleep "0.$((rounds ? RANDOM % 9 : 2))"
		kill -"$((rounds % 2 ? 9 : 15))" "$pid" 2>/dev/null || true
		wait "$pid"; do
		rounds=$((rounds + 1))
		[ "$rounds" -lt 40 ]
	done
	echo "$rounds times"
	[ "$rounds" -gt 0 ]
	ctl_on etcd datastore export -f there
	diff <(plain many) <(plain there)
}

@test "of two groups that are served, the one that is used lacks what the other has" {
	forget_everything
	unset CALICO_API_GROUP
	jq 'del(.metadata.uid, .metadata.creationTimestamp) | .spec.ipipMode = "Never"' \
		"$BATS_TEST_DIRNAME/../samples/pool.json" >pool
	post application/json /apis/projectcalico.org/v3/ippools "$(cat pool)"
	run -0 --separate-stderr "$BIN/margayctl" get ippools
	[[ $stderr == *"crd.projectcalico.org/v1 is used, and has none of what projectcalico.org/v3 has: 1 IPPool; "*"CALICO_API_GROUP=projectcalico.org/v3"* ]]
	CALICO_API_GROUP=projectcalico.org/v3 run -0 --separate-stderr "$BIN/margayctl" get ippools -o name
	[ "$output" = ippool/default-ipv4-ippool ]
	[ -z "$stderr" ]
	make_node
	make_pod
	ip netns add web-0
	GROUP='' run ! --separate-stderr cni ADD
	echo "$output"
	[ "$(jq .code <<<"$output")" = 11 ]
	[[ $output == *"crd.projectcalico.org/v1 is used, and has none of what projectcalico.org/v3 has: 1 IPPool; "* ]]
	start_felix
	eventually grep -q 'is used, and has none of what projectcalico.org/v3 has: 1 IPPool' felix.log
	kill "$FELIX"
	wait "$FELIX" || true
	FELIX=
}

# ---- what goes wrong ----

base64url() {
	base64 -w0 | tr '+/' '-_' | tr -d =
}

# As kube-apiserver makes one for a service account.
account_token() { # EXPIRES
	uid=$(api /api/v1/namespaces/default/serviceaccounts/margay | jq -r .metadata.uid)
	head=$(printf '{"alg":"RS256","kid":"%s"}' "$(openssl rsa -in "$BATS_FILE_TMPDIR/sa.key" -pubout -outform DER \
		2>/dev/null | openssl dgst -sha256 -binary | base64url)" | base64url)
	claims=$(jq -cn --arg uid "$uid" --argjson exp "$1" '{iss: "https://kubernetes.default.svc",
		aud: ["https://kubernetes.default.svc"], exp: $exp, iat: ($exp - 600), nbf: ($exp - 600),
		sub: "system:serviceaccount:default:margay", "kubernetes.io": {namespace: "default",
		serviceaccount: {name: "margay", uid: $uid}}}' | tr -d '\n' | base64url)
	printf '%s.%s.' "$head" "$claims"
	printf '%s.%s' "$head" "$claims" | openssl dgst -sha256 -sign "$BATS_FILE_TMPDIR/sa.key" | base64url
}

kubeconfig() { # CLUSTER USER
	cat >kubeconfig <<-K
		apiVersion: v1
		kind: Config
		current-context: c
		contexts: [{name: c, context: {cluster: k, user: u}}]
		clusters: [{name: k, cluster: {$1}}]
		users: [{name: u, user: {$2}}]
	K
	export KUBECONFIG=$PWD/kubeconfig
}

no_secrets() { # FILE...
	run -1 grep -e 'secret-of' -e 'eyJ' "$@"
}

# A text of the one line that margayctl says, and of what a daemon logs; at debug level, without a secret.
told() { # TEXT
	MARGAY_LOG_LEVEL=debug run -1 "$BIN/margayctl" get ippools
	echo "$output" >ctl.log
	[ "$(grep -c '^margayctl: ' ctl.log)" = 1 ]
	[[ $(grep '^margayctl: ' ctl.log) == *"$1"* ]] || { cat ctl.log; false; }
	MARGAY_LOG_LEVEL=debug start_felix
	eventually grep -qF "${1//ippools/clusterinformations}" felix.log # what it reads first
	kill "$FELIX" 2>/dev/null || true
	wait "$FELIX" || true
	FELIX=
	no_secrets ctl.log felix.log
}

@test "what goes wrong is told in one line, without a secret" {
	[[ $(cat "$BATS_FILE_TMPDIR/no-crds") == "margayctl: datastore https://192.0.2.1:6443: /apis/crd.projectcalico.org/v1/ippools: HTTP status 404"*"kubectl apply one of crds-v1.yaml and crds-v3.yaml" ]]
	pki=$BATS_FILE_TMPDIR/pki/apiserver.crt
	good="server: \"https://192.0.2.1:6443\", certificate-authority: $pki"
	kubeconfig "$good" 'token: secret-of-nobody'
	told 'User "nobody" cannot list resource "ippools" in API group "crd.projectcalico.org" at the cluster scope: its RBAC role has to allow that'
	kubeconfig "$good" 'token: secret-of-nobody-at-all'
	told "Unauthorized: the token of $PWD/kubeconfig is wrong or has expired: give one that this cluster knows"
	kubeconfig "$good" ''
	told 'forbidden: User "system:anonymous"'
	post application/json /api/v1/namespaces/default/serviceaccounts '{"metadata":{"name":"margay"}}'
	account_token $(($(date +%s) + 600)) >token
	kubeconfig "$good" "tokenFile: $PWD/token"
	told 'User "system:serviceaccount:default:margay" cannot list resource "ippools"'
	account_token $(($(date +%s) - 60)) >token
	told "Unauthorized: the token in $PWD/token is wrong or has expired"
	kubeconfig "$good" 'tokenFile: /nowhere'
	told 'datastore https://192.0.2.1:6443: token: open /nowhere: No such file or directory'
	kubeconfig "server: \"https://192.0.2.1:6443\", certificate-authority: $BATS_FILE_TMPDIR/other.pem" \
		'token: secret-of-admin'
	told 'certificate in certificate chain: check certificate-authority, client-certificate and client-key in KUBECONFIG'
	kubeconfig "$good" "client-certificate: $pki, client-key: /nowhere"
	told 'check certificate-authority, client-certificate and client-key in KUBECONFIG'
	kubeconfig 'server: "https://127.0.0.1:9"' 'token: secret-of-admin'
	told "127.0.0.1 port 9: Couldn't connect to server: check the address in KUBECONFIG, and that an API server is there"
	kubeconfig 'server: "http://127.0.0.1:6443"' 'token: secret-of-admin'
	told 'Client sent an HTTP request to an HTTPS server: want https://'
	kubeconfig 'server: "https://127.0.0.1:2379"' 'token: secret-of-admin'
	told 'check the address in KUBECONFIG, and that an API server is there'
	kubeconfig "$good" 'exec: {command: aws, args: [secret-of-exec]}'
	told 'user u: exec is not supported: give the user a token, a tokenFile or client-certificate and client-key'
	kubeconfig "$good" 'auth-provider: {name: gcp, config: {access-token: secret-of-gcp}}'
	told 'user u: auth-provider is not supported: give the user a token'
	# and who has said nothing wrong keeps it as well
	kubeconfig "$good" 'token: secret-of-admin'
	export K8S_API_TOKEN=secret-of-admin ETCD_PASSWORD=secret-of-etcd
	for program in felix confd proxy; do
		MARGAY_LOG_LEVEL=debug "$BIN/margay-$program" --print-config >print-config 2>&1
		grep -q K8S_API_TOKEN print-config
		no_secrets print-config
	done
	MARGAY_LOG_LEVEL=debug "$BIN/margayctl" get ippools >ctl.log 2>&1
	run ! cni ADD
	echo "$output" >result.json
	no_secrets ctl.log result.json
	api -X DELETE /api/v1/namespaces/default/serviceaccounts/margay >/dev/null
}

apply_all() { # GROUP MANAGER: each definition's generation
	for file in "$BATS_FILE_TMPDIR/crd-$1-"*; do
		name=$(sed -n 's/^  name: //p' "$file" | head -n 1)
		api -f -X PATCH -H 'Content-Type: application/apply-patch+yaml' --data-binary "@$file" \
			"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/$name?fieldManager=$2" |
			jq -r '"\(.metadata.name) \(.metadata.generation)"'
	done
}

columns() { # PATH
	api -H 'Accept: application/json;as=Table;v=v1;g=meta.k8s.io' "$1" | jq -r '[.columnDefinitions[].name] | join(" ")'
}

@test "the manifests are small, applied by two without a conflict, and refuse what makes no sense" {
	for group in v1 v3; do
		[ "$(stat -c %s "$BATS_TEST_DIRNAME/../../etc/manifests/crds-$group.yaml")" -lt 40000 ]
		first=$(apply_all $group one)
		[ "$(wc -l <<<"$first")" = 22 ]
		run -1 grep -v ' 1$' <<<"$first"
		[ "$(apply_all $group two)" = "$first" ]
		[ "$(apply_all $group one)" = "$first" ]
		path=/apis/crd.projectcalico.org/v1
		[ $group = v1 ] || path=/apis/projectcalico.org/v3
		GROUP=${path#/apis/}
		[ "$(columns $path/ippools)" = "Name CIDR NAT IPIP VXLAN" ]
		[ "$(columns $path/tiers)" = "Name Order Default" ]
		while read -r plural kind spec want; do
			answer=$(api -X POST -H 'Content-Type: application/json' --data-binary \
				"{\"kind\":\"$kind\",\"apiVersion\":\"$GROUP\",\"metadata\":{\"name\":\"a\"},\"spec\":$spec}" \
				"$path/$plural")
			[[ $answer == *"$want"* ]] || { echo "$plural: $answer"; false; }
		done <<-'E'
			ippools IPPool {"cidr":"10.0.0.0/8","ipipMode":"Always","vxlanMode":"Always"} want one of them Never
			ippools IPPool {"cidr":"fd00::/48","ipipMode":"Always"} ipipMode: want Never for IPv6
			ippools IPPool {"cidr":"10.0.0.0/8","blockSize":33} blockSize: want 20 to 32, of IPv6 116 to 128
			ippools IPPool {} spec.cidr: Required value
			bgppeers BGPPeer {"node":"a","nodeSelector":"all()"} node and nodeSelector: want one of them, or none
			bgpconfigurations BGPConfiguration {"nodeToNodeMeshEnabled":false,"nodeMeshMaxRestartTime":"1m"} want nodeToNodeMeshEnabled
			hostendpoints HostEndpoint {"node":"a"} want an interfaceName or expectedIPs
			globalnetworkpolicies GlobalNetworkPolicy {"preDNAT":true} want applyOnForward
			tiers Tier {"defaultAction":"Maybe"} Unsupported value
			ippools IPPool {"cidr":"10.0.0.0/8"} "assignmentMode": "Automatic"
		E
		[[ $(api -X PATCH -H 'Content-Type: application/merge-patch+json' -d '{"spec":{"cidr":"10.0.0.0/9"}}' \
			$path/ippools/a) == *"cidr cannot change: create another IPPool"* ]]
		api -X DELETE $path/ippools/a >/dev/null
	done
}

@test "a node whose address another has is refused" {
	post application/json /api/v1/nodes '{"kind":"Node","apiVersion":"v1","metadata":{"name":"node-2",
		"annotations":{"projectcalico.org/IPv4Address":"192.0.2.1/24"}}}'
	make_node
	start_felix
	eventually grep -q "node node-1: its address 192.0.2.1 is node node-2's already" felix.log
	run -1 node_is_written
	[ ! -e nodename ]
	api -f -X DELETE /api/v1/nodes/node-2 >/dev/null
	eventually node_is_written
	eventually [ -e nodename ]
}

@test "a block that an older Calico claimed without labels is found" {
	for node in node-1 node-2; do
		post application/json "/apis/$GROUP/blockaffinities" '{"kind":"BlockAffinity","apiVersion":"'"$GROUP"'",
			"metadata":{"name":"'"$node"'-10-244-9-0-26","labels":{"theirs":"x"}},"spec":{"state":"confirmed",
			"node":"'"$node"'","type":"host","cidr":"10.244.9.0/26","deleted":"false"}}'
	done
	make_node
	start_felix
	labels_of() { api "/apis/$GROUP/blockaffinities/$1-10-244-9-0-26" | jq -c .metadata.labels; }
	is_labelled() { [[ $(labels_of node-1) == *'"projectcalico.org/hostname-hash"'* ]]; }
	eventually is_labelled
	[ "$(labels_of node-1 | jq -r '."projectcalico.org/hostname-hash", ."projectcalico.org/affinity-type", .theirs' | paste -sd' ')" = \
		'A3XPYDATRKB7Q4SM2O5FN4RXIHBFIL2PITFX26BAIP5XAB2X74CA host x' ]
	[ "$(labels_of node-2)" = '{"theirs":"x"}' ]
}

@test "the node's address is the one that kubelet has told" {
	export IP_AUTODETECTION_METHOD=kubernetes-internal-ip
	start_felix autodetect
	eventually grep -q 'Kubernetes has given the node no IPv4 InternalIP' felix.log
	make_node
	eventually node_is_written
}

@test "what the other datastore has no place for is told before anything is written" {
	make_places
	api -f -X DELETE /apis/apiextensions.k8s.io/v1/customresourcedefinitions/bgpfilters.crd.projectcalico.org \
		>/dev/null
	filters=/apis/crd.projectcalico.org/v1/bgpfilters
	for _ in {1..300}; do
		answers $filters || break
		sleep 0.05
	done
	ctl_on old datastore import -f start
	run -1 ctl_on old datastore migrate --to v1.conf
	[[ $output == *"has no place for 1 bgpfilters: nothing was written; install their Custom"* ]]
	[[ $(ctl_on old get clusterinformation -o json) == *'"datastoreReady": true'* ]]
	[ -z "$(ctl_on v1 get ippools -o name)" ]
}
