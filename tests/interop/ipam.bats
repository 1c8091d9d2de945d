#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The randomized test of address management (ipam_model.c) on each datastore, MARGAY_IPAM_OPS operations: what
# it leaves is read by ipam_read.py and by margayctl ipam check, before and after all is given back. SEED replays
# the decisions of a run.

bats_require_minimum_version 1.5.0
load servers.bash

setup_file() {
	ip link set lo up
	ip address add 192.0.2.1/24 dev lo
}

setup() {
	cd "$BATS_TEST_TMPDIR" || exit
	export SERVERS=$PWD REMADE=1 MARGAY_LOG_LEVEL=warn MARGAY_CONFIG=''
}

teardown() {
	local pid

	for pid in api.pid etcd.pid; do
		[ ! -f $pid ] || end "$(cat $pid)" -KILL
	done
}

model_holds() { # OPERATIONS READER-ARGUMENTS...
	local n=${MARGAY_IPAM_OPS:-$1}

	shift
	"$IPAM_MODEL" run "$n" held >model.log 2>&1 || {
		cat model.log
		return 1
	}
	cat model.log
	grep -E "^# (seed|the last|[0-9])" model.log >&3
	python3 -B "$BATS_TEST_DIRNAME/ipam_read.py" "$@"
	"$IPAM_MODEL" release held
	python3 -B "$BATS_TEST_DIRNAME/ipam_read.py" "$@" | tee read.log
	grep -q ' 0 affinities, 0 handles, 0 addresses, 0 violations' read.log
	"$BIN/margayctl" ipam check
}

@test "SQLite" {
	export DATASTORE_TYPE=sqlite MARGAY_SQLITE_PATH=$PWD/margay.db
	model_holds 3000 sqlite "$MARGAY_SQLITE_PATH"
}

@test "etcd" {
	export DATASTORE_TYPE=etcdv3 ETCD_ENDPOINTS=http://127.0.0.1:2379
	etcd_start
	model_holds 1500 etcd "$ETCD_ENDPOINTS"
}

@test "Kubernetes" {
	APISERVER=$("$BATS_TEST_DIRNAME/kube-apiserver" 2>&1) || skip "$APISERVER"
	export DATASTORE_TYPE=kubernetes KUBECONFIG=$PWD/kubeconfig
	etcd_start
	api_prepare
	api_start --disable-admission-plugins=ServiceAccount
	crds_make
	kubeconfig https://127.0.0.1:6443 "$PWD/pki/apiserver.crt" '{token: secret-of-admin}'
	model_holds 900 kube https://127.0.0.1:6443 "$PWD/pki/apiserver.crt" secret-of-admin
}
