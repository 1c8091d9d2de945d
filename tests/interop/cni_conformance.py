#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Whether the CNI plugins do what the specification 1.1.0 wants, as seen by a runtime that follows it
(cni_runner.py). Run in a network and a mount namespace of its own (tests/apart); see cni_world.py.
"""
import concurrent.futures
import json
import os
import subprocess
import time
import unittest

from cni_runner import VERSIONS, Failed, check_result
from cni_world import BIN, ETCD, PEERS, SERVE, STORE, V3, Node, eventually, ip, host_setup, sh


def setUpModule():
    host_setup()


class Case(Node):
    def fails(self, code, words, call, *args):
        with self.assertRaises(Failed) as caught:
            call(*args)
        self.assertEqual(caught.exception.code, code, caught.exception)
        self.assertIn(words, caught.exception.msg)
        # one message, told to the log as well
        self.assertIn(caught.exception.msg, str(caught.exception).split("\n", 1)[1])
        return caught.exception


class Verbs(Case):
    def test_every_version(self):
        plugin = self.plugin({"assign_ipv6": "true"}, mtu=1400)
        a = self.attachment("a")
        for version in VERSIONS:
            with self.subTest(version):
                net = self.network(plugin, version=version)
                result = net.add(a)
                self.assert_well(net, a)
                four, six = (e["address"] for e in result["ips"])
                old = version < "1.0.0"
                pod = {"name": "eth0", "mac": result["interfaces"][1]["mac"], "sandbox": a.netns}
                if version == "1.1.0":
                    pod["mtu"] = 1400
                self.assertEqual(result, {
                    "cniVersion": version,
                    "interfaces": [{"name": result["interfaces"][0]["name"], "mac": "ee:ee:ee:ee:ee:ee"}, pod],
                    "ips": [{"address": four, "interface": 1} | ({"version": "4"} if old else {}),
                            {"address": six, "interface": 1} | ({"version": "6"} if old else {})],
                    "routes": [{"dst": four}, {"dst": six}],
                    "dns": {},
                })
                if version >= "0.4.0":
                    net.check(a)
                else:
                    self.fails(1, "CHECK came with CNI 0.4.0", net.check, a)
                if version == "1.1.0":
                    net.status()
                    net.gc([a])
                else:
                    self.fails(1, "STATUS came with CNI 1.1.0", net.status)
                    self.fails(1, "GC came with CNI 1.1.0", net.gc, [a])
                self.assert_well(net, a)
                net.delete(a)
                self.assert_clean("a")
                for name in "margay", "margay-ipam":
                    self.assertLessEqual(set(VERSIONS), set(net.versions(name)))

    def test_cni_versions(self):
        net = self.network(version="0.4.0")
        net.conf["cniVersions"] = ["0.3.1", "1.1.0", "7.0.0"]
        a = self.attachment("a")
        net = type(net)(net.conf, net.path)
        self.assertEqual(net.add(a)["cniVersion"], "1.1.0")
        net.delete(a)

    def test_order(self):
        """Whatever the order, and however often: the same result, and at the end nothing."""
        net = self.network(self.plugin({"assign_ipv6": "true"}))
        a = self.attachment("a")
        net.delete(a)
        self.assert_clean("a")
        first = net.add(a)
        for _ in range(3):
            self.assertEqual(net.add(a), first)
            self.assert_well(net, a)
        net.delete(a)
        self.assert_clean("a")
        net.delete(a)
        net.delete(a)
        self.assert_clean("a")
        net.add(a)
        self.assert_well(net, a)
        net.delete(a)
        self.assert_clean("a")

    def test_namespace_gone(self):
        net = self.network(self.plugin({"assign_ipv6": "true"}))
        for way in "deleted", "not named", "deleted and not named", "path gone", "a file", "another's":
            with self.subTest(way):
                self.remove_pods()
                a = self.attachment("a")
                net.add(a)
                holder = None
                if way.startswith("deleted"):
                    sh("ip", "netns", "del", "a")
                if way.endswith("not named"):
                    a.netns = ""
                if way in ("path gone", "a file"):
                    holder = subprocess.Popen(["ip", "netns", "exec", "a", "sleep", "60"])
                    while not os.path.exists(f"/proc/{holder.pid}/ns/net") or os.readlink(
                            f"/proc/{holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
                        pass
                    sh("ip", "netns", "del", "a")
                if way == "a file":
                    open(a.netns, "w").close()
                if way == "another's":
                    a.netns = self.pod("b")
                net.delete(a)
                net.delete(a)
                if way == "a file":
                    os.unlink(a.netns)
                if holder:
                    inside = "nsenter", f"--net=/proc/{holder.pid}/ns/net", "ip", "link"
                    eventually(lambda: "eth0" not in sh(*inside), 1)
                    holder.kill()
                    holder.wait()
                self.assert_clean()

    def test_interfaces(self):
        """Several interfaces in one pod, of one network and of two; each goes alone."""
        net, other = self.network(), self.network(name="other")
        many = [(net, self.attachment("a")), (net, self.attachment("a", "net1")), (other, self.attachment("a", "net2"))]
        for n, a in many:
            n.add(a)
        b = self.attachment("b")
        net.add(b)
        there = b.result["ips"][0]["address"].split("/")[0]
        for n, a in many:
            self.assert_well(n, a)
            n.check(a)
            self.reach(there, "a", a.result["ips"][0]["address"].split("/")[0])
        self.assertEqual(len(self.addresses()), 4)
        for i in 1, 0, 2:
            n, a = many[i]
            n.delete(a)
            eventually(lambda: a.ifname not in sh("ip", "-n", "a", "link"), 1)
            for k, rest in many:
                if rest.ifname in sh("ip", "-n", "a", "link"):
                    self.assert_well(k, rest)
        net.delete(b)
        self.assert_clean("a", "b")

    def test_no_pod(self):
        """A container whose runtime names no pod. On Kubernetes it has no endpoint; it has all else."""
        net = self.network(self.plugin({"assign_ipv6": "true"}))
        a, b = self.attachment("a", args=""), self.attachment("b")
        first = net.add(a)
        net.add(b)
        self.assertEqual(net.add(a), first)
        self.assert_well(net, a)
        net.check(a)
        self.reach(b.result["ips"][0]["address"].split("/")[0], "a")
        net.gc([b])
        self.assertEqual(sorted(self.addresses().values()), ["net.c-b"] * 2)
        net.delete(a)
        net.delete(b)
        self.assert_clean("a", "b")

    def test_parallel(self):
        net = self.network()
        many = [self.attachment(f"p{i}") for i in range(12)]
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            list(threads.map(net.add, many))
            self.assertEqual(len({a.result["ips"][0]["address"] for a in many}), len(many))
            list(threads.map(net.check, many))
            list(threads.map(net.delete, many))
        self.assert_clean(*self.pods)

    def test_gc(self):
        net, other = self.network(), self.network(name="other")
        kept, gone, theirs = self.attachment("kept"), self.attachment("gone"), self.attachment("theirs")
        second = self.attachment("kept", "net1")
        for n, a in (net, kept), (net, gone), (net, second), (other, theirs):
            n.add(a)
        net.gc([kept, second])
        self.assertEqual(sorted(self.addresses().values()), ["net.c-kept", "net.c-kept:net1", "other.c-theirs"])
        net.gc([kept])
        self.assert_well(net, kept)
        self.assert_well(other, theirs)
        self.assertEqual(sorted(self.addresses().values()), ["net.c-kept", "other.c-theirs"])
        net.gc([kept])
        # the reference library's encoding of an empty list
        for nothing in None, []:
            plugin = net.conf["plugins"][0]
            net.run("GC", plugin, {**net.derive(plugin), "cni.dev/valid-attachments": nothing}, {})
            self.assertEqual(sorted(self.addresses().values()), ["other.c-theirs"])
        other.gc([])
        self.assert_clean("gone", "theirs")
        net.delete(gone)
        self.fails(7, "cni.dev/valid-attachments is missing", net.run, "GC", net.conf["plugins"][0],
                   net.derive(net.conf["plugins"][0]), {})


class Check(Case):
    def test_tampering(self):
        net = self.network(self.plugin({"assign_ipv6": "true"}))
        a = self.attachment("a")
        host = net.add(a)["interfaces"][0]["name"]
        net.delete(a)
        for broken, words in [
            ("ip -n a address del {four}/32 dev eth0", "address {four}"),
            ("ip -n a address del {six}/128 dev eth0", "address {six}"),
            ("ip -n a route del default", "default route"),
            ("ip -n a -6 route del default", "default route"),
            ("ip -n a neigh replace 169.254.1.1 lladdr 02:00:00:00:00:77 dev eth0 nud permanent", "169.254.1.1"),
            ("ip -n a link set eth0 down", "eth0 is down"),
            ("ip -n a link set eth0 address 02:00:00:00:00:77", "02:00:00:00:00:77"),
            ("ip -n a link del eth0", "eth0 is missing"),
            ("ip link set {host} down", "{host} is down"),
            ("ip link set {host} name gone", "{host} is missing"),
            ("ip route del {four}", "route to {four}/32"),
            ("ip -6 route del {six}", "route to {six}/128"),
            ("ip neigh replace {four} lladdr 02:00:00:00:00:77 dev {host} nud permanent", "neighbour {four}"),
        ]:
            with self.subTest(broken):
                four, six = (e["address"].split("/")[0] for e in net.add(a)["ips"])
                net.check(a)
                sh(*broken.format(host=host, four=four, six=six).split())
                self.fails(103, words.format(host=host, four=four, six=six), net.check, a)
                if "name gone" in broken:  # ADD cannot know whose eth0 is
                    self.fails(102, "eth0", net.add, a)
                else:
                    self.assertEqual([e["address"].split("/")[0] for e in net.add(a)["ips"]], [four, six])
                    self.assert_well(net, a)
                    sh(*broken.format(host=host, four=four, six=six).split())
                net.delete(a)
                self.assert_clean("a")

    def test_before_and_after(self):
        net = self.network()
        a = self.attachment("a")
        self.fails(7, "prevResult is missing", net.check, a)
        net.add(a)
        net.delete(a)
        self.assert_clean("a")
        self.fails(103, "eth0 is missing", net.check, a)

    def test_store(self):
        """What is deleted behind the plugin's back in the datastore."""
        net = self.network()
        a, b = self.attachment("a"), self.attachment("b")
        net.add(a)
        address = a.result["ips"][0]["address"].split("/")[0]
        plugin = {**net.conf["plugins"][0], "type": "margay-ipam"}
        net.run("DEL", plugin, net.derive(plugin, a), a.env())
        self.settle()
        self.fails(103, "no address is assigned", net.check, a)
        # with another's address it is not well, either
        net.add(b)
        b.result["ips"][0]["address"] = a.result["ips"][0]["address"]
        self.fails(103, f"address {address} is missing", net.check, b)
        net.delete(a)
        net.delete(b)
        self.assert_clean("a", "b")


