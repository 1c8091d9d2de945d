#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
A verb of the CNI plugin that is killed before its n-th system call that changes something, n = 1, 2, ... until
it ends by itself: DEL brings everything back to what was before, and ADD works. Run as cni_conformance.py is.

KILL_STEP=n takes every n-th of them, and begins where the clock says; KILL_FIRST says where instead.
"""
import collections
import os
import re
import time
import unittest

from cni_runner import Failed
from cni_world import Node, host_setup, sh

CALLS = ("sendmsg sendto write pwrite64 writev pwritev fsync fdatasync ftruncate fallocate unlink unlinkat rename "
         "renameat renameat2 mkdir mkdirat rmdir connect setns").split()
STEP = int(os.environ.get("KILL_STEP", "1"))
FIRST = int(os.environ.get("KILL_FIRST", time.time())) % STEP


def setUpModule():
    host_setup()
    # a sanitizer's look for leaks stops where a tracer is already
    os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"


def calls(log):
    """
    [(call, how many of its kind there were)...] of a trace, as the tracer counts them where nothing is in the way.

    A write of a sysctl that would wait for the lock of the kernel's links is begun anew, thousands of times on a busy
    machine, and the tracer tells of each.
    """
    made = {}  # by its line's number, what was called
    last = {}  # by the process, which line
    with open(log) as f:
        for i, line in enumerate(f):
            m = re.match(r"(?:(\d+) +)?(?:<\.\.\. )?(\w+)(\()?", line)
            if m and m[3]:
                made[i], last[m[1]] = m[2], i
            if m and "= ? ERESTART" in line:
                made.pop(last.get(m[1]), None)
    seen = collections.Counter()
    found = []
    for name in made.values():
        seen[name] += 1
        found.append((name, seen[name]))
    return found


class Killed(Node):
    least = 0.8  # of the calls that it is killed at, but for one: what it writes may differ by a call or two

    def setUp(self):
        super().setUp()
        self.log = self.dir + "/strace"
        self.net = self.network(self.plugin({"assign_ipv6": "true"}))
        self.a = self.attachment("a")
        # the block is the node's from the first address on
        self.net.add(self.a)
        self.net.delete(self.a)

    def tracer(self, *options):
        return ["strace", "-f", "-qq", "-o", self.log, "-e", "trace=" + ",".join(CALLS), *options]

    def traced(self, verb, *options):
        """The verb, its plugins under a tracer."""
        def wrap(argv, _verb, _type):
            return [*self.tracer(*options), *argv]
        getattr(self.network(*self.net.conf["plugins"], wrap=wrap), verb)(self.a)

    def kill(self, verb, call, n):
        """Whether it was killed, and did not end before."""
        try:
            self.traced(verb, "-e", f"inject={call}:signal=KILL:when={n}")
        except (AssertionError, Failed):
            with open(self.log) as f:
                self.assertIn("killed by SIGKILL", f.read())
            return True
        return False

    def recorded(self, verb, before):
        before()
        self.traced(verb)
        self.net.delete(self.a)
        self.assert_clean("a")
        return calls(self.log)

    def sweep(self, verb, before, after):
        # once in a while SQLite makes its index anew, a dozen calls that other runs do not have
        there = min((self.recorded(verb, before) for _ in range(2)), key=len)
        self.assertGreater(len(there), 5)
        killed = []
        for call, n in there[FIRST % len(there)::STEP]:
            with self.subTest(f"{verb} before {call} {n}"):
                before()
                killed.append(self.kill(verb, call, n))
                after()
            # the next one begins anew, whatever this one has found
            self.net.delete(self.a)
            self.renew()
        print(f"{self.id()}: killed at {sum(killed)} of {len(there)} calls, FIRST={FIRST}", flush=True)
        self.assertGreaterEqual(sum(killed) + 1, self.least * len(killed))

    def renew(self):
        self.remove_pods()
        self.a = self.attachment("a")

    def deleted_and_added(self):
        self.net.delete(self.a)
        self.assert_clean("a")
        self.net.add(self.a)
        self.assert_well(self.net, self.a)
        self.net.check(self.a)
        self.net.delete(self.a)
        self.assert_clean("a")

    def test_add(self):
        """As runtimes do: DEL of what failed, and then ADD of it."""
        self.sweep("add", lambda: None, self.deleted_and_added)

    def test_add_and_again(self):
        """A runtime that does not delete what failed: ADD goes on where it was, and leaks nothing, nor counts twice."""
        def again():
            self.net.add(self.a)
            self.assert_well(self.net, self.a)
            self.net.delete(self.a)
            self.assert_clean("a")
        self.sweep("add", lambda: None, again)

    def test_del(self):
        self.sweep("delete", lambda: self.net.add(self.a), self.deleted_and_added)

    def test_add_and_garbage(self):
        """A runtime that has forgotten the pod, whose namespace is gone: GC alone."""
        def collected():
            sh("ip", "netns", "del", "a")
            self.net.gc([])
            self.assert_clean()
        self.sweep("add", lambda: None, collected)


if __name__ == "__main__":
    unittest.main()
