#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tests/unit/test_check.sh SOURCE: what ./check.sh does around the programs that it calls, which are
# stand-ins here: each succeeds, but where FAIL names it, and ctest knows no test.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/bin" "$dir/tools" "$dir"/build/{asan,release}
cp "$1/check.sh" "$dir"
cat >"$dir/bin/stub" <<'S'
#!/bin/bash
[[ " $FAIL " != *" ${0##*/}:${*: -1} "* && " $FAIL " != *" ${0##*/} "* ]]
S
chmod +x "$dir/bin/stub"
for program in cmake ctest git clang-format-14 clang-tidy-14 shellcheck codespell; do
	ln -s stub "$dir/bin/$program"
done
printf '#!/bin/sh\ntouch "%s/installed"\n' "$dir" >"$dir/tools/install-packages"
chmod +x "$dir/tools/install-packages"
bad=0

# check STATUS FAIL ARGUMENT...: what it says is in $output
check() {
	local want=$1 status=0
	rm -f "$dir/installed"
	touch "$dir/build/asan/junit.xml"
	output=$(FAIL=$2 PATH=$dir/bin:$PATH "$dir/check.sh" "${@:3}" 2>&1) || status=$?
	what="check.sh ${*:3}"
	[ "$status" = "$want" ] || complain "exit status $status, want $want: $output"
}

complain() {
	echo "test_check: $what: $*" >&2
	bad=1
}

says() {
	[[ $output == *"$1"* ]] || complain "want \"$1\", got: $output"
}

untouched() {
	[ ! -e "$dir/installed" ] || complain "packages were installed"
	[ -e "$dir/build/asan/junit.xml" ] || complain "results were deleted"
}

for wrong in nosuch "" "unit golden" --nope; do
	check 2 "" "$wrong"
	says "no layer \"$wrong\""
	says "./check.sh LABEL"
	untouched
done
check 2 "" unit golden
untouched
for help in --help -h; do
	check 0 "" $help
	says "style tidy unit golden"
	untouched
done

check 0 "" style
[ -e "$dir/installed" ] || complain "nothing was installed"

check 1 "" interop
says "there is no test with the label interop"
says "FAILED: interop"

# Where a build fails, what failed before it is told, too.
check 1 "git cmake" all
says "FAILED: format"
says "FAILED: build dev"
exit $bad
