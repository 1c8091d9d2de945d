# SPDX-License-Identifier: GPL-2.0-or-later
"""
A node for tests of the CNI plugins: this network and mount namespace, in which they are run, and a datastore,
whose contents are read by Calico's layout alone, without our programs.

BIN names the directory of the programs, STORE the datastore: sqlite, etcd or kube. Where CNI_SERVE is set, it is a
command that each node starts beside it and ends; but for sqlite verbs are then done by its journal first, and what is
read of the datastore here is what it has when nothing of that waits.
"""
import base64
import http.client
import json
import os
import shlex
import shutil
import signal
import sqlite3
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

from cni_runner import Attachment, Network

BIN = os.environ["BIN"]
STORE = os.environ.get("STORE", "sqlite")
HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = "/usr/lib/cni"
ETCD = "http://127.0.0.1:2379"
SERVE = shlex.split(os.environ.get("CNI_SERVE", ""))
RESERVE = "margay-reserve-node-1"
IPAM, V3 = "/calico/ipam/v2", "/calico/resources/v3/projectcalico.org"


def sh(*argv, stdin=None, env=None):
    p = subprocess.run(argv, input=stdin, capture_output=True, text=True, env={**os.environ, **(env or {})})
    if p.returncode != 0:
        raise AssertionError(f"{argv}: {p.stdout}{p.stderr}")
    return p.stdout


def ip(*argv, ns=None):
    """What `ip -j` says, without members that it leaves empty."""
    out = sh("ip", *(["-n", ns] if ns else []), "-d", "-j", *argv)
    return [e for e in json.loads(out or "[]") if e]


def eventually(what, seconds=10):
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


class Store:
    """away: netconf of one that is not there; other: that of another kind of datastore than a server's."""

    def make_pod(self, name, ports):
        """Before its ADD, where the pods are objects of the datastore, which there are their endpoints, too."""

    def delete_pod(self, name):
        """After its DEL."""


class Sqlite(Store):
    away = other = {"sqlite_path": "/proc/none/db"}

    def __init__(self, directory):
        self.path = directory + "/db"
        self.env = {"DATASTORE_TYPE": "sqlite", "MARGAY_SQLITE_PATH": self.path}
        self.netconf = {"datastore_type": "sqlite", "sqlite_path": self.path}

    def all(self):
        with sqlite3.connect(self.path) as db:
            return dict(db.execute("SELECT key, value FROM kv WHERE value IS NOT NULL"))

    def put(self, key, value):
        with sqlite3.connect(self.path) as db:
            db.execute("INSERT OR REPLACE INTO kv SELECT max(rev) + 1, ?, max(rev) + 1, ? FROM kv",
                       (key, json.dumps(value)))

    def close(self):
        pass


