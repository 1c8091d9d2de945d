#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tests/unit/test_install.sh BUILD: what `cmake --install` makes is whole and agrees with itself: it
# stays below its prefix, units name programs that are there, margay.conf names parameters that some
# program has, with their defaults.
set -euo pipefail
export LC_ALL=C

build=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0

complain() {
	echo "test_install: $*" >&2
	bad=1
}

prefix=$(sed -n 's/^CMAKE_INSTALL_PREFIX:PATH=//p' "$build/CMakeCache.txt")
DESTDIR=$dir/dest cmake --install "$build" >/dev/null
outside=$(find "$dir/dest" -type f ! -path "$dir/dest$prefix/*")
[ -z "$outside" ] || complain "outside of the prefix: $outside"

cmake --install "$build" --prefix "$dir/own" >/dev/null
diff <(cd "$dir/dest$prefix" && find . -type f | sort) <(cd "$dir/own" && find . -type f | sort) ||
	complain "another prefix gives other files"

programs=("$dir"/own/bin/*)
[ "${programs[*]##*/}" = "margay margay-cni margay-confd margay-felix margay-ipam margay-proxy margayctl" ] ||
	complain "bin has ${programs[*]##*/}"
for program in "${programs[@]}"; do
	[ -x "$program" ] || complain "$program cannot be executed"
done
for unit in "$dir"/own/lib/systemd/system/margay-*.service; do
	[ -f "$unit" ] || continue
	program=$(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "$unit")
	[ -x "$program" ] || complain "$(basename "$unit"): no program $program"
	! grep -n '@' "$unit" || complain "$(basename "$unit"): something was not filled in"
done

# A name that is no node's, which a daemon says and ends.
for program in "$dir"/own/bin/margay-{felix,confd,proxy}; do
	[ -x "$program" ] || continue
	rc=0
	said=$(timeout 10 env -i "$program" --nodename a/b 2>&1) || rc=$?
	if [ $rc != 1 ] || [[ $said != *'NODENAME'*'got "a/b", want'* ]]; then
		complain "$(basename "$program") --nodename a/b: $said"
	fi
done

# A scheduler that no kernel has.
program=$dir/own/bin/margay-proxy
if [ -x "$program" ]; then
	said=$(env -i "$program" --ipvs-scheduler foo --print-config 2>&1) && complain "a scheduler foo is taken"
	[[ $said == *'--ipvs-scheduler): "foo": want one of rr, '* ]] || complain "margay-proxy: $said"
fi

# Every parameter of a daemon with its default; margay.conf gives these, commented out, but of the host's.
for program in "$dir"/own/bin/margay-{felix,confd,proxy}; do
	[ ! -x "$program" ] || env -i "$program" --print-config
done >"$dir/parameters"
env -i "$dir/own/bin/margay-cni" serve --print-config >>"$dir/parameters"
while read -r name value; do
	if ! grep -qE "^$name( |=|\$)" "$dir/parameters"; then
		complain "margay.conf: no program has a parameter $name"
	elif [ -n "$value" ] && ! grep -E "^$name( |=)" "$dir/parameters" | grep -qF -- "$value"; then
		complain "margay.conf: $name is not $value by default"
	elif [ -z "$value" ] && [ "$name" != NODENAME ] && grep -qE "^$name = [^ #]" "$dir/parameters"; then
		complain "margay.conf: $name has a default: $(grep -E "^$name =" "$dir/parameters")"
	fi
done < <(sed -nE 's/^#([A-Z_0-9]+) = ?(.*)/\1 \2/p' "$dir/own/share/margay/margay.conf")

# What margay-confd shall write by the samples it can write as its unit has it, and it can tell the reader.
unit=$dir/own/lib/systemd/system/margay-confd.service
words() { # KEY PREFIX: of the unit, a line each
	sed -n "s/^$1=//p" "$unit" | tr ' ' '\n' | sed "s|^|$2|"
}
{
	words ReadWritePaths ''
	words StateDirectory /var/lib/
	words RuntimeDirectory /run/
} >"$dir/writable"
for sample in "$dir"/own/share/margay/confd.d/*.conf; do
	destination=$(sed -n 's/^destination = //p' "$sample")
	grep -qx "$(dirname "$destination")" "$dir/writable" ||
		complain "$(basename "$sample"): the unit neither makes nor lets write $destination"
	! grep -q '^reload_pid_file' "$sample" || words CapabilityBoundingSet '' | grep -qx CAP_KILL ||
		complain "$(basename "$sample"): the unit does not let a process of another user be signalled"
done

# What margay.conf says of the units: where bird.conf goes by default they let it be written, and they
# read the file of the environment.
bird_dir=$(sed -n 's/^BIRD_CONF_DIR = \(.*\) # default$/\1/p' "$dir/parameters")
words ReadWritePaths '' | grep -qx "$bird_dir" || complain "margay-confd.service: cannot write $bird_dir"
for unit in "$dir"/own/lib/systemd/system/margay-*.service; do
	grep -qx 'EnvironmentFile=-/etc/default/margay' "$unit" ||
		complain "$(basename "$unit"): does not read /etc/default/margay"
done

jq -e '.plugins[0].type == "margay"' "$dir/own/share/margay/10-margay.conflist" >/dev/null ||
	complain "10-margay.conflist: its first plugin is not margay"

for sample in "$dir"/own/share/margay/samples/*.yaml; do
	MARGAY_SQLITE_PATH=$dir/margay.db "$dir/own/bin/margayctl" apply -f "$sample" >/dev/null ||
		complain "$sample: not accepted"
done
exit $bad
