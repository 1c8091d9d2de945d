#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The demo notices what is broken: with a route, a real server and the DNS zone removed behind its back
# it says FAILED of the steps that show these, ok of others, and exits with 1.
set -u
here=$(dirname "$0")
out=$(mktemp)
trap 'rm -f "$out"' EXIT
failures=0

"$here/story.sh" "$here/broken.conf" >"$out"
status=$?
cat "$out"

# verdict TITLE: of the step
verdict() {
	awk -v title="$1" 'index($0, title) && /^[0-9]+\. / { on = 1 }
		on && /^   (ok|FAILED)/ { print $1; exit }' "$out"
}

want() { # VERDICT TITLE
	if [ "$(verdict "$2")" = "$1" ]; then
		echo "ok - the demo says $1 of: $2"
	else
		echo "not ok - the demo says $(verdict "$2"), not $1, of: $2"
		failures=1
	fi
}

want FAILED "route -n on node-80"
want ok "route -n on node-81"
want FAILED "ipvsadm -Ln on node-80"
want ok "ipvsadm -Ln on node-82"
want FAILED "A, SRV and PTR"
want FAILED "A new Service, resolved"
if [ $status != 1 ]; then
	echo "not ok - the demo's exit status is $status"
	failures=1
fi
exit $failures
