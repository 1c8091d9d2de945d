#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# margay-cni install and uninstall: a host is a directory, HOST. Run in a network and a mount namespace
# of its own (tests/apart); BIN names the directory of the programs.

bats_require_minimum_version 1.5.0

setup() {
	export HOST=$BATS_TEST_TMPDIR/host
	bin=$HOST/opt/cni/bin net=$HOST/etc/cni/net.d
	mkdir -p "$bin" "$net"
}

install() {
	"${FROM:-$BIN}/margay-cni" install --margay-host-root "$HOST" --program-dir "${PROGRAMS:-$BIN}" "$@"
}

# Without what is large and whole the same in each.
install_light() {
	SKIP_CNI_BINARIES=margay-cni install "$@"
}

uninstall() {
	"$BIN/margay-cni" uninstall --margay-host-root "$HOST" "$@"
}

# tree [DIRECTORY]: everything that is there, with its permissions and bytes or where it leads
tree() {
	(cd "${1:-$HOST}" && find . -printf '%P %M %l\n' && find . -type f -exec sha256sum {} +) | sort
}

conflist() { # TYPE
	printf '{"name":"theirs","cniVersion":"0.3.1","plugins":[{"type":"%s"},{"type":"portmap"}]}\n' "$1"
}

# A release that differs from $BIN's, in a directory that FROM can name.
other_release() { # WORD
	mkdir "$BATS_TEST_TMPDIR/$1"
	cp "$BIN/margay-cni" "$BATS_TEST_TMPDIR/$1/margay-cni"
	echo "$1" >>"$BATS_TEST_TMPDIR/$1/margay-cni"
	echo "$BATS_TEST_TMPDIR/$1"
}

