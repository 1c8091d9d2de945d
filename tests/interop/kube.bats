#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The programs on a real kube-apiserver, with the resources in either group. There is no kubelet: the test
# makes the Node and the Pod. Run in a network and a mount namespace of its own (CMakeLists.txt); BIN names
# the directory of the programs.

bats_require_minimum_version 1.5.0

setup_file() {
	export MISSING=
	APISERVER=$("$BATS_TEST_DIRNAME/kube-apiserver" 2>&1) || {
		MISSING=$APISERVER
		return 0
	}
	mount -t tmpfs none /run
	mkdir /run/netns
	ip link set lo up
	ip address add 192.0.2.1/24 dev lo
	cd "$BATS_FILE_TMPDIR" || exit
	echo secret-of-admin,admin,admin,system:masters >tokens
	openssl ecparam -name prime256v1 -genkey -noout -out sa.key 2>/dev/null
	etcd --data-dir etcd >etcd.log 2>&1 3>&- &
	echo $! >etcd.pid
	"$APISERVER" --etcd-servers=http://127.0.0.1:2379 --bind-address=0.0.0.0 --secure-port=6443 \
		--advertise-address=192.0.2.1 \
		--cert-dir=pki --token-auth-file=tokens --authorization-mode=RBAC --service-account-key-file=sa.key \
		--service-account-signing-key-file=sa.key --service-account-issuer=https://kubernetes.default.svc \
		--service-cluster-ip-range=10.96.0.0/24 --disable-admission-plugins=ServiceAccount >api.log 2>&1 3>&- &
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

setup() {
	[ -z "$MISSING" ] || skip "$MISSING"
	cd "$BATS_TEST_TMPDIR" || exit
	export DATASTORE_TYPE=kubernetes KUBECONFIG=$BATS_FILE_TMPDIR/kubeconfig MARGAY_LOG_LEVEL=warn
	export NODENAME=node-1 CALICO_API_GROUP=$GROUP MARGAY_KUBE_ENDPOINTS_FILE=$PWD/endpoints
	FELIX=
}

teardown() {
	[ -z "$MISSING" ] || return 0
	[ -z "$FELIX" ] || kill "$FELIX"
	wait
	ip netns del web-0 2>/dev/null || true
	api -X DELETE '/api/v1/namespaces/default/pods/web-0?gracePeriodSeconds=0' >/dev/null
	api -X DELETE /api/v1/nodes/node-1 >/dev/null
	for plural in ippools ipamblocks blockaffinities ipamhandles clusterinformations felixconfigurations \
		bgpconfigurations; do
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

cni() { # VERB
	jq -n --arg k "$KUBECONFIG" --arg g "$GROUP" '{cniVersion: "1.0.0", name: "k8s-pod-network", type: "calico",
		nodename: "node-1", datastore_type: "kubernetes", kubernetes: {kubeconfig: $k}, calico_api_group: $g,
		ipam: {type: "calico-ipam"}, policy: {type: "k8s"}}' |
		CNI_COMMAND=$1 CNI_CONTAINERID=0f3c1d CNI_NETNS=/run/netns/web-0 CNI_IFNAME=eth0 CNI_PATH=/nowhere \
			CNI_ARGS='K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0' "$BIN/margay"
}

start_felix() {
	export IP=192.0.2.1/24 CALICO_IPV4POOL_CIDR=10.244.0.0/16 CALICO_IPV4POOL_IPIP=Never
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

has_blackhole() {
	[ -n "$(ip route show type blackhole "$1")" ]
}

pod_life() {
	start_felix
	# kubelet is late
	eventually grep -q 'Kubernetes has no Node node-1' felix.log
	make_node
	eventually node_is_written
	eventually answers "/apis/$GROUP/ippools/default-ipv4-ippool"
	eventually servers_are_kept
	run -0 "$BIN/margayctl" get nodes -o wide
	[[ $output == *node-1*192.0.2.1/24* ]]
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
	cni DEL
	[ "$(annotation /api/v1/namespaces/default/pods/web-0 cni.projectcalico.org/podIP)" = "" ]
	[ "$(api "/apis/$GROUP/ipamhandles" | jq '.items | length')" = 0 ]
	cni DEL
	# the Service's address does not work yet
	DATASTORE_TYPE=kubernetes KUBECONFIG='' KUBERNETES_SERVICE_HOST=10.96.0.1 K8S_API_TOKEN=secret-of-admin \
		K8S_CA_FILE=$BATS_FILE_TMPDIR/pki/apiserver.crt run -0 "$BIN/margayctl" get nodes
	[[ $output == *node-1* ]]
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
}

@test "Services are Kubernetes' own" {
	run -1 "$BIN/margayctl" apply -f "$BATS_TEST_DIRNAME/../../etc/samples/service.yaml"
	echo "$output"
	[[ ${lines[0]} == *"Service default/"*": is Kubernetes' own: use kubectl" ]]
	run -1 "$BIN/margayctl" delete service kubernetes
	echo "$output"
	[[ ${lines[0]} == *"Service default/kubernetes: is Kubernetes' own: use kubectl" ]]
}
