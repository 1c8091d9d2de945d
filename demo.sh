#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# ./demo.sh [--keep] [--native | --plain] [FILE]
#
# Shows Margay at work: installs what it needs, builds, boots a virtual machine with a stock Debian kernel
# (no root needed, nothing of the host is changed), makes a cluster of nodes in it, and tells step by
# step what it expects, what it sees, and whether that is so. The last line counts the steps, and the
# exit status is 0 if all are ok.
#
#	FILE		the numbers of the cluster (tests/cluster/golden.conf; second.conf has others, etcd.conf and
#			kube.conf another datastore)
#	--keep		then leave a shell in the machine; exit ends it
#	--native	on this kernel instead, in namespaces: needs root, ipip and ip_vs
#	--plain		the same without ipip and ip_vs, and without the steps that need them
set -euo pipefail
caller=$PWD
cd "$(dirname "$0")"

die() {
	echo "demo.sh: $*" >&2
	exit 2
}

bed=() keep='' file=
for argument; do
	case $argument in
	--keep) keep=1 ;;
	--native | --plain) bed+=("$argument") ;;
	--help)
		sed -n '4,17s/^# \?//p' "$0"
		exit
		;;
	-*) die "there is no option $argument; --help lists them" ;;
	*)
		[ -z "$file" ] || die "one FILE is wanted, and $file and $argument are given"
		file=$argument
		;;
	esac
done
case $file in
'') file=tests/cluster/golden.conf ;;
/*) ;;
*) file=$(realpath -m -- "$caller/$file") ;;
esac
[ -e "$file" ] || die "there is no file $file; tests/cluster/golden.conf and second.conf are two to start from"
[ -f "$file" ] || die "$file is no file of numbers, as tests/cluster/golden.conf is"
[ -r "$file" ] || die "$file may not be read by $(id -un)"

tools/install-packages build run bed
if grep -q ^KUBE= "$file"; then
	echo "looking for a kube-apiserver, which is built where there is none"
	tests/interop/kube-apiserver >/dev/null
	bed+=(--memory 3072)
fi
command -v ccache >/dev/null && export CMAKE_C_COMPILER_LAUNCHER=ccache
echo "building into build/release"
mkdir -p build
cmake --preset release >build/configure-release.log || { cat build/configure-release.log; exit 1; }
cmake --build --preset release -- --quiet
[ -z "$keep" ] || bed+=(--shell)
exec tests/cluster/bed "${bed[@]}" --timeout 1200 KEEP="$keep" BIN="$PWD/build/release/bin" \
	ECHO="$PWD/build/release/tests/cluster_echo" tests/cluster/story.sh "$file"