@test "what is placed, and that the second time nothing is" {
	rm -r "${HOST:?}"/*
	install >"$BATS_TEST_TMPDIR/out"
	for program in margay margay-ipam; do
		cmp "$BIN/margay" "$bin/$program"
		[ "$(stat -c %a "$bin/$program")" = 755 ]
	done
	[[ $(readlink "$bin/margay.d") =~ ^margay\.d\.[0-9a-f]{16}$ ]]
	cmp "$BIN/margay-cni" "$bin/margay.d/margay-cni"
	[ "$(stat -c %a "$net/10-margay.conflist")" = 600 ]
	jq -e '.name == "k8s-pod-network" and .cniVersion == "1.0.0" and (.plugins | length) == 1 and
		.plugins[0] == {type: "margay", datastore_type: "sqlite", log_level: "info",
			sqlite_path: "/var/lib/margay/margay.db", ipam: {type: "margay-ipam"}}' "$net/10-margay.conflist"
	# Every line is a file that is there, and every file has one, the record apart.
	sed 's/^place //' "$BATS_TEST_TMPDIR/out" | sort >"$BATS_TEST_TMPDIR/said"
	find "$HOST" ! -type d ! -name margay.installed | sort | diff - "$BATS_TEST_TMPDIR/said"

	tree >"$BATS_TEST_TMPDIR/before"
	find "$HOST" -printf '%p %i %C@\n' >"$BATS_TEST_TMPDIR/inodes"
	[ -z "$(install)" ]
	find "$HOST" -printf '%p %i %C@\n' | diff "$BATS_TEST_TMPDIR/inodes" -
	# Damage is mended.
	echo x >>"$bin/margay.d/lib/libc.so.6"
	chmod 700 "$bin/margay-ipam"
	rm "$bin/margay.d"
	install
	tree | grep -v margay-backup | diff "$BATS_TEST_TMPDIR/before" -
}

# bare PROGRAM ARGUMENT...: on the host, which has nothing else
bare() {
	# shellcheck disable=SC2016 # of the inner shell
	unshare -m bash -c 'mount --rbind /proc "$1/proc" && mount --rbind /run/netns "$1/run/netns" &&
		exec chroot "$@"' bare "$HOST" "$@"
}

# bare_cni VERB: as the plugin does it that the build has, or would were it linked statically
bare_cni() {
	local release
	release=/opt/cni/bin/$(readlink "$bin/margay.d")
	if readelf -lW "$bin/margay" | grep -q INTERP; then
		CNI_COMMAND=$1 bare "$release/ld.so" --inhibit-cache --library-path "$release/lib" \
			"$release/margay-cni" run margay <<<"$conf"
	else
		CNI_COMMAND=$1 bare /opt/cni/bin/margay <<<"$conf"
	fi
}

@test "the programs run on a host that has none of the libraries" {
	install >/dev/null
	mkdir -p "$HOST"/{proc,run/netns,var/lib/margay}
	MARGAY_SQLITE_PATH=$HOST/var/lib/margay/margay.db "$BIN/margayctl" apply -f - <<-Y
		kind: IPPool
		apiVersion: projectcalico.org/v3
		metadata: {name: p}
		spec: {cidr: 10.244.0.0/16}
	Y
	ip netns add bare
	export CNI_CONTAINERID=bare CNI_NETNS=/run/netns/bare CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin
	export CNI_ARGS='K8S_POD_NAMESPACE=ns;K8S_POD_NAME=bare'
	conf=$(jq '.plugins[0] + {name, cniVersion, nodename: "n"}' "$net/10-margay.conflist")
	result=$(bare_cni ADD)
	[ "$(jq -r '.ips[0].address' <<<"$result")" = "$(ip -n bare -j -4 address show dev eth0 |
		jq -r '.[0].addr_info[0].local')/32" ]
	bare_cni DEL
	# With libcurl and all that it needs: what fails is the connection.
	conf=$(jq 'del(.sqlite_path) + {datastore_type: "etcdv3", etcd_endpoints: "http://127.0.0.1:9"}' <<<"$conf")
	run -1 bare_cni ADD
	[[ $output == *127.0.0.1* && $output != *lib*.so* ]]
	release=/opt/cni/bin/margay.d
	bare $release/ld.so --library-path $release/lib $release/margay-cni uninstall >/dev/null
	[ -z "$(find "$bin" "$net" -mindepth 1)" ]
	[ "$(ls "$HOST")" = "$(printf '%s\n' etc opt proc run var)" ]
	ip netns del bare
}

@test "where nobody serves the plugin becomes the release in force, or the margay-cni beside it" {
	install >/dev/null
	export CNI_CONTAINERID=x CNI_IFNAME=eth0 CNI_PATH=$bin MARGAY_RUN_DIR=$BATS_TEST_TMPDIR CNI_COMMAND=STATUS
	conf='{"cniVersion":"1.1.0","name":"net","type":"margay","nodename":"n","datastore_type":"sqlite","sqlite_path":"/nowhere/db","ipam":{"type":"margay-ipam"}}'
	run -1 "$bin/margay" <<<"$conf"
	[[ $output == *"/nowhere/db"* ]]
	rm "$bin"/margay.d/ld.so
	run -1 "$bin/margay" <<<"$conf"
	[[ $output == *"\"code\": 11,"*"$bin/$(readlink "$bin/margay.d")/ld.so: No such file"* ]]
	rm "$bin/margay.d"
	run -1 "$bin/margay" <<<"$conf"
	[[ $output == *"\"code\": 11,"*"$bin/margay-cni: No such file"* ]]
	cp "$BIN/margay-cni" "$bin"
	run -1 "$bin/margay" <<<"$conf"
	[[ $output == *"/nowhere/db"* ]]
}

@test "--dry-run tells the same and changes nothing" {
	conflist calico >"$net/10-calico.conflist"
	tree >"$BATS_TEST_TMPDIR/before"
	install_light --dry-run | sed 's/^would //' >"$BATS_TEST_TMPDIR/would"
	tree | diff "$BATS_TEST_TMPDIR/before" -
	install_light | diff "$BATS_TEST_TMPDIR/would" -
	tree >"$BATS_TEST_TMPDIR/after"
	uninstall --restore --dry-run | sed 's/^would //' >"$BATS_TEST_TMPDIR/would"
	tree | diff "$BATS_TEST_TMPDIR/after" -
	uninstall --restore | diff "$BATS_TEST_TMPDIR/would" -
	tree | diff "$BATS_TEST_TMPDIR/before" -
	rm -r "${HOST:?}"/*
	install --dry-run >/dev/null
	[ -z "$(ls "$HOST")" ]
}

@test "configurations of Calico, flannel and Margay itself give way; of others one is told" {
	conflist calico >"$net/99-theirs.conflist"
	echo '{"name":"cbr0","type":"flannel"}' >"$net/10-x.conf"
	conflist margay >"$net/05-margay.conflist"
	printf '{"name": {"password": "geheim"' >"$net/10-canal.conflist"
	ln -s /somewhere/calico "$net/10-calico.conflist"
	conflist cilium-cni >"$net/05-cilium.conflist"
	conflist multus >"$net/70-late.conflist"
	conflist calico >"$net/calico-kubeconfig"
	conflist bridge >"$net/87-old.conflist"
	mkdir "$net/00-directory.conflist"
	tree "$net" >"$BATS_TEST_TMPDIR/before"
	run --separate-stderr install_light --cni-old-conf-name 87-old.conflist
	[ "$status" = 0 ]
	# shellcheck disable=SC2154 # run sets them
	[[ ${#stderr_lines[@]} = 1 && $stderr == *"warning: $net/05-cilium.conflist, with the plugin cilium-cni, comes before 10-margay.conflist"* ]]
	[ "$(ls "$net")" = "$(printf '%s\n' 00-directory.conflist 05-cilium.conflist 05-margay.conflist.margay-backup-1 \
		10-calico.conflist.margay-backup-1 10-canal.conflist.margay-backup-1 10-margay.conflist \
		10-x.conf.margay-backup-1 70-late.conflist 87-old.conflist.margay-backup-1 \
		99-theirs.conflist.margay-backup-1 calico-kubeconfig margay.installed)" ]
	# Margay's own older one is of no use without Margay.
	uninstall --restore
	mv "$net/05-margay.conflist.margay-backup-1" "$net/05-margay.conflist"
	tree "$net" | diff "$BATS_TEST_TMPDIR/before" -
}

@test "a backup is kept once, and one of other content beside it" {
	for i in 1 2; do
		conflist calico >"$net/10-calico.conflist"
		install_light
		[ "$(ls "$net")" = "$(printf '%s\n' 10-calico.conflist.margay-backup-1 10-margay.conflist margay.installed)" ]
	done
	conflist calico | jq . >"$net/10-calico.conflist"
	install_light
	diff <(conflist calico) "$net/10-calico.conflist.margay-backup-1"
	diff <(conflist calico | jq .) "$net/10-calico.conflist.margay-backup-2"
	uninstall --restore
	diff <(conflist calico | jq .) "$net/10-calico.conflist"
	[ "$(ls "$net")" = "$(printf '%s\n' 10-calico.conflist 10-calico.conflist.margay-backup-1)" ]
}

@test "the configuration is made of the datastore's parameters, or Calico's is filled in" {
	touch "$bin"/{portmap,bandwidth}
	install_light --etcd-endpoints http://192.0.2.1:2379 --etcd-username u --etcd-password geheim --cni-mtu 1400 \
		--cni-bandwidth
	jq -e '.plugins[0].etcd_endpoints == "http://192.0.2.1:2379" and .plugins[0].etcd_password == "geheim" and
		.plugins[0].mtu == 1400 and [.plugins[].type] == ["margay", "portmap", "bandwidth"] and
		.plugins[1] == {type: "portmap", snat: true, capabilities: {portMappings: true}}' "$net/10-margay.conflist"
	install_light --datastore-type kubernetes --kubeconfig /etc/margay/kubeconfig --margay-nodename-file /var/lib/nodename
	jq -e '.plugins[0] | .kubernetes.kubeconfig == "/etc/margay/kubeconfig" and
		.nodename_file == "/var/lib/nodename"' "$net/10-margay.conflist"

	# As Calico's manifest has it.
	export CNI_NETWORK_CONFIG='{"name": "k8s-pod-network", "cniVersion": "0.3.1", "plugins": [
		{"type": "calico", "log_level": "__LOG_LEVEL__", "log_file_path": "__LOG_FILE_PATH__",
		"datastore_type": "__DATASTORE_TYPE__", "nodename": "__KUBERNETES_NODE_NAME__", "mtu": __CNI_MTU__,
		"ipam": {"type": "calico-ipam"}, "policy": {"type": "k8s"},
		"kubernetes": {"kubeconfig": "__KUBECONFIG_FILEPATH__"}},
		{"type": "portmap", "snat": true, "capabilities": {"portMappings": true}},
		{"type": "bandwidth", "capabilities": {"bandwidth": true}}]}'
	export KUBERNETES_NODE_NAME='a"b' CNI_CONF_NAME=10-calico.conflist DATASTORE_TYPE=kubernetes
	install_light --calico-names
	jq -e '.plugins[0] | .nodename == "a\"b" and .mtu == 0 and .log_level == "info" and
		.kubernetes.kubeconfig == "/etc/cni/net.d/calico-kubeconfig"' "$net/10-calico.conflist"
	cmp "$BIN/margay" "$bin/calico-ipam"
	[ ! -e "$net/10-margay.conflist" ]
	echo "${CNI_NETWORK_CONFIG/k8s-pod-network/by-file}" >"$BATS_TEST_TMPDIR/conf"
	install_light --calico-names --cni-network-config-file "$BATS_TEST_TMPDIR/conf" --cni-mtu 1300
	jq -e '.name == "by-file" and .plugins[0].mtu == 1300' "$net/10-calico.conflist"
}

# refused WHAT ARGUMENT...: before anything is changed
refused_with() {
	local want=$1
	shift
	run -1 --separate-stderr install_light "$@"
	[[ $stderr == *"$want"* ]] || { echo "$stderr"; return 1; }
	[[ $stderr != *geheim* ]]
	tree | diff "$BATS_TEST_TMPDIR/before" -
}

# refused WHAT [ARGUMENT]...: this configuration
refused() {
	local want=$1
	shift
	refused_with "CNI_NETWORK_CONFIG: $want" --cni-network-config "$(cat)" "$@"
}

# with KEY VALUE...: a configuration that has them
with() {
	jq -n '{name: "x", cniVersion: "1.0.0", plugins: [{type: "margay", ipam: {type: "margay-ipam"}} +
		([$ARGS.positional | _nwise(2) | {(.[0]): (.[1] | fromjson? // .)}] | add)]}' --args "$@"
}

@test "what names a datastore that the plugin would refuse is refused, made or given" {
	conflist calico >"$net/10-calico.conflist"
	tree >"$BATS_TEST_TMPDIR/before"
	made='network configuration: plugins[0]: netconf: '
	keys="the datastore's keys: "
	refused_with "${made}${keys}DATASTORE_TYPE \"foo\": this version supports" --datastore-type foo
	refused_with "${made}${keys}ETCD_ENDPOINTS is not set" --datastore-type etcdv3
	refused_with "${made}${keys}ETCD_DISCOVERY_SRV is set" --etcd-discovery-srv example.org
	refused_with "${made}${keys}ETCD_ENDPOINTS: \"192.0.2.1:2379\": want http://" --etcd-endpoints 192.0.2.1:2379
	refused_with "${made}${keys}ETCD_PASSWORD is set, and ETCD_USERNAME is not" --etcd-password geheim \
		--etcd-endpoints http://192.0.2.1:2379
	refused_with "${made}${keys}ETCD_CERT_FILE is set, and ETCD_KEY_FILE is not" --etcd-cert-file /x \
		--etcd-endpoints http://192.0.2.1:2379
	refused_with "${made}etcd_ca_cert_file: \"ca.pem\": want an absolute path" --etcd-ca-cert-file ca.pem \
		--etcd-endpoints http://192.0.2.1:2379
	refused_with "${made}${keys}MARGAY_SQLITE_PATH \"margay.db\": want an absolute path" --margay-sqlite-path margay.db
	refused_with "${made}${keys}DATASTORE_TYPE kubernetes wants KUBECONFIG" --datastore-type kubernetes
	refused_with "${made}kubernetes.kubeconfig: \"kubeconfig\": want an absolute path" --datastore-type kubernetes \
		--kubeconfig kubeconfig
	refused_with "${made}${keys}CALICO_API_GROUP \"x/v1\": want " --datastore-type kubernetes --kubeconfig /none \
		--calico-api-group x/v1
	refused "plugins[0]: netconf: ${keys}DATASTORE_TYPE \"foo\"" < <(with datastore_type foo)
	refused "plugins[0]: netconf: ${keys}ETCD_ENDPOINTS is not set" < <(with datastore_type etcdv3)
	refused "plugins[0]: netconf: ${keys}ETCD_ENDPOINTS is not set" \
		< <(with datastore_type __DATASTORE_TYPE__ etcd_endpoints __ETCD_ENDPOINTS__) --datastore-type etcdv3
	refused "plugins[0]: netconf: ${keys}MARGAY_SQLITE_PATH" < <(with sqlite_path db)
	refused "plugins[0]: netconf: ${keys}MARGAY_SQLITE_PATH" --etcd-endpoints http://192.0.2.1:2379 < <(with sqlite_path db)
	refused 'plugins[0]: netconf: kubernetes.kubeconfig: "x"' < <(with kubernetes '{"kubeconfig": "x"}')
	refused 'plugins[0]: netconf: the keys of Kubernetes: K8S_API_ENDPOINT: "x"' \
		< <(with policy '{"type": "k8s"}' kubernetes '{"k8s_api_root": "x"}')
	refused 'plugins[0]: netconf: nodename: ' < <(with nodename a/b)
	refused 'plugins[0]: ipam.type: "../x"' < <(with ipam '{"type": "../x"}')
	# The host's file, as far as it can be seen from here.
	mkdir -p "$HOST/etc/margay"
	echo 'kind: Config' >"$HOST/etc/margay/kubeconfig"
	tree >"$BATS_TEST_TMPDIR/before"
	refused_with "${made}${keys}kubeconfig $HOST/etc/margay/kubeconfig: current-context is not set" \
		--datastore-type kubernetes --kubeconfig /etc/margay/kubeconfig
	# Where the datastore is a server may know alone: of this host's, or a pod.
	with datastore_type etcdv3 >"$BATS_TEST_TMPDIR/conf"
	install_light --cni-network-config-file "$BATS_TEST_TMPDIR/conf" --etcd-endpoints http://192.0.2.1:2379
	KUBERNETES_SERVICE_HOST=192.0.2.1 install_light --datastore-type kubernetes
}

@test "a configuration that could not be carried out is refused" {
	conflist calico >"$net/10-calico.conflist"
	tree >"$BATS_TEST_TMPDIR/before"
	refused 'line 1, column ' <<<'{"password": "geheim'
	refused 'want a list, ' <<<'{"name": "x", "cniVersion": "1.0.0", "type": "margay"}'
	refused 'want a list, ' <<<'{"name": "x", "cniVersion": "1.0.0", "plugins": []}'
	refused 'plugins: want one of type margay' <<<'{"name": "x", "cniVersion": "1.0.0", "plugins": [{"type": "ptp"}]}'
	refused 'cniVersion: missing' <<<'{"name": "x", "plugins": [{"type": "margay"}]}'
	refused 'plugins[0]: ' <<<'{"name": "x", "cniVersion": "7.0.0", "plugins": [{"type": "margay"}]}'
	refused 'plugins[1]: type: ' <<<'{"name": "x", "cniVersion": "1.0.0", "plugins": [{"type": "ptp"}, {}]}'
	refused 'plugins[0]: netconf: mtu' <<<'{"name": "x", "cniVersion": "1.0.0", "plugins": [{"type": "margay", "mtu": "y"}]}'
	refused 'plugins[0]: ipam.type: ' <<<'{"name": "x", "cniVersion": "1.0.0", "plugins": [{"type": "margay"}]}'
	refused 'network configuration: there is no value for __SERVICEACCOUNT_TOKEN__' \
		<<<'{"name": "x", "cniVersion": "1.0.0", "plugins": [{"type": "margay", "t": "__SERVICEACCOUNT_TOKEN__"}]}'
	# One that names programs that may come later is placed.
	run -0 --separate-stderr install_light --cni-network-config \
		'{"name": "x", "cniVersion": "1.0.0", "plugins": [{"type": "margay", "ipam": {"type": "host-local"}}]}'
	[[ $stderr == *"names the plugin host-local, and $bin has none"* ]]
	run -2 install --cni-conf-name ../x.conflist
	run -2 install --nonsense
	run -2 uninstall --restore=perhaps
	run -0 install --help
	run -0 uninstall --help
}

@test "programs of others are backed up, and no link is followed" {
	echo theirs >"$bin/calico"
	echo elsewhere >"$BATS_TEST_TMPDIR/elsewhere"
	ln -s "$BATS_TEST_TMPDIR/elsewhere" "$bin/margay"
	echo foreign >"$bin/foreign"
	tree >"$BATS_TEST_TMPDIR/before"
	install_light --calico-names
	[ ! -L "$bin/margay" ]
	cmp "$BIN/margay" "$bin/margay"
	cmp "$BIN/margay" "$bin/calico"
	[ "$(cat "$bin/calico.margay-backup-1")" = theirs ]
	[ "$(cat "$BATS_TEST_TMPDIR/elsewhere")" = elsewhere ]
	uninstall
	[ "$(ls "$bin")" = "$(printf '%s\n' calico.margay-backup-1 foreign margay.margay-backup-1)" ]
	uninstall --restore
	tree | diff "$BATS_TEST_TMPDIR/before" -

	# The host's own absolute links lead where they lead on the host.
	mkdir "$HOST/data"
	mv "$HOST/opt" "$HOST/data/opt"
	ln -s /data/opt "$HOST/opt"
	install_light
	cmp "$BIN/margay" "$HOST/data/opt/cni/bin/margay"
	rm -r "$HOST/etc/cni/net.d"
	ln -s /nowhere "$HOST/etc/cni/net.d"
	run -1 install_light
	[[ $output == *"directory $net: "* ]]
	[ ! -e "$HOST/nowhere" ]
	rm "$HOST/etc/cni/net.d" "$HOST/data/opt/cni/bin/margay"
	mkdir "$HOST/data/opt/cni/bin/margay"
	run -1 install_light
	[[ $output == *"place $bin/margay: there is something that is no file"* ]]
}

@test "SKIP_CNI_BINARIES and UPDATE_CNI_BINARIES" {
	export SKIP_CNI_BINARIES=margay-ipam,margay-cni,portmap
	install
	[ "$(ls "$bin")" = "$(printf '%s\n' margay margay.installed)" ]
	echo x >"$bin/margay"
	SKIP_CNI_BINARIES=margay-cni UPDATE_CNI_BINARIES=false install
	[ "$(cat "$bin/margay")" = x ]
	cmp "$BIN/margay" "$bin/margay-ipam"
	mkdir "$bin/margay.d.0"
	ln -s margay.d.0 "$bin/margay.d"
	[ -z "$(SKIP_CNI_BINARIES='' UPDATE_CNI_BINARIES=false install)" ]
	[ "$(readlink "$bin/margay.d")" = margay.d.0 ]
	rm -r "$bin"
	SKIP_CNI_BINARIES=margay,margay-ipam,margay-cni install
	[ ! -e "$bin" ]
}

@test "an upgrade leaves the release before it, and no older one" {
	a=$(other_release a) b=$(other_release b)
	FROM=$a install >/dev/null
	release_a=$(readlink "$bin/margay.d")
	# A program that is being executed is no obstacle.
	cp "$(command -v sleep)" "$bin/margay.d/margay-cni" # damaged, and running
	"$bin/margay.d/margay-cni" 60 3>&- &
	sleeper=$!
	FROM=$a install
	kill "$sleeper"
	cmp "$a/margay-cni" "$bin/margay.d/margay-cni"
	FROM=$b install >/dev/null
	release_b=$(readlink "$bin/margay.d")
	install >/dev/null
	release=$(readlink "$bin/margay.d")
	[ "$release" != "$release_b" ] && [ "$release_a" != "$release_b" ]
	[ ! -e "$bin/$release_a" ]
	cmp "$b/margay-cni" "$bin/$release_b/margay-cni"
	[ -z "$(install)" ]
	# A file of somebody else's in one is nobody's to remove.
	touch "$bin/$release_b/lib/foreign"
	uninstall
	[ "$(find "$HOST" ! -type d)" = "$bin/$release_b/lib/foreign" ]
}

@test "uninstall removes what was placed, as it was, and may be run again" {
	[ -z "$(uninstall)" ]
	rm -r "$HOST/opt"
	[ -z "$(uninstall)" ]
	install_light
	echo x >>"$bin/margay-ipam"
	jq '.plugins[0].mtu = 1300' "$net/10-margay.conflist" >"$BATS_TEST_TMPDIR/changed"
	cp "$BATS_TEST_TMPDIR/changed" "$net/10-margay.conflist"
	run -0 --separate-stderr uninstall
	[ "$stderr" = "margay-cni uninstall: warning: $bin/margay-ipam is not what was installed: it is left there" ]
	[ "$(find "$HOST" -type f | sort)" = "$(printf '%s\n' "$net/10-margay.conflist.margay-backup-1" "$bin/margay-ipam")" ]
	cmp "$BATS_TEST_TMPDIR/changed" "$net/10-margay.conflist.margay-backup-1"
	[ -z "$(uninstall 2>&1)" ]
	# A record that is damaged is not guessed at.
	install_light
	echo 'margay' >>"$bin/margay.installed"
	run -1 uninstall
	[[ $output == *"record $bin/margay.installed: line "* ]]
	sed -i "\$s/.*/$(printf '%064d' 0) ..\/..\/x/" "$bin/margay.installed"
	run -1 uninstall
	[[ $output == *"record $bin/margay.installed: line "* ]]
}