class Chain(Case):
    """With Debian's plugins, 1.1.1. CHECK of its portmap looks for an address of IPv4 among the rules of IPv6, and
    that of its bandwidth ends in a signal where no rate is asked for: these are not asked."""

    def chain(self, version="1.0.0"):
        return self.network(
            self.plugin({"assign_ipv6": "true"}, capabilities={"mac": True, "portMappings": True}),
            {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}, "mtu": 1300},
            {"type": "bandwidth", "capabilities": {"bandwidth": True}},
            {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}},
            version=version)

    def capabilities(self):
        return {
            "mac": "02:00:00:00:00:33",
            "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
            "bandwidth": {"ingressRate": 8000000, "ingressBurst": 1000000, "egressRate": 8000000,
                          "egressBurst": 1000000},
        }

    def answer(self, name, port):
        """A server in a pod, which says its name."""
        code = (f"import socket\ns = socket.create_server(('', {port}))\nprint(flush=True)\n"
                f"while True:\n c = s.accept()[0]\n c.sendall(b'{name}')\n c.close()")
        server = subprocess.Popen(["ip", "netns", "exec", name, "python3", "-c", code], stdout=subprocess.PIPE)
        server.stdout.readline()
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)

    def ask(self, ns, host, port):
        code = f"import socket\nprint(socket.create_connection(('{host}', {port}), 5).recv(99).decode())"
        return sh("ip", "netns", "exec", ns, "python3", "-c", code).strip()

    def test_portmap_bandwidth_tuning(self):
        a, b = self.attachment("a", capabilities=self.capabilities()), self.attachment("b")
        for version in "0.3.1", "0.4.0", "1.0.0":
            with self.subTest(version):
                net = self.chain(version)
                result = net.add(a)
                self.network().add(b)
                self.assertEqual(result["interfaces"][1]["mac"], "02:00:00:00:00:33")
                inside = ip("link", "show", "eth0", ns="a")[0]
                self.assertEqual((inside["address"], inside["mtu"]), ("02:00:00:00:00:33", 1300))
                self.assertEqual(sh("ip", "netns", "exec", "a", "sysctl", "-n", "net.core.somaxconn"), "500\n")
                self.assertIn("tbf", sh("tc", "qdisc", "show", "dev", result["interfaces"][0]["name"]))
                self.reach(result["ips"][0]["address"].split("/")[0])
                if version == "0.3.1":
                    self.answer("a", 80)
                self.assertEqual(self.ask("b", "192.0.2.1", 8080), "a")
                (endpoint,) = [e for e in self.objects(V3 + "/workloadendpoints/").values()
                               if e["spec"]["pod"] == "a"]
                self.assertEqual([(p["port"], p["hostPort"]) for p in endpoint["spec"]["ports"]], [(80, 8080)])
                if version >= "0.4.0":
                    net.check(a, skip=["portmap"])
                net.delete(a)
                net.delete(a)
                self.network().delete(b)
                self.assert_clean("a", "b")

    def test_mac_of_tuning(self):
        """The pod is reached by it at once, and finds its gateway anew: by proxy ARP, for which the host has a route."""
        net = self.network(self.plugin({"assign_ipv6": "true"}), {"type": "tuning", "mac": "02:00:00:00:00:44"},
                           version="1.0.0")
        a = self.attachment("a")
        sh("ip", "route", "add", "default", "dev", "lo")
        try:
            result = net.add(a)
            self.assertEqual(result["interfaces"][1]["mac"], "02:00:00:00:00:44")
            self.assert_well(net, a)
            net.check(a)
        finally:
            sh("ip", "route", "del", "default", "dev", "lo")
        net.delete(a)
        self.assert_clean("a")

    def test_failure_in_the_middle(self):
        """A runtime deletes what failed: no plugin after ours has to have been there."""
        net = self.network(self.plugin(), {"type": "tuning", "sysctl": {"net.core.nonsense": "1"}}, version="1.0.0")
        a = self.attachment("a")
        with self.assertRaises(Failed):
            net.add(a)
        self.assertEqual(len(self.addresses()), 1)
        net.delete(a)
        self.assert_clean("a")

    def test_ipam_of_another(self):
        """Debian's bridge has its addresses of ours, between pods with endpoints; and nobody takes them for lost."""
        net = self.network({**self.plugin({"assign_ipv6": "true"}), "type": "bridge", "bridge": "cni0"}, version="1.0.0")
        a, beside = self.attachment("a"), [self.attachment(name) for name in "bc"]
        sh("ip", "link", "add", "cni0", "type", "bridge")
        self.addCleanup(sh, "ip", "link", "del", "cni0")
        self.before = self.look()
        self.network().add(beside[0])
        net.add(a)
        self.network().add(beside[1])
        self.assertEqual(list(self.addresses().values()).count("net.c-a"), 2)
        check = subprocess.run([BIN + "/margayctl", "ipam", "check", "--repair", "--quarantine", "0"],
                               env={**os.environ, **self.store.env}, capture_output=True, text=True)
        self.assertEqual("it to another plugin" in check.stdout, STORE != "kube", check.stdout + check.stderr)
        self.assertEqual(list(self.addresses().values()).count("net.c-a"), 2)
        net.check(a)
        net.delete(a)
        net.delete(a)
        for one in beside:
            self.network().delete(one)
        self.assertEqual(self.leftovers(), self.before["store"])

    def test_ipam_alone(self):
        """What the plugin of another would see of the IPAM plugin."""
        plugin = {**self.plugin({"assign_ipv6": "true"}), "type": "margay-ipam"}
        for version in VERSIONS:
            net = self.network(plugin, version=version)
            a = self.attachment("a", netns="/nowhere")
            result = net.run("ADD", plugin, net.derive(plugin, a), a.env())
            check_result(result, version, ipam=True)
            self.assertEqual(net.run("ADD", plugin, net.derive(plugin, a), a.env()), result)
            self.assertEqual(len(self.addresses()), 2)
            if version >= "0.4.0":
                a.result = result
                net.check(a)
            net.delete(a)
            net.delete(a)
            self.assert_clean()


