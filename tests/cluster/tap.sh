# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Steps that tell TAP, for the script that sources this. One that fails is told again at the end, where
# whoever has the last lines alone finds it.
n_steps=0
failed=()
export LC_ALL=C # EPOCHREALTIME has a point

now_us() {
	echo "${EPOCHREALTIME/./}"
}

# What a step that fails shows beside its output.
context() { :; }

# step WHAT COMMAND...: tested as little as can be, so that a function's own set -e counts.
step() {
	local what=$1 begin out rc took
	shift
	n_steps=$((n_steps + 1))
	begin=$(now_us)
	out=$("$@" 2>&1)
	rc=$?
	took=$(($(now_us) - begin))
	if [ $rc = 0 ]; then
		printf 'ok %d - %s (%d.%02d s)\n' $n_steps "$what" $((took / 1000000)) $((took / 10000 % 100))
		[ -z "${VERBOSE:-}" ] || printf '%s\n' "$out" | sed 's/^/#   /'
	else
		failed+=("$n_steps - $what"$'\n'"$({ echo "$out"; context; } | sed 's/^/#   /')")
		printf 'not ok %s\n' "${failed[-1]}"
	fi
}

# within SECONDS COMMAND...: until it succeeds, at an attempt that begins in time. $slow: so many times
# slower is the machine.
within() {
	local end=$(($(now_us) + $1 * ${slow:-1} * 1000000)) out
	shift
	until out=$("$@" 2>&1); do
		if (($(now_us) > end)); then
			printf '%s\n' "$out"
			return 1
		fi
		sleep 0.1
	done
	printf '%s\n' "$out"
}

tap_end() {
	if [ ${#failed[@]} != 0 ]; then
		printf '# FAILED: %s\n' "${failed[@]}"
	fi
	echo "1..$n_steps"
	[ ${#failed[@]} = 0 ]
}
