#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The cluster's zones: margay-confd renders them, a stock knotd serves them, kdig asks. Run in a
# network and a mount namespace of its own; BIN names the directory of the programs.

bats_require_minimum_version 1.5.0

setup_file() {
	ip link set lo up
}

setup() {
	T=$BATS_TEST_TMPDIR
	export DB=$T/db
	mkdir -p "$T/zones" "$T/confd.d" "$T/templates" "$T/knot"
	MARGAY_SQLITE_PATH=$DB "$BIN/margayctl" apply -f - <<-Y
		{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: p}, spec: {cidr: 10.244.0.0/16, blockSize: 24}}
	Y
	local etc=$BATS_TEST_DIRNAME/../../etc
	for f in dns knot; do
		sed -e "s|/var/lib/margay|$T|; s|^reload = .*|reload_pid_file = $T/knot/knot.pid|" "$etc/confd.d/$f.conf" \
			>"$T/confd.d/$f.conf"
	done
	sed -e "s|/var/lib/margay|$T|; s|0.0.0.0@53, \"::@53\"|127.0.0.1@5353|
		s|^server:|database:\n    storage: $T/knot\n&\n    rundir: $T/knot|" \
		"$etc/templates/knot.conf.mustache" >"$T/templates/knot.conf.mustache"
}

teardown() {
	kill "$(cat "$T/confd.pid")" 2>/dev/null && eventually 5 gone "$(cat "$T/confd.pid")"
	[ ! -e "$T/knot/knot.pid" ] || kill -9 "$(cat "$T/knot/knot.pid")" || true
	[ ! -e /run/knot/knot.pid ] || kill -9 "$(cat /run/knot/knot.pid)" || true
	tail -n 40 "$T"/*.log
	run ! grep -E 'Sanitizer|runtime error' "$T/confd.log"
}

gone() { # PID
	! kill -0 "$1" 2>/dev/null
}

stop_confd() { # [-SIGNAL]
	local pid
	pid=$(cat "$T/confd.pid")
	kill "${1:--TERM}" "$pid"
	eventually 5 gone "$pid"
}

readonly V3=/calico/resources/v3/projectcalico.org

put() {
	sqlite3 -cmd '.timeout 5000' "$DB" "INSERT OR REPLACE INTO kv SELECT max(rev)+1, '$1', max(rev)+1, '$2' FROM (SELECT 0 AS rev UNION SELECT rev FROM kv)"
}

unput() {
	sqlite3 -cmd '.timeout 5000' "$DB" "INSERT OR REPLACE INTO kv SELECT max(rev)+1, '$1', 0, NULL FROM kv"
}

service() { # NAMESPACE NAME SPEC
	put /margay/v1/services/"$1/$2" \
		'{"apiVersion":"v1","kind":"Service","metadata":{"name":"'"$2"'","namespace":"'"$1"'"},"spec":'"$3"'}'
}

wep() { # NAME ADDRESS LABELS
	put $V3/workloadendpoints/default/n1-k8s-"$1"-eth0 \
		'{"apiVersion":"projectcalico.org/v3","kind":"WorkloadEndpoint","metadata":{"name":"n1-k8s-'"$1"'-eth0","namespace":"default","labels":'"$3"'},"spec":{"node":"n1","orchestrator":"k8s","pod":"'"$1"'","endpoint":"eth0","interfaceName":"cali'"$1"'","ipNetworks":["'"$2"'/32"]}}'
}

confd_start() {
	DATASTORE_TYPE=sqlite MARGAY_SQLITE_PATH=$DB NODENAME=n1 MARGAY_RUN_DIR=$T/run \
		BIRD_CTL=$T/bird.ctl BIRD_CONF_DIR=$T/bird MARGAY_CONFIG='' MARGAY_CONFD_DIR=$T/confd.d \
		MARGAY_TEMPLATE_DIR=$T/templates MARGAY_CONFD_METRICS_ENABLED=true "$BIN/margay-confd" >>"$T/confd.log" 2>&1 3>&- 4>&- &
	echo $! >"$T/confd.pid"
}

start() {
	confd_start
	eventually 5 test -e "$T/knot.conf"
	eventually 5 test -e "$T/zones/cluster.local.zone"
	knotd -c "$T/knot.conf" >>"$T/knot.log" 2>&1 3>&- 4>&- &
	eventually 5 answers dns-version.cluster.local TXT '"1.1.0"'
}

ask() { # NAME TYPE
	kdig @127.0.0.1 -p "${PORT:-5353}" +short +timeout=2 +retry=0 "$1" "$2"
}

answers() { # NAME TYPE ANSWERS: these, sorted, and no other
	[ "$(ask "$1" "$2" | sort | paste -sd,)" = "$3" ]
}

status() { # NAME TYPE
	kdig @127.0.0.1 -p 5353 +timeout=2 +retry=0 "$1" "$2" | sed -n 's/.*status: \([A-Z]*\);.*/\1/p'
}

