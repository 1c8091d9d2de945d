# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# For tests on the real kernel: network namespaces as pods, all of which are the test's.

pod() {
	ip netns add "$1"
	ip -n "$1" link set lo up
}

# The links, too, of which a pod's end is elsewhere, or nowhere any more.
pods_remove() {
	local ns link

	for ns in $(ip netns list | awk '{ print $1 }'); do
		ip netns del "$ns"
	done
	for link in $(ip -j link show type veth | jq -r '.[].ifname'); do
		ip link del "$link" || true
	done
}

# The address that a pod's interface has.
address() { # POD [INTERFACE]
	ip -n "$1" -j -4 address show dev "${2:-eth0}" | jq -r '.[0].addr_info[0].local'
}
