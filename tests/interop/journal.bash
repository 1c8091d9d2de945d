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