class Errors(Case):
    def raw(self, env, stdin):
        argv = ["env", "-i", *(f"{k}={v}" for k, v in env.items()), BIN + "/margay"]
        p = subprocess.run(argv, stdin=stdin if not isinstance(stdin, str) else None, capture_output=True, text=True,
                           input=stdin if isinstance(stdin, str) else None)
        error = json.loads(p.stdout)
        self.assertNotEqual(p.returncode, 0)
        self.assertEqual({"cniVersion", "code", "msg"}, set(error) - {"details"})
        return error["code"], error["msg"]

    def test_environment(self):
        """4: the message has the names of the variables that are wrong."""
        conf = json.dumps({**self.plugin(), "cniVersion": "1.1.0", "name": "net"})
        well = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c", "CNI_NETNS": self.pod("a"), "CNI_IFNAME": "eth0"}
        for name, values in {
            "CNI_COMMAND": ["", "add", "NONSENSE"],
            "CNI_CONTAINERID": ["", "-c", "a/b", ".."],
            "CNI_NETNS": ["", "/run/netns/none"],
            "CNI_IFNAME": ["", ".", "..", "a/b", "a:b", "a b", "0123456789abcdef"],
            "CNI_ARGS": ["a", "a=b=c", "IP=nonsense", "MAC=1"],
        }.items():
            for value in values:
                with self.subTest(f"{name}={value}"):
                    code, msg = self.raw({**well, name: value}, conf)
                    self.assertEqual(code, 4, msg)
                    self.assertIn(name, msg)
        for verb, names in {"ADD": ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
                            "CHECK": ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
                            "DEL": ["CNI_CONTAINERID", "CNI_IFNAME"]}.items():
            for name in names:
                env = {k: v for k, v in well.items() if k != name} | {"CNI_COMMAND": verb}
                code, msg = self.raw(env, conf)
                self.assertEqual(code, 4, msg)
                self.assertIn(name, msg)
        self.assert_clean("a")

    def test_input(self):
        well = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c", "CNI_NETNS": self.pod("a"), "CNI_IFNAME": "eth0"}
        directory = os.open(self.dir, os.O_RDONLY)
        self.addCleanup(os.close, directory)
        self.assertEqual(self.raw(well, directory)[0], 5)
        for text in "", "{", "[]", "nonsense":
            self.assertEqual(self.raw(well, text)[0], 6, text)
        conf = {**self.plugin(), "cniVersion": "1.1.0", "name": "net"}
        for change in {"name": ""}, {"name": "a/b"}, {"name": None}, {"ipam": {}}, {"mtu": "1500"}, {"mtu": -1}:
            self.assertEqual(self.raw(well, json.dumps(conf | change))[0], 7, change)
        for version in "1.2.0", "2.0.0", "nonsense":
            self.assertEqual(self.raw(well, json.dumps(conf | {"cniVersion": version}))[0], 1)
        self.assert_clean("a")

    def test_namespace_of_the_host(self):
        """8, as the reference library has it."""
        net = self.network()
        a = self.attachment("a", netns="/proc/self/ns/net")
        self.fails(8, "CNI_NETNS", net.add, a)
        net.delete(a)
        self.assert_clean()

    @unittest.skipUnless(SERVE, "nobody serves")
    def test_another_than_the_server(self):
        """7: what is the server's is not chosen by the netconf."""
        a = self.attachment("a")
        for name, value in [*self.store.other.items(), ("nodename", "node-2")]:
            net = self.network(self.plugin(**{name: value}))
            self.fails(7, f"netconf: {name}: ", net.add, a)
            self.fails(7, f"netconf: {name}: ", net.delete, a)
        self.assert_clean("a")

    @unittest.skipIf(SERVE, "the server chooses its datastore, and has a reserve")
    def test_try_again(self):
        """11: the datastore is away, or the agent was not here yet. 50 says STATUS of it."""
        net = self.network(self.plugin(**self.store.away))
        a = self.attachment("a")
        self.fails(11, "", net.add, a)
        self.fails(50, "", net.status)
        plugin = self.plugin(nodename_file="/nowhere")
        del plugin["nodename"]
        self.fails(11, "/nowhere", self.network(plugin).add, a)
        self.fails(50, "/nowhere", self.network(plugin).status)
        self.assert_clean("a")

    def test_locked(self):
        net = self.network()
        a, b = self.attachment("a"), self.attachment("b")
        net.add(a)
        self.store.put(V3 + "/clusterinformations/default", {
            "kind": "ClusterInformation", "apiVersion": "projectcalico.org/v3", "metadata": {"name": "default"},
            "spec": {"datastoreReady": True}})
        sh(BIN + "/margayctl", "datastore", "lock", env=self.store.env)
        if self.journal:
            # as when it is away
            net.delete(a)
            net.add(b)
            time.sleep(0.5)
            self.assertEqual(len(self.waiting()), 2)
            self.assertEqual(list(self.assigned().values()).count("net.c-a"), 1)
        else:
            self.fails(11, "locked", net.add, b)
            self.fails(11, "locked", net.delete, a)
            self.fails(11, "locked", net.gc, [])
            self.fails(50, "locked", net.status)
        sh(BIN + "/margayctl", "datastore", "unlock", env=self.store.env)
        if self.journal:
            self.assert_well(net, b)
            net.delete(b)
        net.delete(a)
        self.assert_clean("a", "b")

    def test_ours(self):
        """From 100 on: no address, the kernel refuses, the network is not what ADD made (class Check)."""
        net = self.network(self.plugin({"ipv4_pools": ["none"]}))
        a = self.attachment("a")
        self.fails(101, "none", net.add, a)
        self.fails(50, "none", net.status)
        net.delete(a)
        net = self.network(self.plugin(capabilities={"ips": True}))
        a.capabilities = {"ips": ["10.9.9.9"]}
        self.fails(101, "10.9.9.9", net.add, a)
        a.capabilities = {}
        net.delete(a)
        sh("ip", "-n", "a", "link", "add", "eth0", "type", "bridge")
        self.fails(102, "eth0", net.add, a)
        net.delete(a)
        self.assertEqual(self.look(), self.before)
        self.assertIn("eth0", sh("ip", "-n", "a", "link"))

    def test_pool_full(self):
        self.apply("IPPool", "small", {"cidr": "10.244.9.0/30", "blockSize": 30})
        net = self.network(self.plugin({"ipv4_pools": ["small"]}))
        many = [self.attachment(f"p{i}") for i in range(5)]
        for a in many[:4]:
            net.add(a)
        self.fails(101, "", net.add, many[4])
        net.delete(many[4])
        net.delete(many[1])
        self.settle()  # its address is the pool's again
        net.add(many[4])
        for a in many:
            net.delete(a)
        self.assert_clean(*self.pods)


