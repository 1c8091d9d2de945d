# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# For tests of margay-cni serve with its reserve and its journal, beside servers.bash and ../netns/pods.bash: the
# server. Of its datastore a file has
#
#	owned HANDLE		prints how many addresses
#	exact POD...		it says of these, and of the reserve, what there is, and nothing else
#	cni VERB POD		the plugin
#	store_away, store_back	it is killed; it is started again
#	hour_passes		of the clock that says when it was seen, while it is away

# Whose name it is: the server's that listens, or one's that was killed.
socket() {
	stat -c '%i %z' run/cni.sock 2>/dev/null
}

listens() { # SOCKET: whose that is not
	local now

	now=$(socket) && [ "$now" != "$1" ]
}

# shellcheck disable=SC2120 # tests give them
serve() { # [COMMAND...]: which runs it
	local left

	left=$(socket) || true
	"$@" "$BIN/margay-cni" serve 2>>serve.log 3>&- 4>&- &
	server=$!
	within 10 listens "$left"
}

# shellcheck disable=SC2120
unserve() { # [SIGNAL]
	[ -n "${server:-}" ] || return 0
	end "$server" "${1:--TERM}"
	server=
	! grep -E 'Sanitizer|runtime error' serve.log
}

answered() { # by SECONDS, before who waits for the datastore gives up, which is after 55
	[ $SECONDS -lt 30 ]
}

held() { # N: so many are held ahead
	[ "$(owned margay-reserve-node-1)" = "$1" ]
}

# Everything that was journaled is in the datastore: nothing waits.
settled() {
	local waits

	waits=$(sed 's/^[0-9a-f]* //' state/journal | jq -s '
		reduce .[] as $r ({}; if ($r.do | test("take$|give-back$")) and ($r.done | not) then .[$r.n | tostring] = 1
			elif $r.do == "done" then del(.[$r.n | tostring]) else . end) | length')
	[ "$waits" = 0 ]
}

keeper() { # the process that has the journal's directory watched
	local pid

	for pid in $(pgrep -P "$server"); do
		[ -z "$(find "/proc/$pid/fd" -lname '*inotify')" ] || echo "$pid"
	done
}

# It is $stopped then, and does not have the journal's lock, for which others would wait.
keeper_stop() {
	stopped=$(keeper)
	until kill -STOP "$stopped" && flock -n "$MARGAY_CNI_STATE_DIR/lock" true; do
		kill -CONT "$stopped"
		sleep 0.05
	done
}

# As many pods start as are held ahead, and as many stop.
hour_away() { # N
	local n=$1 i old=() new=()

	unserve
	export MARGAY_CNI_RESERVE=$n
	serve
	within 120 held "$n"
	for ((i = 0; i < n; i++)); do
		old+=("old-$i") new+=("new-$i")
		pod "old-$i"
		pod "new-$i"
		cni ADD "old-$i" >/dev/null
	done
	within 120 held "$n"
	exact "${old[@]}"
	store_away
	hour_passes
	for ((i = 0; i < n; i++)); do
		cni ADD "new-$i" >/dev/null
		cni DEL "old-$i"
	done
	[ "$(ip -j route show proto 80 | jq 'map(.dst) | unique | length')" = "$n" ]
	ip netns exec new-0 ping -c1 -W2 "$(address "new-$((n - 1))")"
	unserve
	store_back
	serve
	within 120 settled
	exact "${new[@]}"
}

in_time() { # SECONDS COMMAND...: its status, and it took no longer
	local began=${EPOCHREALTIME/./} rc=0 took

	"${@:2}" || rc=$?
	took=$(((${EPOCHREALTIME/./} - began) / 1000))
	[ "$took" -lt $(($1 * 1000)) ] || { echo "after $took ms: ${*:2}" >&2; return 99; }
	return "$rc"
}

try_later() { # POD...: which it is told, by ADD
	local p rc

	for p; do
		rc=0
		cni ADD "$p" >"$p.out" || rc=$?
		[ "$rc" != 0 ] || return 1
		jq -e '.code == 11' "$p.out" >/dev/null || { cat "$p.out"; return 1; }
	done
}

# The datastore is there and answers nothing. With nothing held ahead, pods a, b and c that run, and more than there are
# workers that are to start.
hang() { # FUNCTION POD...: which has it hang, and go on ("off")
	local hangs=$1 p adds=() valid

	shift
	for p in a b c; do cni ADD "$p" >"$p.json"; done
	exact a b c
	jq --slurpfile r b.json '. + {prevResult: $r[0]}' conf >conf-check
	valid=$(printf '%s\n' b c d "$@" | jq -R '{containerID: "c-\(.)", ifname: "eth0"}' | jq -s .)
	jq --argjson v "$valid" '. + {"cni.dev/valid-attachments": $v}' conf >conf-gc
	"$hangs"
	for p; do
		in_time 40 try_later "$p" 3>&- &
		adds+=($!)
	done
	sleep 1.5
	in_time 20 cni DEL a
	# Of what that has freed.
	in_time 20 cni ADD d >/dev/null
	CONF=conf-check in_time 20 cni CHECK b
	in_time 20 cni STATUS - || [ $? = 1 ]
	CONF=conf-gc in_time 20 cni GC - >gc.out || { [ $? = 1 ] && jq -e '.code == 11' gc.out; }
	for p in "${adds[@]}"; do wait "$p"; done
	# It is known now.
	in_time 20 try_later "$1"
	in_time 20 run -1 cni STATUS -
	for p; do in_time 20 cni DEL "$p"; done
	"$hangs" off
	within 20 cni ADD "$1" >/dev/null
	in_time 20 cni STATUS -
	exact b c d "$1"
	CONF=conf-gc in_time 20 cni GC -
	exact b c d "$1"
}
