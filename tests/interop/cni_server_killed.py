#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
A process of margay-cni serve that is killed before its n-th system call that changes something: the client has an
answer soon, another process takes the place of the one that died, and then all is as cni_killed.py wants
it of a plugin that is killed. Run as that, with CNI_SERVE.

KILL_ROUNDS: how often the parent is killed while eight verbs run; SEED says when.
"""
import concurrent.futures
import os
import random
import signal
import subprocess
import time
import unittest

import cni_killed
from cni_runner import Failed
from cni_world import BIN, STORE, Node, eventually, host_setup, ip

STEP = cni_killed.STEP
ANSWER_S = 10  # of a verb whose worker dies, or that waits for another one
ROUNDS = int(os.environ.get("KILL_ROUNDS", "4"))
SEED = int(os.environ.get("SEED", time.time_ns() % 1000000))


def setUpModule():
    host_setup()
    # a sanitizer's look for leaks stops where a tracer is already
    os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(child) for child in f.read().split()]


def is_traced(pid):
    try:
        with open(f"/proc/{pid}/status") as f:
            return "TracerPid:\t0\n" not in f.read()
    except OSError:
        return False


class Consistent:
    def assert_consistent(self):
        """At the end, that is: the keeper counts its own handle when it starts."""
        self.settle()
        check = [BIN + "/margayctl", "ipam", "check"]
        env = {**os.environ, **self.store.env}
        eventually(lambda: subprocess.run(check, env=env, capture_output=True, check=False).returncode == 0)


class Child(cni_killed.Killed, Consistent):
    """One of the server's children under a tracer, which goes to the one that takes its place."""

    role = "worker"

    def setUp(self):
        os.environ["MARGAY_CNI_WORKERS"] = "1"
        self.addCleanup(os.environ.pop, "MARGAY_CNI_WORKERS")
        super().setUp()
        roles = ["reaper", "monitor", *["keeper"] * bool(self.journal), "waiter", "worker"]
        pids = dict(zip(roles, children(self.server.pid), strict=True))
        self.others = set(pids.values()) - {pids[self.role]}

    def find(self):
        """The process of the role, or of who has taken its place."""
        pids = set(children(self.server.pid)) - self.others
        return pids.pop() if len(pids) == 1 else None

    def attach(self, *options):
        """One that was about to die may be gone before it is traced."""
        for _ in range(10):
            eventually(self.find)
            pid = self.find()
            tracer = subprocess.Popen([*self.tracer(*options), "-p", str(pid)], stderr=subprocess.DEVNULL)
            self.addCleanup(tracer.wait)
            while tracer.poll() is None:
                if is_traced(pid):
                    return tracer
                time.sleep(0.01)
        raise AssertionError(f"process {pid} cannot be traced")

    def detach(self, tracer):
        """It ends with the process, where that was killed."""
        try:
            tracer.wait(0.5)
        except subprocess.TimeoutExpired:
            tracer.send_signal(signal.SIGINT)
            tracer.wait()

    def ask(self, verb):
        began = time.monotonic()
        try:
            getattr(self.net, verb)(self.a)
        finally:
            self.assertLess(time.monotonic() - began, ANSWER_S)

    def traced(self, verb, *options):
        tracer = self.attach(*options)
        self.ask(verb)
        self.settle()
        self.detach(tracer)

    def kill(self, verb, call, n):
        tracer = self.attach("-e", f"inject={call}:signal=KILL:when={n}")
        try:
            self.ask(verb)
        except Failed as e:
            self.assertIn(self.role, ("worker", "waiter"), e)
            self.assertEqual(e.code, 11, e)
        self.settle()
        self.detach(tracer)
        with open(self.log) as f:
            return "killed by SIGKILL" in f.read()

    def sweep(self, verb, before, after):
        super().sweep(verb, before, after)
        self.assert_consistent()


class Worker(Child):
    pass


@unittest.skipIf(STORE != "sqlite", "is the same on each datastore")
class Reaped(Child):
    """A link that was taken down goes, also when its worker cannot tell, or its server is another by then."""

    test_add = test_add_and_again = test_add_and_garbage = test_del = None

    def test_killed_before_it_tells(self):
        self.net.add(self.a)
        self.traced("delete")
        writes = [n for call, n in cni_killed.calls(self.log) if call == "write"]
        self.assertTrue(writes)
        for n in writes:
            self.net.add(self.a)
            self.assertTrue(self.kill("delete", "write", n))
            eventually(lambda: len(ip("link")) == 1, 2)
            self.deleted_and_added()

    def test_slower_than_another_server_starts(self):
        self.net.add(self.a)
        tracer = self.attach("-e", "inject=sendto:delay_enter=400000")
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            done = thread.submit(self.ask, "delete")
            time.sleep(0.2)
            self.unserve(signal.SIGKILL)
            self.serve()
            done.result()
        tracer.wait()
        self.assert_clean("a")