@unittest.skipIf(STORE == "kube", "kube.bats has that of Kubernetes")
class Calico(Case):
    """Calico's own configuration for etcd, in which a runtime finds `calico` and `calico-ipam`."""

    store_kind = "etcd"

    def test_conflist(self):
        os.makedirs(self.dir + "/bin")
        for name, ours in ("calico", "margay"), ("calico-ipam", "margay-ipam"):
            os.symlink(f"{BIN}/{ours}", f"{self.dir}/bin/{name}")
        os.makedirs("/var/lib/calico", exist_ok=True)
        with open("/var/lib/calico/nodename", "w") as f:
            f.write("node-1")
        with open("/var/lib/calico/mtu", "w") as f:
            f.write("1440")
        with open(os.path.dirname(os.path.abspath(__file__)) + "/calico.conflist") as f:
            text = f.read().replace("__ETCD_ENDPOINTS__", ETCD).replace("__CNI_MTU__", "0")
        for word in "KEY", "CERT", "CA_CERT":
            text = text.replace(f"__ETCD_{word}_FILE__", "")
        text = text.replace("__KUBECONFIG_FILEPATH__", "/etc/cni/net.d/calico-kubeconfig")
        conf = json.loads(text)
        del conf["plugins"][0]["policy"]  # there is no API server beside this etcd to ask for pods
        for version in "0.3.1", "1.0.0":
            net = self.network(*conf["plugins"], name=conf["name"], version=version, path=[self.dir + "/bin", PEERS])
            a = self.attachment("web-0", capabilities={
                "portMappings": [{"hostPort": 8081, "containerPort": 80, "protocol": "tcp"}]})
            first = net.add(a)
            self.assert_well(net, a)
            self.assertEqual(ip("link", "show", "eth0", ns="web-0")[0]["mtu"], 1440)
            self.assertEqual(list(self.addresses().values()), ["k8s-pod-network.c-web-0"])
            self.assertEqual(sorted(self.objects(V3 + "/workloadendpoints/")),
                             [V3 + "/workloadendpoints/ns/node--1-k8s-web--0-eth0"])
            self.assertEqual(first["interfaces"][0]["name"], "cali" + sh("sh", "-c", "printf ns.web-0 | sha1sum")[:11])
            if version == "1.0.0":
                net.check(a, skip=["portmap", "bandwidth"])
            net.delete(a)
            net.delete(a)
            self.assert_clean("web-0")


if __name__ == "__main__":
    unittest.main()