@test "one at a time" {
	install_light
	run -1 flock "$net" "$BIN/margay-cni" install --margay-host-root "$HOST"
	[[ $output == *"directory $net: another installation is under way"* ]]
	run -1 flock "$bin" "$BIN/margay-cni" uninstall --margay-host-root "$HOST"
	[[ $output == *"directory $bin: another installation is under way"* ]]
}

@test "a file system that is read-only, or full" {
	conflist calico >"$net/10-calico.conflist"
	mount -t tmpfs -o size=2m none "$bin"
	tree >"$BATS_TEST_TMPDIR/before"
	mount -o remount,ro "$bin"
	run -1 install
	[[ $output == *"$bin"*"Read-only file system"* ]]
	tree | diff "$BATS_TEST_TMPDIR/before" -
	mount -o remount,rw "$bin"
	run -1 install
	[[ $output == *"place $bin/margay.d."*": No space left on device"* ]]
	[ -z "$(find "$HOST" -name '*-tmp')" ]
	[ ! -e "$bin/margay" ] && [ ! -e "$bin/margay.d" ]
	tree "$net" | grep -q 10-calico.conflist
	mount -o remount,size=500m "$bin"
	install
	[ -z "$(install)" ]
	uninstall --restore
	tree | diff "$BATS_TEST_TMPDIR/before" -
	umount "$bin"
}