@unittest.skipIf(STORE == "sqlite", "there is none")
class Waiter(Child):
    """Without a reserve it has each ADD, and writes to the datastore itself."""

    role = "waiter"
    n_reserve = 0

    test_del = None  # the worker's

    def attach(self, *options):
        """Until the keeper has given it to its pool, an ADD has the address that a DEL has freed."""
        self.settle()
        return super().attach(*options)


@unittest.skipIf(STORE == "sqlite", "there is none")
class Keeper(Child):
    """Whatever it was at is begun anew, by itself: no address has two pods, and none is lost."""

    role = "keeper"
    least = 0.5  # how much there is to refill differs

    def kill(self, verb, call, n):
        killed = super().kill(verb, call, n)
        if verb == "add":
            self.assert_well(self.net, self.a)
        else:
            self.assert_clean("a")
        return killed


class Parent(Node, Consistent):
    def left(self):
        """Processes of this node's server."""
        mark, found = f"MARGAY_RUN_DIR={self.dir}/run".encode(), []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as f, open(f"/proc/{pid}/comm") as comm:
                    if mark in f.read().split(b"\0") and comm.read() == "margay-cni\n":
                        found.append(int(pid))
            except OSError:
                pass
        return found


    def test_while_it_starts(self):
        """What it left is not in the next one's way."""
        net = self.network(self.plugin({"assign_ipv6": "true"}))
        a = self.attachment("a")
        self.unserve()
        log = self.dir + "/strace"
        tracer = "strace", "-qq", "-o", log, "-e", "trace=mkdir,bind,chmod,listen,unlink,rename,eventfd2,clone"
        self.start_server(*tracer)
        self.await_served()
        eventually(lambda: len(self.left()) > 3)
        os.kill(children(self.server.pid)[0], signal.SIGKILL)
        self.unserve()
        eventually(lambda: not self.left())
        calls = cni_killed.calls(log)
        self.assertGreater(len(calls), 8)
        step = max(STEP // 4, 1)
        for call, n in calls[SEED % step::step]:
            with self.subTest(f"before {call} {n}"):
                self.start_server(*tracer, "-e", f"inject={call}:signal=KILL:when={n}")
                self.server.wait(10)
                eventually(lambda: not self.left())
                self.serve()
                net.add(a)
                self.assert_well(net, a)
                net.delete(a)
                self.assert_clean("a")
                self.unserve()
                eventually(lambda: not self.left())
        self.serve()
        self.assert_consistent()

    def test_while_verbs_run(self):
        net = self.network(self.plugin({"assign_ipv6": "true"}))
        pods = [self.attachment(f"p{i}") for i in range(8)]
        rng = random.Random(SEED)
        print(f"{self.id()}: SEED={SEED}", flush=True)

        def until_done(verb, a):
            end = time.monotonic() + 60
            while True:
                try:
                    return getattr(net, verb)(a)
                except Failed as e:
                    self.assertEqual(e.code, 11, e)
                    self.assertLess(time.monotonic(), end, e)

        with concurrent.futures.ThreadPoolExecutor(len(pods)) as threads:
            for n in range(ROUNDS):
                for verb in "add", "delete":
                    done = [threads.submit(until_done, verb, a) for a in pods]
                    time.sleep(rng.uniform(0, 0.2))
                    self.unserve(signal.SIGTERM if n % 2 else signal.SIGKILL)
                    self.start_server()
                    for d in done:
                        d.result()
                    self.await_served()
                    eventually(lambda: len(self.left()) == 1 + len(children(self.server.pid)))
                    if verb == "add":
                        for a in pods:
                            self.assert_well(net, a)
                            net.check(a)
                        self.assertEqual(len(self.addresses()), 2 * len(pods))
                    else:
                        self.assert_clean(*self.pods)
                        self.assert_consistent()


# what the cases are of, and no case itself
del Child


if __name__ == "__main__":
    unittest.main()
