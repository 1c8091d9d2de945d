#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# ./check.sh		installs what it needs, builds everything, runs every test and check
# ./check.sh LABEL	one layer: style tidy unit golden scenario netns fuzz cluster interop
# ./check.sh soak	the long cases, at full size: over two hours
#
# The cluster's tests run from the release build, all others under ASan and UBSan.
# Tests under the sanitizers need root, for the namespaces: where this is not root's shell they run
# through sudo.
# A skipped test is a failure, unless its reason says "covered by NAME", NAME being a test that the
# release build has (and that passed, where everything ran).
set -euo pipefail
exec </dev/null
cd "$(dirname "$0")"

readonly SANITIZED='unit golden scenario netns fuzz interop' RELEASE=cluster
readonly JOBS=${JOBS:-$(nproc)}
label=${1-all}
failed=()

usage() {
	sed -n '4,6s/^# //p' check.sh
}

# Before anything is installed, or results of an earlier run are deleted.
case $#:$label in
1:-h | 1:--help)
	usage
	exit
	;;
0:all | 1:all | 1:style | 1:tidy) ;;
1:unit | 1:golden | 1:scenario | 1:netns | 1:fuzz | 1:cluster | 1:interop | 1:soak) ;;
*)
	echo "$0: no layer \"$*\"" >&2
	usage >&2
	exit 2
	;;
esac

files() { # tracked files that match the patterns
	git -c safe.directory="$PWD" ls-files -- "$@"
}

step() {
	echo "== $*"
}

try() { # NAME COMMAND...: goes on after a failure
	local name=$1
	shift
	step "$name"
	"$@" || failed+=("$name")
}

# ---- style ----

scripts() {
	files '*.sh' '*.bash' '*.bats'
	files | while read -r f; do
		if head -c 64 "$f" | grep -qaE '^#!.*\b(ba)?sh$'; then
			echo "$f"
		fi
	done
}

check_format() {
	files '*.c' '*.h' | xargs -r clang-format-14 --dry-run -Werror
}

check_scripts() {
	scripts | sort -u | xargs -r shellcheck
}

check_spelling() {
	files ':!COPYING' ':!tests/fuzz/corpus' | xargs -r codespell --ignore-words tools/codespell-words
}

# Without the analyzer, whose findings are for reading: on this code most of them are false.
check_tidy() {
	local log=build/tidy.log
	files '*.c' ':!tests' ':!bench' |
		xargs -r -n 3 -P "$JOBS" clang-tidy-14 -p build/asan --quiet --warnings-as-errors='*' \
			--checks='-clang-analyzer-*' \
			>"$log" 2>&1 && return 0
	grep -E '(error|warning):' -A3 "$log" || tail -n 20 "$log"
	return 1
}

# ---- build and run ----

build() { # PRESET
	step "build $1"
	cmake --preset "$1" -DMARGAY_WERROR=ON >"build/configure-$1.log" 2>&1 || {
		cat "build/configure-$1.log"
		return 1
	}
	cmake --build --preset "$1" -- -j "$JOBS" --quiet
}

builds() { # PRESET...: without them there is nothing to go on with; what has failed before is told
	local preset
	for preset; do
		build "$preset" || {
			failed+=("build $preset")
			summary
		}
	done
}

# The reasons for which tests of a junit file were skipped, one "TEST: REASON" a line.
skips() {
	awk '
		/<testcase / {
			name = $0; sub(/.*<testcase name="/, "", name); sub(/".*/, "", name)
			whole = / status="(notrun|disabled)"/
			text = ""
		}
		{ sub(/^.*<system-out>/, "") }
		whole { text = text " " $0 }
		!whole && /^(not )?ok [0-9]+ .*# skip/ { sub(/.*# skip */, ""); print name ": " $0 }
		/<\/testcase>/ && whole { gsub(/[\t ]*<[^>]*>/, "", text); print name ": the whole test:" text }
		' "$1"
}

passed() { # TEST: in the release build's run
	[ "$label" != all ] || grep -q "<testcase name=\"$1\".* status=\"run\"" build/release/junit.xml
}

check_skips() {
	local xml line by bad=0
	for xml in build/*/junit.xml; do
		[ -f "$xml" ] || continue
		while read -r line; do
			by=$(sed -n 's/.*covered by \([A-Za-z0-9_.-]*\).*/\1/p' <<<"$line")
			if [ -n "$by" ] && grep -qx "$by" build/release/tests.txt && passed "$by"; then
				echo "skipped, ${line}"
			else
				echo "skipped, and no test of the QEMU bed is named that covers it: $line"
				bad=1
			fi
		done < <(skips "$xml")
	done
	return $bad
}

run_tests() { # PRESET LABEL...
	local preset=$1 root=() pattern
	shift
	pattern="^($(tr ' ' '|' <<<"$*"))\$"
	ctest --test-dir "build/$preset" -C Soak -L "$pattern" -N | grep '^ *Test  *#' >/dev/null || {
		echo "there is no test with the label $*"
		return 1
	}
	# It counts halves of a processor: margay_tests_done in cmake/Margay.cmake. The bed needs no root.
	[ "$(id -u)" = 0 ] || [ "$preset" = release ] ||
		root=(sudo "--preserve-env=PATH,KUBE_APISERVER,KUBELET,CNITOOL,CRICTL,UBSAN_OPTIONS,ASAN_SYMBOLIZER_PATH")
	"${root[@]}" ctest --test-dir "build/$preset" -C Soak -L "$pattern" --output-on-failure -j $((2 * JOBS)) \
		--output-junit junit.xml --test-output-size-passed 1000000 2>&1 |
		tee "build/ctest-$preset.log"
}

list_release_tests() {
	ctest --test-dir build/release -N | sed -n 's/^ *Test *#[0-9]*: //p' >build/release/tests.txt
}

summary() {
	local log
	for log in build/ctest-*.log; do
		[ -f "$log" ] || continue
		step "summary of ${log#build/ctest-}" | sed 's/\.log$//'
		sed -n '/tests passed/,$p' "$log"
	done
	if [ ${#failed[@]} -gt 0 ]; then
		printf 'FAILED: %s\n' "${failed[@]}"
		exit 1
	fi
	step "all is well, in $SECONDS s"
}

tools/install-packages build run bed test
command -v ccache >/dev/null && export CMAKE_C_COMPILER_LAUNCHER=ccache
export UBSAN_OPTIONS=print_stacktrace=1
export ASAN_SYMBOLIZER_PATH=/usr/bin/llvm-symbolizer-14
mkdir -p build
rm -f build/ctest-*.log build/*/junit.xml

case $label in
all)
	try format check_format
	try scripts check_scripts
	try spelling check_spelling
	builds dev asan release
	list_release_tests
	try tidy check_tidy
	# shellcheck disable=SC2086
	{
		try "tests under the sanitizers" run_tests asan $SANITIZED
		try "tests of the release build" run_tests release $RELEASE
	}
	try skips check_skips
	;;
style)
	try format check_format
	try scripts check_scripts
	try spelling check_spelling
	;;
tidy)
	builds asan
	try tidy check_tidy
	;;
unit | golden | scenario | netns | fuzz | interop)
	builds asan release
	list_release_tests
	try "$label" run_tests asan "$label"
	try skips check_skips
	;;
soak)
	builds asan release
	list_release_tests
	try "soak, sanitizers" run_tests asan soak
	try "soak, release build" run_tests release soak_cluster
	try skips check_skips
	;;
cluster)
	builds release
	list_release_tests
	try "$label" run_tests release "$label"
	try skips check_skips
	;;
esac
summary