# LeakSanitizer cannot look at a process that strace does.
strace() {
	ASAN_OPTIONS=detect_leaks=0 command strace -o "$BATS_TEST_TMPDIR/trace" "$@"
}

# Where a runtime would begin: its first configuration, of which every program is whole.
usable() {
	local first type
	first=$(cd "$net" && find . -name '*.conf*' | sed 's|^./||' | grep -E '\.conf(list)?$' | LC_ALL=C sort | head -n 1)
	for type in $(jq -r '.plugins[] | .type, .ipam.type // empty' "$net/$first"); do
		cmp -s "$BATS_TEST_TMPDIR/theirs" "$bin/$type" || cmp -s "$PROGRAMS/margay" "$bin/$type" || return
	done
}

fresh() {
	rm -rf "$bin" "$net"
	mkdir "$bin" "$net"
	cp "$BATS_TEST_TMPDIR/theirs" "$bin/calico"
	cp "$BATS_TEST_TMPDIR/theirs" "$bin/portmap"
	conflist calico >"$net/10-calico.conflist"
}

fresh_installed() {
	fresh
	install_light --calico-names >/dev/null
}

# kill_each LEAST PREPARE CHECK COMMAND...: kills it before each system call that changes something, in
# turn, of which there are at least so many
kill_each() {
	local call n i killed=0 least=$1
	shift
	for call in mkdirat openat write fchmod fsync renameat symlinkat linkat unlinkat; do
		"$1"
		strace -e trace="$call" -e signal=none "${@:3}" >/dev/null
		grep "^$call" "$BATS_TEST_TMPDIR/trace" >"$BATS_TEST_TMPDIR/calls" || true
		n=$(wc -l <"$BATS_TEST_TMPDIR/calls")
		for ((i = 1; i <= n; i++)); do
			[ "$call" != openat ] || sed -n "${i}p" "$BATS_TEST_TMPDIR/calls" | grep -q O_CREAT || continue
			"$1"
			run strace -e inject="$call:signal=KILL:when=$i" "${@:3}"
			[ "$status" = 137 ] || { echo "$call $i: $status: $output"; return 1; }
			usable || { echo "killed before $call $i: not usable"; ls -l "$bin" "$net"; return 1; }
			"$2" || { echo "killed before $call $i"; return 1; }
			killed=$((killed + 1))
		done
	done
	[ "$killed" -ge "$least" ]
}