is_nxdomain() {
	[ "$(status "$1" "$2")" = NXDOMAIN ]
}

eventually() { # SECONDS COMMAND...: until it succeeds
	local until=$((${EPOCHREALTIME//[!0-9]/} + $1 * 1000000))
	shift
	until "$@"; do
		[ "${EPOCHREALTIME//[!0-9]/}" -lt "$until" ] || { echo "not within time: $*"; return 1; }
		sleep 0.02
	done
}

serial() {
	ask cluster.local SOA | cut -d' ' -f3
}

@test "names of Services: A, SRV, PTR, CNAME, and of a headless one's pods" {
	service default web '{"clusterIP":"10.96.0.20","clusterIPs":["10.96.0.20"],"selector":{"app":"web"},"ports":[{"name":"http","port":80,"targetPort":8080,"protocol":"TCP"}]}'
	service kube-system kube-dns '{"clusterIP":"10.96.0.10","clusterIPs":["10.96.0.10"],"ports":[{"name":"dns","port":53,"protocol":"UDP"},{"name":"dns-tcp","port":53,"protocol":"TCP"}]}'
	service default db '{"clusterIP":"None","clusterIPs":["None"],"selector":{"app":"db"},"ports":[{"name":"sql","port":5432,"protocol":"TCP"}]}'
	service default away '{"type":"ExternalName","externalName":"example.com"}'
	service default Bad_Name '{"clusterIP":"10.96.0.21","clusterIPs":["10.96.0.21"],"ports":[{"port":80}]}'
	wep db-0 10.244.0.7 '{"app":"db"}'
	wep db-1 10.244.0.8 '{"app":"db"}'
	wep web-0 10.244.0.9 '{"app":"web"}'
	start
	answers web.default.svc.cluster.local A 10.96.0.20
	answers _http._tcp.web.default.svc.cluster.local SRV '0 100 80 web.default.svc.cluster.local.'
	answers 20.0.96.10.in-addr.arpa PTR web.default.svc.cluster.local.
	answers _dns._udp.kube-dns.kube-system.svc.cluster.local SRV '0 100 53 kube-dns.kube-system.svc.cluster.local.'
	answers db.default.svc.cluster.local A 10.244.0.7,10.244.0.8
	answers 10-244-0-7.db.default.svc.cluster.local A 10.244.0.7
	answers _sql._tcp.db.default.svc.cluster.local SRV \
		'0 100 5432 10-244-0-7.db.default.svc.cluster.local.,0 100 5432 10-244-0-8.db.default.svc.cluster.local.'
	answers 8.0.244.10.in-addr.arpa PTR 10-244-0-8.db.default.svc.cluster.local.
	answers away.default.svc.cluster.local CNAME example.com.
	answers cluster.local NS ns.dns.cluster.local.
	answers ns.dns.cluster.local A 10.96.0.10
	is_nxdomain nothing.default.svc.cluster.local A
	is_nxdomain 99.0.96.10.in-addr.arpa PTR
	# A name that is none: no data, but there is something below.
	[ "$(status default.svc.cluster.local A)" = NOERROR ]
	grep -q 'Service default/Bad_Name' "$T/confd.log"
}

@test "a Service that comes and goes, without a lost query" {
	service default web '{"clusterIP":"10.96.0.20","clusterIPs":["10.96.0.20"],"ports":[{"port":80}]}'
	start
	while echo asked >>"$T/asked"; do
		answer=$(ask web.default.svc.cluster.local A)
		echo "${answer:-none}" >>"$T/answers"
	done 3>&- 4>&- &
	asking=$!
	before=$(serial)
	service default new '{"clusterIP":"10.96.0.30","clusterIPs":["10.96.0.30"],"ports":[{"port":80}]}'
	eventually 5 answers new.default.svc.cluster.local A 10.96.0.30
	[ "$(serial)" -gt "$before" ]
	for i in 1 2 3 4 5; do
		service default "more-$i" '{"clusterIP":"10.96.1.'$i'","clusterIPs":["10.96.1.'$i'"],"ports":[{"port":80}]}'
	done
	eventually 5 answers more-5.default.svc.cluster.local A 10.96.1.5
	unput /margay/v1/services/default/new
	eventually 5 is_nxdomain new.default.svc.cluster.local A
	kill $asking
	[ "$(grep -vc '^10.96.0.20$' "$T/answers")" = 0 ]
	[ "$(wc -l <"$T/asked")" -gt 10 ]
}

@test "what is the same is not written" {
	service default web '{"clusterIP":"10.96.0.20","clusterIPs":["10.96.0.20"],"ports":[{"port":80}]}'
	start
	before=$(stat -c '%n %i' "$T"/zones/* "$T/knot.conf")
	stop_confd -9
	confd_start
	# Something else that changes tells that it has looked at all.
	wep x 10.244.0.9 '{}'
	service default late '{"clusterIP":"10.96.0.22","clusterIPs":["10.96.0.22"],"ports":[{"port":80}]}'
	eventually 5 answers late.default.svc.cluster.local A 10.96.0.22
	[ "$(stat -c '%n %i' "$T"/zones/* "$T/knot.conf" | grep -v 'cluster.local\|96.10')" = \
		"$(grep -v 'cluster.local\|96.10' <<<"$before")" ]
}

renders() {
	curl -s 127.0.0.1:9098/metrics | sed -n 's/^margay_confd_dns_renders_total //p'
}

# web ADDRESS NODE-PORT: as a statement
web() {
	echo "INSERT OR REPLACE INTO kv SELECT max(rev)+1, '/margay/v1/services/default/web', max(rev)+1,
		'{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"web\",\"namespace\":\"default\"},\"spec\":{\"type\":\"NodePort\",\"clusterIPs\":[\"10.96.$1\"],\"ports\":[{\"port\":80,\"nodePort\":$2}]}}' FROM kv;"
}

@test "changes that no zone shows render none, and a storm of those that do renders few" {
	service default web '{"clusterIP":"10.96.0.20","clusterIPs":["10.96.0.20"],"ports":[{"port":80}]}'
	start
	web 0.21 30001 | sqlite3 -cmd '.timeout 5000' "$DB"
	eventually 5 answers web.default.svc.cluster.local A 10.96.0.21
	before=$(renders)
	# For longer than what they are paced by.
	for i in {1..40}; do
		put $V3/nodes/n1 '{"kind":"Node","metadata":{"name":"n1"},"spec":{"bgp":{"asNumber":"'"$i"'"}}}'
		web 0.21 $((30001 + i % 2)) | sqlite3 -cmd '.timeout 5000' "$DB"
		sleep 0.04
	done
	web 0.22 30001 | sqlite3 -cmd '.timeout 5000' "$DB"
	eventually 5 answers web.default.svc.cluster.local A 10.96.0.22
	[ "$(renders)" = $((before + 1)) ]
	began=${EPOCHREALTIME/./}
	for i in {1..200}; do
		web "1.$i" 30001
	done | sqlite3 -cmd '.timeout 5000' "$DB"
	eventually 5 answers web.default.svc.cluster.local A 10.96.1.200
	# At once, then every second.
	[ "$(renders)" -le $((before + 3 + (${EPOCHREALTIME/./} - began) / 1000000)) ]
}

@test "a file that its check refuses stays as it was, and the others are written" {
	echo 'check = /bin/sh -c echo' >>"$T/confd.d/dns.conf"
	cat >"$T/check" <<-'C'
		#!/bin/sh
		! grep -q 10.96.0.66 "$1" || { echo "66 is forbidden"; exit 3; }
	C
	chmod +x "$T/check"
	sed -i "s|^check.*|check = $T/check {}|" "$T/confd.d/dns.conf"
	service default web '{"clusterIP":"10.96.0.20","clusterIPs":["10.96.0.20"],"ports":[{"port":80}]}'
	start
	service default bad '{"clusterIP":"10.96.0.66","clusterIPs":["10.96.0.66"],"ports":[{"port":80}]}'
	eventually 5 grep -q "zones/cluster.local.zone is refused.*66 is forbidden" "$T/confd.log"
	eventually 5 answers 66.0.96.10.in-addr.arpa PTR bad.default.svc.cluster.local.
	is_nxdomain bad.default.svc.cluster.local A
	answers web.default.svc.cluster.local A 10.96.0.20
	curl -s 127.0.0.1:9098/readyz | grep 'files.*66 is forbidden'
	unput /margay/v1/services/default/bad
	eventually 5 bash -c "curl -s 127.0.0.1:9098/readyz | grep -q 'ok *files'"
}

@test "a configuration that makes no sense is named and left out" {
	printf 'view = dns\ntemplate = zone\ncolour = blue\n' >"$T/confd.d/bad.conf"
	printf 'view = tea\ntemplate = zone\ndestination = /tmp/x\n' >"$T/confd.d/tea.conf"
	service default web '{"clusterIP":"10.96.0.20","clusterIPs":["10.96.0.20"],"ports":[{"port":80}]}'
	start
	grep -q 'bad.conf:3: "colour" is no key' "$T/confd.log"
	grep -q 'tea.conf: there is no view "tea"' "$T/confd.log"
	answers web.default.svc.cluster.local A 10.96.0.20
}

@test "as it is installed: margay-confd without a capability, knotd as its own user, the samples as they are" {
	mkdir -p /var/lib/margay/zones
	install -d -o knot -g knot /var/lib/knot /run/knot
	sysctl -qw net.ipv4.ip_unprivileged_port_start=0
	service default web '{"clusterIP":"10.96.0.20","clusterIPs":["10.96.0.20"],"ports":[{"port":80}]}'
	umask 0027
	DATASTORE_TYPE=sqlite MARGAY_SQLITE_PATH=$DB NODENAME=n1 MARGAY_RUN_DIR=$T/run \
		BIRD_CTL=$T/bird.ctl BIRD_CONF_DIR=$T/bird MARGAY_CONFIG='' \
		MARGAY_CONFD_DIR=$BATS_TEST_DIRNAME/../../etc/confd.d \
		setpriv --bounding-set=-all --inh-caps=-all --no-new-privs --groups knot \
		"$BIN/margay-confd" >>"$T/confd.log" 2>&1 3>&- 4>&- &
	echo $! >"$T/confd.pid"
	eventually 5 test -e /var/lib/margay/knot.conf
	eventually 5 test -e /var/lib/margay/zones/cluster.local.zone
	setpriv --reuid knot --regid knot --clear-groups \
		knotd -c /var/lib/margay/knot.conf >>"$T/knot.log" 2>&1 3>&- 4>&- &
	PORT=53
	eventually 5 answers web.default.svc.cluster.local A 10.96.0.20
	eventually 10 bash -c "curl -s 127.0.0.1:9098/readyz | grep -q 'ok *files'"
	service default new '{"clusterIP":"10.96.0.30","clusterIPs":["10.96.0.30"],"ports":[{"port":80}]}'
	eventually 5 answers new.default.svc.cluster.local A 10.96.0.30
	put $V3/ippools/q '{"kind":"IPPool","metadata":{"name":"q"},"spec":{"cidr":"10.77.0.0/16","blockSize":24}}'
	eventually 5 answers 77.10.in-addr.arpa NS localhost.
}
