#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
A server that has run for long, and a node with many pods: what it leaves, of whatever it uses, and whether all
pods come back from a reboot. Run as cni_conformance.py is, with CNI_SERVE.

CYCLES: how many pods come and go one after the other; PODS: how many there are at once.
"""
import concurrent.futures
import contextlib
import os
import shutil
import signal
import time
import unittest

from cni_world import BIN, IPAM, V3, Attachment, Node, eventually, host_setup, ip, sh

CYCLES = int(os.environ.get("CYCLES", "300"))
PODS = int(os.environ.get("PODS", "40"))
# with AddressSanitizer's allocator the keeper grew by 1.7 MB in 10 000 pods; with glibc's no process by 0.1 MB
GROWTH_KB = 768 + CYCLES // 5


def setUpModule():
    host_setup()
    # else what is freed is memory for as long as it is less than 256 MB
    os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64"


class Many(Node):
    pools = {"four": {"cidr": "10.244.0.0/21", "blockSize": 26},
             "six": {"cidr": "fd00:10::/64", "blockSize": 122}}

    def setUp(self):
        super().setUp()
        self.net = self.network(self.plugin({"assign_ipv6": "true"}))

    def in_parallel(self, n, function, arguments):
        with concurrent.futures.ThreadPoolExecutor(n) as threads:
            return list(threads.map(function, arguments))

    def host_reaches(self, attachment):
        for e in attachment.result["ips"]:
            sh("ping", "-q", "-c3", "-i0.2", "-w5", e["address"].split("/")[0])

    def assert_consistent(self):
        self.settle(120)
        said = sh(BIN + "/margayctl", "ipam", "check", env=self.store.env)
        self.assertIn("found 0 problems", said)


class Cycles(Many):
    def children(self):
        with open(f"/proc/{self.server.pid}/task/{self.server.pid}/children") as f:
            return [int(pid) for pid in f.read().split()]

    def memory_kb(self, pid):
        """What it has of its own."""
        with open(f"/proc/{pid}/smaps_rollup") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("Anonymous:"))

    def uses(self):
        return {pid: {"memory": self.memory_kb(pid), "fds": len(os.listdir(f"/proc/{pid}/fd"))}
                for pid in [self.server.pid, *self.children()]}

    def namespaces(self):
        """Those that this one has a link to, and those that have a name."""
        return sh("ip", "netns", "list-id"), os.listdir("/run/netns")

    def cycle(self, i):
        a = self.attachment(f"p{i}")
        self.net.add(a)
        if i % 50 == 0:
            self.host_reaches(a)
            self.net.check(a)
        self.net.delete(a)
        sh("ip", "netns", "del", f"p{i}")
        self.pods.remove(f"p{i}")
        self.store.delete_pod(f"p{i}")

    def cycles(self, first, last):
        """Not faster than what is journaled goes to the datastore: it would be memory."""
        for i in range(first, last, 100):
            self.in_parallel(8, self.cycle, range(i, min(i + 100, last)))
            self.settle(120)

    def test_nothing_grows(self):
        namespaces = self.namespaces()
        warm = max(CYCLES // 5, min(CYCLES, 200))
        self.cycles(0, warm)
        # by which each worker has spoken to the datastore: what a pod needs is in the reserve and the snapshot
        self.in_parallel(8, self.net.gc, [[]] * 16)
        used = self.uses()
        self.cycles(warm, warm + CYCLES)
        self.assert_clean()
        # the kernel takes a namespace apart when it comes to it
        end = time.monotonic() + 30
        while self.namespaces() != namespaces and time.monotonic() < end:
            time.sleep(0.1)
        self.assertEqual(self.namespaces(), namespaces)
        self.assert_consistent()
        now = self.uses()
        for pid, was in used.items():
            print(f"{pid}: {was} -> {now.get(pid)}", flush=True)
        self.assertEqual(list(now), list(used), "a process was replaced")
        for pid, was in used.items():
            # one that is opened when it is needed first is no leak, which grows with the cycles
            self.assertLessEqual(now[pid]["fds"], was["fds"] + 2, pid)
            self.assertLess(now[pid]["memory"] - was["memory"], GROWTH_KB, pid)
        if self.journal:
            self.assertLess(os.path.getsize(self.journal), 1 << 20)


class Reboot(Many):
    def assert_all_well(self, attachments):
        self.in_parallel(8, self.host_reaches, attachments)
        routes = {r["dst"] for r in ip("route", "show") + ip("-6", "route", "show")}
        given = [e["address"].split("/")[0] for a in attachments for e in a.result["ips"]]
        self.assertEqual(len(set(given)), 2 * len(attachments))
        self.assertLessEqual(set(given), routes)
        for a in attachments:
            name = os.path.basename(a.netns)
            inside = {i["local"] for i in ip("address", "show", "dev", "eth0", ns=name)[0]["addr_info"]
                      if i["scope"] == "global"}
            self.assertEqual(inside, {e["address"].split("/")[0] for e in a.result["ips"]})
        self.assertEqual(len(ip("link", "show", "type", "veth")), len(attachments))

    def assert_stored(self, attachments):
        self.settle(120)
        self.assertEqual(sorted(self.addresses().values()), sorted(2 * [f"net.{a.container_id}" for a in attachments]))
        endpoints = self.objects(V3 + "/workloadendpoints/").values()
        self.assertEqual({e["spec"]["pod"]: (e["spec"]["containerID"], sorted(e["spec"]["ipNetworks"])) for e in endpoints},
                         {os.path.basename(a.netns): (a.container_id, sorted(e["address"] for e in a.result["ips"]))
                          for a in attachments})
        self.assertEqual(len(endpoints), len(attachments))
        self.assert_consistent()

    def reboot(self):
        """No process, interface, namespace, and nothing of /run is left; the disk is, and the datastore."""
        processes = [self.server.pid, *map(int, sh("pgrep", "-P", str(self.server.pid)).split())]
        for pid in processes:
            # a child ends with the server, which was the first
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.unserve()
        eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in processes))
        self.remove_pods()
        eventually(lambda: not ip("link", "show", "type", "veth"))
        shutil.rmtree(self.dir + "/run")
        with open(self.dir + "/boot_id", "w") as f:
            f.write("11111111-2222-3333-4444-555555555555\n")
        sh("mount", "--bind", self.dir + "/boot_id", "/proc/sys/kernel/random/boot_id")
        self.addCleanup(sh, "umount", "/proc/sys/kernel/random/boot_id")
        self.serve()

    def come_back(self, pair):
        """A new sandbox of the same pod: after the old one's DEL, before it, or the old one is left to GC."""
        i, (old, new) = pair
        if i % 3 == 0:
            self.net.delete(old)
        self.net.add(new)
        if i % 3 == 1:
            self.net.delete(old)

    def test_all_back(self):
        names = [f"pod-{i}" for i in range(PODS)]
        old = [self.attachment(name) for name in names]
        self.in_parallel(8, self.net.add, old)
        self.assert_all_well(old)
        self.assert_stored(old)

        self.reboot()
        new = []
        for a in old:
            name = os.path.basename(a.netns)
            a.netns = ""
            new.append(Attachment("again-" + name, self.pod(name), args=a.args))
        self.in_parallel(8, self.come_back, enumerate(zip(old, new)))
        self.net.gc(new)
        self.assert_all_well(new)
        self.assert_stored(new)
        for a in old:
            self.net.delete(a)
        self.assert_all_well(new)
        self.assert_stored(new)
        self.in_parallel(8, self.net.delete, new)
        self.assert_clean(*names)
        self.assert_consistent()


if __name__ == "__main__":
    unittest.main()