completed_and_undone() {
	rm -rf "$BATS_TEST_TMPDIR/killed"
	cp -a "$HOST" "$BATS_TEST_TMPDIR/killed"
	install_light --calico-names >/dev/null || return
	tree | diff "$BATS_TEST_TMPDIR/after" - || return
	rm -rf "$HOST"
	mv "$BATS_TEST_TMPDIR/killed" "$HOST"
	undone
}

undone() {
	uninstall --restore >/dev/null || return
	tree | diff "$BATS_TEST_TMPDIR/before" -
}

@test "killed at every step the host stays usable, and it is completed or undone" {
	echo theirs >"$BATS_TEST_TMPDIR/theirs"
	export PROGRAMS=$BATS_TEST_TMPDIR/programs # small ones
	mkdir "$PROGRAMS"
	echo ours >"$PROGRAMS/margay"
	fresh
	tree >"$BATS_TEST_TMPDIR/before"
	fresh_installed
	tree >"$BATS_TEST_TMPDIR/after"
	SKIP_CNI_BINARIES=margay-cni kill_each 40 fresh completed_and_undone \
		"$BIN/margay-cni" install --margay-host-root "$HOST" --program-dir "$PROGRAMS" --calico-names
	kill_each 20 fresh_installed undone "$BIN/margay-cni" uninstall --margay-host-root "$HOST" --restore
}

@test "killed where a release comes into force, it is whole before and after" {
	a=$(other_release a)
	FROM=$a install >/dev/null
	install >/dev/null
	tree >"$BATS_TEST_TMPDIR/after"
	rm -r "$bin" "$net"
	FROM=$a install >/dev/null
	cp -a "$HOST" "$BATS_TEST_TMPDIR/before"
	for inject in write:when=30 renameat:when=20 symlinkat:when=1 renameat:when=40; do
		rm -r "$HOST"
		cp -a "$BATS_TEST_TMPDIR/before" "$HOST"
		run strace -e inject="${inject/:/:signal=KILL:}" \
			"$BIN/margay-cni" install --margay-host-root "$HOST"
		[ "$status" = 137 ]
		if ! cmp -s "$bin/margay.d/margay-cni" "$a/margay-cni"; then
			(cd "$bin/margay.d" && find . -type f -exec sha256sum {} +) | sort |
				diff - <(install >/dev/null && cd "$bin/margay.d" && find . -type f -exec sha256sum {} + | sort)
		fi
		install >/dev/null
		tree | diff "$BATS_TEST_TMPDIR/after" -
	done
}