class Etcd(Store):
    away = {"etcd_endpoints": "http://127.0.0.1:1"}
    other = {"datastore_type": "kubernetes"}

    def __init__(self, directory):
        self.env = {"DATASTORE_TYPE": "etcdv3", "ETCD_ENDPOINTS": ETCD}
        self.netconf = {"datastore_type": "etcdv3", "etcd_endpoints": ETCD}
        self.log = open(directory + "/etcd.log", "w")
        self.server = subprocess.Popen(
            ["etcd", "--data-dir", directory + "/etcd", "--heartbeat-interval", "20", "--election-timeout", "200",
             "--unsafe-no-fsync"], stdout=self.log, stderr=self.log)
        eventually(self.is_up, 20)

    def ask(self, call, body):
        rq = urllib.request.Request(f"{ETCD}/v3/{call}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(rq) as answer:
            return json.load(answer)

    def is_up(self):
        try:
            return self.ask("maintenance/status", {})
        except OSError:
            return False

    def all(self):
        nul = base64.b64encode(b"\0").decode()
        kvs = self.ask("kv/range", {"key": nul, "range_end": nul}).get("kvs", [])
        return {base64.b64decode(e["key"]).decode(): base64.b64decode(e.get("value", "")).decode() for e in kvs}

    def put(self, key, value):
        self.ask("kv/put", {"key": base64.b64encode(key.encode()).decode(),
                            "value": base64.b64encode(json.dumps(value).encode()).decode()})

    def close(self):
        self.server.terminate()
        self.server.wait()
        self.log.close()


class Kube(Store):
    """An API server, which the tests of a file share, as it takes ten seconds to start; each leaves it empty."""

    away = {"kubernetes": {"k8s_api_root": "https://127.0.0.1:1"}}
    other = {"datastore_type": "etcdv3"}
    api, core = "/apis/crd.projectcalico.org/v1/", "/api/v1/namespaces/ns"
    servers = None  # the directory of theirs

    def __init__(self, _directory):
        kubeconfig = Kube.servers + "/kubeconfig"
        self.env = {"DATASTORE_TYPE": "kubernetes", "KUBECONFIG": kubeconfig}
        self.netconf = {"datastore_type": "kubernetes", "kubernetes": {"kubeconfig": kubeconfig}}
        self.lock = threading.Lock()
        self.connection = http.client.HTTPSConnection(
            "127.0.0.1", 6443, context=ssl.create_default_context(cafile=Kube.servers + "/pki/apiserver.crt"))

    @staticmethod
    def start():
        Kube.servers = tempfile.mkdtemp(prefix="kube-")
        unittest.addModuleCleanup(shutil.rmtree, Kube.servers)
        unittest.addModuleCleanup(Kube.stop)
        sh("bash", "-ec", """
            source "$0/servers.bash"
            etcd_start --unsafe-no-fsync
            api_prepare
            api_start --disable-admission-plugins=ServiceAccount
            crds_make
            node_make
            post /api/v1/namespaces '{"metadata":{"name":"ns"}}'
            kubeconfig https://127.0.0.1:6443 "$SERVERS/pki/apiserver.crt" '{token: secret-of-admin}'
            """, HERE, env={"SERVERS": Kube.servers, "APISERVER": sh(HERE + "/kube-apiserver").strip()})

    @staticmethod
    def stop():
        """They write to their directory until they are over."""
        sh("bash", "-ec", """
            source "$0/servers.bash"
            cd "$SERVERS"
            for pid in api.pid etcd.pid; do
                [ ! -f $pid ] || end "$(cat $pid)" -KILL
            done
            """, HERE, env={"SERVERS": Kube.servers})

    def exchange(self, *request):
        self.connection.request(*request, {
            "Authorization": "Bearer secret-of-admin", "Content-Type": "application/json"})
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def ask(self, method, path, body=None, also=()):
        """also: codes that are well besides success."""
        request = method, path, body and json.dumps(body)
        with self.lock:
            try:
                status, text = self.exchange(*request)
            except OSError:
                # the server ends a connection that is idle for 90 s
                self.connection.close()
                status, text = self.exchange(*request)
        if status // 100 != 2 and status not in also:
            raise AssertionError(f"{method} {path}: {status} {text}")
        return json.loads(text)

    def specs(self, plural):
        """Without those that are about to be deleted."""
        found = [e["spec"] for e in self.ask("GET", self.api + plural)["items"]]
        return [spec for spec in found if not spec.get("deleted")]

    def endpoints(self):
        """What Calico sees of the Pods that have addresses."""
        for pod in self.ask("GET", self.core + "/pods")["items"]:
            name, given = pod["metadata"]["name"], pod["metadata"].get("annotations", {})
            addresses = given.get("cni.projectcalico.org/podIPs")
            if addresses:
                ports = [{"port": p["containerPort"], "hostPort": p["hostPort"]}
                         for p in pod["spec"]["containers"][0].get("ports", [])]
                yield name, {"pod": name, "containerID": given["cni.projectcalico.org/containerID"],
                             "ipNetworks": addresses.split(","), "ports": ports}

    def all(self):
        kvs = {}
        for spec in self.specs("ipamblocks"):
            family = 6 if ":" in spec["cidr"] else 4
            kvs[f"{IPAM}/assignment/ipv{family}/block/{spec['cidr'].replace('/', '-')}"] = spec
        for spec in self.specs("ipamhandles"):
            kvs[f"{IPAM}/handle/{spec['handleID']}"] = spec
        for name, spec in self.endpoints():
            kvs[f"{V3}/workloadendpoints/ns/node--1-k8s-{name.replace('-', '--')}-eth0"] = {"spec": spec}
        return {key: json.dumps(value) for key, value in kvs.items()}

    def put(self, key, value):
        """One that is new."""
        self.ask("POST", self.api + key.split("/")[-2], {**value, "apiVersion": "crd.projectcalico.org/v1"})

    def make_pod(self, name, ports):
        container = {"name": "c", "image": "i", "ports": [{**p, "protocol": p["protocol"].upper()} for p in ports]}
        self.ask("POST", self.core + "/pods", also=[http.client.CONFLICT], body={
            "metadata": {"name": name}, "spec": {"nodeName": "node-1", "containers": [container]}})

    def delete_pod(self, name):
        self.ask("DELETE", f"{self.core}/pods/{name}?gracePeriodSeconds=0")

    def close(self):
        self.ask("DELETE", self.core + "/pods?gracePeriodSeconds=0")
        for plural in "ippools", "blockaffinities", "ipamblocks", "ipamhandles", "ipamconfigs", "clusterinformations":
            self.ask("DELETE", self.api + plural)
        self.connection.close()


def host_setup():
    """Once for a file: what a node's interfaces and sysctls are like, and what its tests share."""
    sh("ip", "link", "set", "lo", "up")
    sh("ip", "address", "replace", "192.0.2.1/32", "dev", "lo")
    for name in "ipv4/ip_forward", "ipv6/conf/all/forwarding":
        with open("/proc/sys/net/" + name, "w") as f:
            f.write("1")
    if STORE == "kube":
        Kube.start()


class Node(unittest.TestCase):
    """A new datastore with a pool of IPv4, and one of IPv6; pods are made and removed by name."""

    store_kind = STORE
    n_reserve = 8  # of each family
    pools = {"four": {"cidr": "10.244.0.0/24", "blockSize": 26},
             "six": {"cidr": "fd00:10::/64", "blockSize": 122}}

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="cni-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.store = {"sqlite": Sqlite, "etcd": Etcd, "kube": Kube}[self.store_kind](self.dir)
        self.addCleanup(self.store.close)
        for name, spec in self.pools.items():
            self.apply("IPPool", name, spec)
        self.pods = []
        self.server = None
        self.old_socket = None
        self.journal = None
        self.addCleanup(self.remove_pods)
        if SERVE:
            self.make_served()
            self.serve()
        self.before = self.look()

    # ---- a server ----

    def make_served(self):
        """The node is in the datastore, and the server's files are of this test."""
        self.apply("Node", "node-1", {})
        os.environ["MARGAY_RUN_DIR"] = self.dir + "/run"
        os.environ["MARGAY_CNI_STATE_DIR"] = self.dir + "/state"
        if self.store_kind != "sqlite":
            self.journal = self.dir + "/state/journal"
        self.addCleanup(self.unserve)

    def socket(self):
        """Whose name it is: the server's that listens, or one's that was killed."""
        try:
            st = os.stat(self.dir + "/run/cni.sock")
        except FileNotFoundError:
            return None
        return st.st_ino, st.st_ctime_ns

    def start_server(self, *tracer):
        self.old_socket = self.socket()
        with open(self.dir + "/serve.log", "a") as log:
            self.server = subprocess.Popen([*tracer, *SERVE], stderr=log, env={
                **os.environ, **self.store.env, "NODENAME": "node-1", "MARGAY_CNI_RESERVE": str(self.n_reserve)})

    def await_served(self):
        """It answers, and has its reserve."""
        eventually(lambda: self.socket() not in (None, self.old_socket))
        if self.journal:
            eventually(lambda: self.reserved() >= self.n_reserve * len(self.pools), 30)

    def serve(self):
        self.start_server()
        self.await_served()

    def unserve(self, sig=signal.SIGTERM):
        """Ends it; what it said that a sanitizer says is a failure."""
        if not self.server:
            return
        self.server.send_signal(sig)
        self.server.wait()
        self.server = None
        with open(self.dir + "/serve.log") as log:
            said = log.read()
        self.assertNotRegex(said, "Sanitizer|runtime error")

    def waiting(self):
        """Operations that wait for the datastore: of lines "CHECKSUM JSON", the last of which may not be whole."""
        waits = {}
        if self.journal and os.path.exists(self.journal):
            with open(self.journal) as f:
                records = [json.loads(line.split(" ", 1)[1]) for line in f.read().split("\n")[:-1]]
            for r in records:
                if r["do"] == "done":
                    waits.pop(r["n"], None)
                elif r["do"].endswith(("take", "give-back")) and not r.get("done"):
                    waits[r["n"]] = r
        return list(waits.values())

    def settle(self, seconds=20):
        eventually(lambda: not self.waiting(), seconds)

    def reserved(self):
        """How many addresses of all families the node holds ahead."""
        return list(self.assigned().values()).count(RESERVE)

    def apply(self, kind, name, spec):
        sh(BIN + "/margayctl", "apply", "-f", "-", env=self.store.env, stdin=json.dumps(
            {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name}, "spec": spec}))

    # ---- pods ----

    def pod(self, name):
        sh("ip", "netns", "add", name)
        self.pods.append(name)
        sh("ip", "-n", name, "link", "set", "lo", "up")
        return "/run/netns/" + name

    def remove_pods(self):
        for name in self.pods:
            if os.path.exists("/run/netns/" + name):
                sh("ip", "netns", "del", name)
        self.pods = []
        for link in ip("link", "show", "type", "veth"):
            # a server may be deleting it
            subprocess.run(["ip", "link", "del", link["ifname"]], stderr=subprocess.DEVNULL)

    def attachment(self, name, ifname="eth0", netns=None, **more):
        if netns is None:
            netns = "/run/netns/" + name if name in self.pods else self.pod(name)
        if "args" not in more:
            self.store.make_pod(name, more.get("capabilities", {}).get("portMappings", []))
        more.setdefault("args", f"IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME={name};"
                        f"K8S_POD_INFRA_CONTAINER_ID=c-{name}")
        return Attachment("c-" + name, netns, ifname, **more)

    def plugin(self, ipam=None, **more):
        return {"type": "margay", "nodename": "node-1", **self.store.netconf,
                "ipam": {"type": "margay-ipam", **(ipam or {})}, **more}

    def network(self, *plugins, version="1.1.0", name="net", wrap=None, path=(BIN, PEERS)):
        return Network({"cniVersion": version, "name": name, "plugins": list(plugins) or [self.plugin()]},
                       list(path), wrap)

    def reach(self, address, ns=None, source=None):
        sh(*(["ip", "netns", "exec", ns] if ns else []), "ping", "-q", "-c2", "-i0.2", "-W3",
           *(["-I", source] if source else []), address)

    # ---- what is there ----

    def objects(self, prefix):
        return {k: json.loads(v) for k, v in self.store.all().items() if k.startswith(prefix)}

    def assigned(self):
        """{ordinal's place in its block: handle} of every address in use; the block's own lists agree with it."""
        used = {}
        for key, block in self.objects(IPAM + "/assignment/").items():
            free = set(block["unallocated"])
            for ordinal, attribute in enumerate(block["allocations"]):
                self.assertEqual(attribute is None, ordinal in free, (key, block))
                if attribute is not None:
                    used[block["cidr"], ordinal] = block["attributes"][attribute]["handle_id"]
        return used

    def addresses(self):
        """Those that the node does not only hold ahead, when nothing waits."""
        self.settle()
        return {place: handle for place, handle in self.assigned().items() if handle != RESERVE}

    def leftovers(self):
        return {
            "addresses": self.addresses(),
            "handles": sorted(k for k in self.objects(IPAM + "/handle/") if not k.endswith(RESERVE)),
            "endpoints": sorted(self.objects(V3 + "/workloadendpoints/")),
        }

    def look(self):
        """Everything of this node that a verb may have changed."""
        host = {
            "links": sorted(link["ifname"] for link in ip("link")),
            "routes": sh("ip", "route", "show", "table", "all") + sh("ip", "-6", "route", "show", "table", "all"),
            "rules": sh("ip", "rule") + sh("ip", "-6", "rule"),
            "neighbours": sh("ip", "neigh", "show", "nud", "all"),
            # portmap's own chains stay
            "nat": [r for r in sh("iptables", "-w", "-t", "nat", "-S").splitlines() if "10.244." in r],
            "store": self.leftovers(),
        }
        return host

    def look_inside(self, name):
        return {
            "links": sorted(link["ifname"] for link in ip("link", ns=name)),
            "addresses": sh("ip", "-n", name, "-br", "address"),
            "routes": sh("ip", "-n", name, "route", "show", "table", "all"),
            "rules": sh("ip", "-n", name, "rule") + sh("ip", "-n", name, "-6", "rule"),
        }

    def assert_clean(self, *empty):
        """As before the first verb; a link may go within moments. empty: pods in which nothing may be left."""
        end = time.monotonic() + 10
        while self.look() != self.before and time.monotonic() < end:
            time.sleep(0.02)
        self.maxDiff = None
        self.assertEqual(self.look(), self.before)
        for name in empty:
            inside = self.look_inside(name)
            self.assertEqual(inside["links"], ["lo"], name)
            self.assertNotIn("10.244.", str(inside))
            self.assertNotIn("lookup 1", inside["rules"])

    def assert_well(self, network, attachment):
        """The attachment is as its result says, by what the kernel and the datastore have."""
        ns = os.path.basename(attachment.netns)
        result = attachment.result
        host, pod = result["interfaces"][:2]
        self.assertEqual((pod["name"], pod["sandbox"]), (attachment.ifname, attachment.netns))
        self.assertNotIn("sandbox", host)
        inside = ip("address", "show", "dev", attachment.ifname, ns=ns)[0]
        self.assertEqual(inside["address"], pod["mac"])
        self.assertEqual(ip("link", "show", "dev", host["name"])[0]["address"], host["mac"])
        have = sorted(f"{a['local']}/{a['prefixlen']}" for a in inside["addr_info"] if a["scope"] == "global")
        self.assertEqual(have, sorted(e["address"] for e in result["ips"]))
        for e in result["ips"]:
            self.assertEqual(e["interface"], 1)
            self.reach(e["address"].split("/")[0])
        self.settle()
        handles = self.objects(IPAM + "/handle/")
        name = f"{network.conf['name']}.{attachment.container_id}"
        if attachment.ifname != "eth0":
            name += ":" + attachment.ifname
        count = sum(handles[f"{IPAM}/handle/{name}"]["block"].values())
        self.assertEqual(count, len(result["ips"]), handles)
        self.assertEqual(list(self.addresses().values()).count(name), len(result["ips"]))
