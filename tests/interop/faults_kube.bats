#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# As faults.bats, with the API server of Kubernetes as the datastore. One server for all; what is wrong is
# mostly in the kubeconfig, which is read anew.

bats_require_minimum_version 1.5.0
load servers.bash

setup_file() {
	export MISSING=
	APISERVER=$("$BATS_TEST_DIRNAME/kube-apiserver" 2>&1) || {
		MISSING=$APISERVER
		return 0
	}
	ip link set lo up
	ip address add 192.0.2.1/24 dev lo
	export SERVERS=$BATS_FILE_TMPDIR
	api_prepare reader nobody
	etcd_start
	api_start --disable-admission-plugins=ServiceAccount
	node_make
	rule reader reader '["get","list","watch"]'
}

teardown_file() {
	[ -z "$MISSING" ] || return 0
	cd "$SERVERS" || return
	end "$(cat api.pid)" -KILL
	end "$(cat etcd.pid)" -KILL
}

setup() {
	[ -z "$MISSING" ] || skip "$MISSING"
	cd "$BATS_TEST_TMPDIR" || exit
	node_env
	export DATASTORE_TYPE=kubernetes KUBECONFIG=$PWD/kubeconfig
	CA=$SERVERS/pki/apiserver.crt
}

teardown() {
	[ -z "$MISSING" ] || return 0
	kill -CONT "$(cat "$SERVERS/api.pid")" || true
	[ ! -f loops.pid ] || end "$(cat loops.pid)" || true
	stop felix confd
	ip route flush proto 80
	nft flush ruleset
}

rule() { # NAME USER VERBS
	post /apis/rbac.authorization.k8s.io/v1/clusterroles '{"metadata":{"name":"'"$1"'"},
		"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":'"$3"'}]}'
	post /apis/rbac.authorization.k8s.io/v1/clusterrolebindings '{"metadata":{"name":"'"$1"'"},
		"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"'"$1"'"},
		"subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"'"$2"'"}]}'
}

good() {
	kubeconfig https://127.0.0.1:6443 "$CA" '{token: secret-of-admin}'
}

@test "Kubernetes: no CustomResourceDefinitions" {
	good
	daemons
	hindered away 'HTTP status 404'
	crds_make
	well
}

@test "Kubernetes: unreachable" {
	kubeconfig https://127.0.0.1:1 "$CA" '{token: secret-of-admin}'
	daemons
	hindered away 'Failed to connect to 127.0.0.1 port 1'
	good
	well
}

@test "Kubernetes: a wrong token" {
	kubeconfig https://127.0.0.1:6443 "$CA" '{token: secret-of-nobody-else}'
	daemons
	hindered denied Unauthorized
	good
	well
}

base64url() {
	base64 -w 0 | tr -d = | tr /+ _-
}

@test "Kubernetes: a token that has expired" {
	local sa now body
	post /apis/rbac.authorization.k8s.io/v1/clusterrolebindings '{"metadata":{"name":"margay"},
		"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},
		"subjects":[{"kind":"ServiceAccount","name":"margay","namespace":"default"}]}'
	post /api/v1/namespaces/default/serviceaccounts '{"metadata":{"name":"margay"}}'
	sa=$(api /api/v1/namespaces/default/serviceaccounts/margay | jq -r .metadata.uid)
	now=$(date +%s)
	body=$(printf '{"alg":"RS256"}' | base64url).$(jq -cn --arg u "$sa" --argjson t "$now" '{
		iss: "https://kubernetes.default.svc", aud: ["https://kubernetes.default.svc"],
		sub: "system:serviceaccount:default:margay", iat: ($t - 7200), nbf: ($t - 7200), exp: ($t - 60),
		"kubernetes.io": {namespace: "default", serviceaccount: {name: "margay", uid: $u}}}' |
		tr -d '\n' | base64url)
	echo "$body.$(printf %s "$body" | openssl dgst -sha256 -sign "$SERVERS/sa.key" -binary | base64url)" >token
	kubeconfig https://127.0.0.1:6443 "$CA" "{tokenFile: $PWD/token}"
	daemons
	hindered denied Unauthorized
	api -f -X POST -H 'Content-Type: application/json' -d '{}' \
		/api/v1/namespaces/default/serviceaccounts/margay/token | jq -r .status.token >token.new
	mv token.new token
	well
}

@test "Kubernetes: a wrong CA" {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout other.key -out other.pem \
		-days 2 -subj /CN=other 2>/dev/null
	kubeconfig https://127.0.0.1:6443 "$PWD/other.pem" '{token: secret-of-admin}'
	daemons
	hindered away certificate
	good
	well
}

@test "Kubernetes: read only" {
	api -X DELETE /apis/crd.projectcalico.org/v1/clusterinformations/default
	kubeconfig https://127.0.0.1:6443 "$CA" '{token: secret-of-reader}'
	daemons
	hindered denied 'cannot create resource' felix
	within 10 says confd 'ok  datastore'
	rule writer reader '["create","update","patch","delete"]'
	well
}

@test "Kubernetes: it hangs" {
	good
	daemons
	within 20 says felix 'ok  node'
	within 20 says confd 'ok  datastore'
	lists=$(metric felix 'requests_total{verb="list"}')
	kill -STOP "$(cat "$SERVERS/api.pid")"
	within 75 says felix 'BAD datastore'
	within 20 says confd 'BAD datastore'
	hindered away 'BAD datastore'
	kill -CONT "$(cat "$SERVERS/api.pid")"
	well
	echo "# $lists lists before, $(metric felix 'requests_total{verb="list"}') after" >&3
}
