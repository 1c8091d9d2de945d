#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads what address management has stored, and says what breaks Calico's data model.

    ipam_read.py sqlite FILE
    ipam_read.py etcd URL
    ipam_read.py kube URL CA TOKEN [crd.projectcalico.org/v1 | projectcalico.org/v3]

Written from the data model alone: it shares no code and no knowledge with the allocator. Each violation is
a line; exit status 1: there are some, 2: the datastore cannot be read. What a writer that dies half-way may
leave by the model is none: a handle that counts too many, an affinity that is not confirmed, an empty block of
such a one that overlaps another, and an object of Kubernetes that is marked as deleted. REMADE in the environment:
pools may have had another blockSize.
"""
import base64
import hashlib
import ipaddress
import json
import os
import re
import sqlite3
import ssl
import sys
import time
import urllib.request
from datetime import datetime

IPAM = "/calico/ipam/v2/"
V3 = "/calico/resources/v3/projectcalico.org/"
BLOCK = [
    "cidr", "affinity", "affinity_claim_time", "allocations", "unallocated", "attributes",
    "sequenceNumber", "sequenceNumberForAllocation", "deleted",
]
ATTRIBUTE = ["handle_id", "secondary", "alternateOwnerAttrs", "releasedAt"]
CONFIG = [
    "strict_affinity", "auto_allocate_blocks", "maxBlocksPerHost", "kubeVirtVMAddressPersistence",
    "ipCooldownSeconds",
]
CONFIG_OF_CR = {"strictAffinity": "strict_affinity", "autoAllocateBlocks": "auto_allocate_blocks"}
STATES = ("confirmed", "pending", "pendingDeletion")
LABEL = "projectcalico.org/"
NAME_MAX = 253


class Broken(Exception):
    """An object is not what the model says, so that no more can be said of it."""


def want(condition, text):
    if not condition:
        raise Broken(text)


def unique(pairs):
    names = [name for name, _ in pairs]
    want(len(names) == len(set(names)), "a member stands twice")
    return dict(pairs)


def parse(text):
    try:
        value = json.loads(text, object_pairs_hook=unique)
    except ValueError as e:
        raise Broken(f"no JSON: {e}") from e
    want(isinstance(value, dict), "no object")
    return value


def go_json(value):
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for c in "<>&\u2028\u2029":
        text = text.replace(c, f"\\u{ord(c):04x}")
    return text


def is_int(value, low=0, high=2**64 - 1):
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def want_members(value, order, required, what):
    want(isinstance(value, dict), f"{what} is no object")
    unknown = [name for name in value if name not in order]
    want(not unknown, f"{what} has members that the model does not know: {unknown}")
    for name in required:
        want(name in value, f"{what} has no {name}")


def want_order(value, order, what):
    names = list(value)
    want(names == [name for name in order if name in value], f"{what} has its members in the order {names}")


def network(text, what):
    want(isinstance(text, str), f"{what} is no text")
    try:
        n = ipaddress.ip_network(text)
    except ValueError as e:
        raise Broken(f"{what}: {e}") from e
    want(str(n) == text, f"{what} {text} is not written as {n}")
    return n


def moment(text, what):
    want(isinstance(text, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", text),
         f"{what} is no time in UTC: {text}")
    return datetime.fromisoformat(re.sub(r"(\.\d+)?Z", "+00:00", text)).timestamp()


def texts(value):
    return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())


class Datastore:
    """What was read, by kind, and the violations."""

    def __init__(self, now=None):
        self.now = time.time() if now is None else now
        self.blocks, self.affinities, self.handles, self.pools = {}, {}, {}, {}
        self.endpoints = []  # (owner, address)
        self.config = {}
        self.violations = []

    def wrong(self, what, text):
        self.violations.append(f"{what}: {text}")

    def guarded(self, what, add, *args):
        try:
            add(what, *args)
        except Broken as e:
            self.wrong(what, e)

    # ---- one object each ----

    def add_block(self, what, b, of_cr=False):
        claim_time = "affinityClaimTime" if of_cr else "affinity_claim_time"
        order = [claim_time if name == "affinity_claim_time" else name for name in BLOCK]
        want_members(b, order, [n for n in order if n != claim_time and (n != "affinity" or not of_cr)], "the block")
        if not of_cr:
            want_order(b, order, "the block")
        cidr = network(b["cidr"], "cidr")
        low = 20 if cidr.version == 4 else 116
        want(cidr.prefixlen >= low, f"blocks are no larger than /{low}")
        size = cidr.num_addresses
        affinity = b.get("affinity")
        want(affinity is None or (isinstance(affinity, str) and re.fullmatch(r"(host|virtual):.+", affinity)),
             f"affinity {affinity!r}")
        want((claim_time in b) == (affinity is not None), f"affinity {affinity} and {claim_time} do not go together")
        if claim_time in b:
            moment(b[claim_time], claim_time)
            want("." not in b[claim_time], f"{claim_time} has parts of a second")
        want(b["deleted"] is False, f"deleted is {b['deleted']!r}")

        alloc, free, attrs = b["allocations"], b["unallocated"], b["attributes"]
        want(isinstance(alloc, list) and len(alloc) == size, f"allocations are not {size}")
        want(attrs is None and not of_cr or isinstance(attrs, list), "attributes are no list")
        attrs = attrs or []
        used = {i: a for i, a in enumerate(alloc) if a is not None}
        for i, a in used.items():
            want(is_int(a, 0, len(attrs) - 1), f"ordinal {i} has attribute {a!r} of {len(attrs)}")
        want(set(used.values()) == set(range(len(attrs))), "an attribute is nobody's")
        want(isinstance(free, list) and all(is_int(i, 0, size - 1) for i in free), "an ordinal in unallocated is not of this block")
        want(len(free) == len(set(free)), "an ordinal stands twice in unallocated")
        want(not set(free) & set(used), f"ordinals {sorted(set(free) & set(used))} are allocated and unallocated")
        want(len(free) + len(used) == size, f"{len(free)} unallocated and {len(used)} allocated make no {size}")
        for a in attrs:
            self.check_attribute(a, of_cr)
        plain = [json.dumps(a, sort_keys=True) for a in attrs]
        want(len(plain) == len(set(plain)), "an attribute stands twice")

        seq, seqs = b["sequenceNumber"], b["sequenceNumberForAllocation"]
        want(is_int(seq), f"sequenceNumber {seq!r}")
        want(isinstance(seqs, dict), "sequenceNumberForAllocation is no object")
        want(of_cr or list(seqs) == sorted(seqs), "sequenceNumberForAllocation is not sorted as texts")
        want(set(seqs) == {str(i) for i in used}, "sequenceNumberForAllocation is not of the ordinals that are allocated")
        for i, n in seqs.items():
            want(is_int(n) and n < seq, f"ordinal {i} has sequence number {n}, the block {seq}")
        want(cidr not in self.blocks, "a second block of this CIDR")
        self.blocks[cidr] = (what, affinity, {i: attrs[a] for i, a in used.items()})

    def check_attribute(self, a, of_cr):
        want_members(a, ATTRIBUTE, [], "an attribute")
        if not of_cr:
            want_order(a, ATTRIBUTE, "an attribute")
        if "releasedAt" in a:
            want(list(a) == ["releasedAt"], f"an address in cool-down has an owner: {a}")
            want(moment(a["releasedAt"], "releasedAt") <= self.now, f"releasedAt {a['releasedAt']} is yet to come")
            return
        want(isinstance(a.get("handle_id"), str) and a["handle_id"], f"an attribute has no handle_id: {a}")
        for name in ("secondary", "alternateOwnerAttrs"):
            want(name not in a or (texts(a[name]) and a[name]), f"{name} is {a.get(name)!r}")
            want(name not in a or of_cr or list(a[name]) == sorted(a[name]), f"{name} is not sorted")

    def add_affinity(self, what, kind, host, cidr, state):
        want(kind in ("host", "virtual"), f"type {kind!r}")
        want(isinstance(host, str) and host, "no host")
        want(state in STATES, f"state {state!r}")
        want((kind, host, cidr) not in self.affinities, "a second affinity of the two")
        self.affinities[kind, host, cidr] = (what, state)

    def add_handle(self, what, name, blocks):
        want(isinstance(name, str) and name, "no handleID")
        want(isinstance(blocks, dict) and blocks, "a handle without blocks")
        counts = {}
        for cidr, n in blocks.items():
            want(is_int(n, 1), f"block {cidr} counts {n!r}")
            counts[network(cidr, "block")] = n
        want(name not in self.handles, "a second handle of this name")
        self.handles[name] = (what, counts)

    def add_pool(self, what, spec):
        want(isinstance(spec, dict), "no spec")
        cidr = network(spec.get("cidr"), "cidr")
        low, default, high = (20, 26, 32) if cidr.version == 4 else (116, 122, 128)
        size = spec.get("blockSize", default)
        want(is_int(size, low, high), f"blockSize {size!r}")
        want(spec.get("disabled") or cidr.prefixlen <= size, f"no block of /{size} fits {cidr}")
        want(spec.get("assignmentMode", "Automatic") in ("Automatic", "Manual"), "assignmentMode")
        uses = spec.get("allowedUses", [])
        want(set(uses) <= {"Workload", "Tunnel", "LoadBalancer"}, f"allowedUses {uses}")
        for other, _ in self.pools.values():
            want(not cidr.overlaps(other), f"{cidr} overlaps {other}")
        self.pools[what] = (cidr, size)

    def add_config(self, _what, c):
        want_members(c, CONFIG, [], "the configuration")
        for name in ("strict_affinity", "auto_allocate_blocks"):
            want(isinstance(c.get(name, False), bool), f"{name} is {c.get(name)!r}")
        want(is_int(c.get("maxBlocksPerHost", 0)), "maxBlocksPerHost")
        want(is_int(c.get("ipCooldownSeconds", 0), 0, 1200), "ipCooldownSeconds")
        want(c.get("kubeVirtVMAddressPersistence", "Enabled") in ("Enabled", "Disabled"), "kubeVirtVMAddressPersistence")
        want(c.get("strict_affinity") or c.get("auto_allocate_blocks"), "neither strict nor with new blocks")
        want(c.get("strict_affinity") or not c.get("maxBlocksPerHost"), "maxBlocksPerHost is for strict affinity")
        self.config = c

    def add_endpoint(self, what, addresses):
        for text in addresses:
            n = network(text, "an address")
            want(n.prefixlen == n.max_prefixlen, f"{text} is no single address")
            self.endpoints.append((what, n.network_address))

    # ---- the two forms ----

    def add_kv(self, key, text):
        """An object of etcd's or SQLite's."""
        for pattern, add in (
            (re.escape(IPAM) + r"assignment/ipv([46])/block/([^/]+)", self.kv_block),
            (re.escape(IPAM) + r"(host|virtual)/([^/]+)/ipv([46])/block/([^/]+)", self.kv_affinity),
            (re.escape(IPAM) + r"handle/([^/]+)", self.kv_handle),
            (re.escape(IPAM) + r"config", self.kv_config),
            (re.escape(V3) + r"ippools/([^/]+)", self.kv_pool),
            (re.escape(V3) + r"workloadendpoints/([^/]+)/([^/]+)", self.kv_endpoint),
        ):
            m = re.fullmatch(pattern, key)
            if m:
                self.guarded(key, add, text, *m.groups())
                return
        if key.startswith(IPAM):
            self.wrong(key, "no key of the model")

    @staticmethod
    def canonical(text):
        value = parse(text)
        want(go_json(value) == text, f"not written as Go writes it: {text}")
        return value

    @staticmethod
    def in_key(family, text):
        n = network("/".join(text.rsplit("-", 1)), "the key's CIDR")
        want(n.version == int(family), f"{n} under ipv{family}")
        return n

    def kv_block(self, what, text, family, cidr):
        b = self.canonical(text)
        want(str(self.in_key(family, cidr)) == b.get("cidr"), f"the block is of {b.get('cidr')}")
        self.add_block(what, b)

    def kv_affinity(self, what, text, kind, host, family, cidr):
        a = self.canonical(text)
        want_members(a, ["state", "deleted"], ["state", "deleted"], "the affinity")
        want_order(a, ["state", "deleted"], "the affinity")
        want(a["deleted"] is False, f"deleted is {a['deleted']!r}")
        self.add_affinity(what, kind, host, self.in_key(family, cidr), a["state"])

    def kv_handle(self, what, text, name):
        h = self.canonical(text)
        want_members(h, ["block", "deleted"], ["block", "deleted"], "the handle")
        want_order(h, ["block", "deleted"], "the handle")
        want(h["deleted"] is False, f"deleted is {h['deleted']!r}")
        want(isinstance(h["block"], dict) and list(h["block"]) == sorted(h["block"]), "the blocks are not sorted")
        self.add_handle(what, name, h["block"])

    def kv_config(self, what, text):
        c = self.canonical(text)
        want_order(c, CONFIG, "the configuration")
        want(all(c.values()), "a member that is zero is left out")
        self.add_config(what, c)

    @staticmethod
    def resource(text, kind, name):
        r = parse(text)
        want(r.get("kind") == kind and r.get("apiVersion") == LABEL + "v3", f"no {kind}")
        meta = r.get("metadata")
        want(isinstance(meta, dict) and meta.get("name") == name, "another name than in its key")
        want(isinstance(r.get("spec"), dict), "no spec")
        return r

    def kv_pool(self, what, text, name):
        self.add_pool(what, self.resource(text, "IPPool", name)["spec"])

    def kv_endpoint(self, what, text, namespace, name):
        r = self.resource(text, "WorkloadEndpoint", name)
        want(r["metadata"].get("namespace") == namespace, "another namespace than in its key")
        self.add_endpoint(what, r["spec"].get("ipNetworks") or [])

    def add_cr(self, cr, v3):
        """An object of Kubernetes'."""
        kind, meta = cr.get("kind"), cr.get("metadata", {})
        what = f"{kind} {meta.get('name')}"
        add = {
            "IPAMBlock": self.cr_block, "BlockAffinity": self.cr_affinity, "IPAMHandle": self.cr_handle,
            "IPAMConfig": self.cr_config, "IPAMConfiguration": self.cr_config, "IPPool": self.cr_pool,
            "Pod": self.cr_pod,
        }.get(kind)
        if add:
            self.guarded(what, add, meta, cr.get("spec") or {}, v3)

    @staticmethod
    def want_annotation(meta, v3, value):
        text = meta.get("annotations", {}).get(LABEL + "metadata")
        want((text is None) if v3 else (text is not None and parse(text) == value), f"annotation {LABEL}metadata: {text}")

    def cr_block(self, what, meta, spec, v3):
        spec = dict(spec)
        if spec.get("deleted") is True:
            return
        self.want_annotation(meta, v3, {})
        want(meta.get("name") == re.sub(r"[.:/]", "-", str(spec.get("cidr"))), "another name than its CIDR's")
        if not v3:
            want(spec.pop("strictAffinity", None) is False, "strictAffinity is to be false")
        self.add_block(what, spec, of_cr=True)

    def cr_affinity(self, what, meta, spec, v3):
        want_members(spec, ["state", "node", "type", "cidr", "deleted"], ["state", "node", "cidr", "deleted"], "the affinity")
        no, yes = (False, True) if v3 else ("false", "true")
        if spec["deleted"] is yes or spec["deleted"] == yes and not v3:
            return
        want(type(spec["deleted"]) is type(no) and spec["deleted"] == no, f"deleted is {spec['deleted']!r}")
        cidr, host, kind = network(spec["cidr"], "cidr"), spec["node"], spec.get("type", "host")
        labels = {
            LABEL + "affinity-type": kind,
            LABEL + "hostname-hash": base64.b32encode(hashlib.sha3_256(host.encode()).digest()).decode().rstrip("="),
            LABEL + "ip-version": str(cidr.version),
        }
        have = {k: v for k, v in meta.get("labels", {}).items() if k in labels}
        want(have == labels, f"labels {have} and not {labels}")
        self.want_annotation(meta, v3, {"labels": labels})
        tail = re.sub(r"[.:/]", "-", spec["cidr"])
        name = f"{host}-{tail}"
        if len(name) >= NAME_MAX:
            digest = hashlib.sha256(f"{host}+{tail}".encode()).hexdigest()[:11]
            name = f"{host[:NAME_MAX - 1 - len(tail) - 13]}-{tail}-{digest}"
        want(meta.get("name") == name, f"the name is to be {name}")
        self.add_affinity(what, kind, host, cidr, spec["state"])

    def cr_handle(self, what, meta, spec, v3):
        want_members(spec, ["handleID", "block", "deleted"], ["handleID", "block"], "the handle")
        if spec.get("deleted") is True:
            return
        self.want_annotation(meta, v3, {})
        handle = str(spec["handleID"])
        name = handle.lower()
        label = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
        if not re.fullmatch(rf"{label}(\.{label})*", name):
            digest = hashlib.sha256(handle.encode()).hexdigest()[:11]
            name = f"h-{re.sub('[^a-z0-9]', '-', name)[:NAME_MAX - 14]}-{digest}"
        want(meta.get("name") == name, f"the name is to be {name}")
        self.add_handle(what, spec["handleID"], spec["block"])

    def cr_config(self, what, meta, spec, _v3):
        want(meta.get("name") == "default", "its name is not default")
        want("strictAffinity" in spec and "autoAllocateBlocks" in spec, "a member is missing that is always written")
        self.add_config(what, {CONFIG_OF_CR.get(k, k): v for k, v in spec.items()})

    def cr_pool(self, what, _meta, spec, _v3):
        self.add_pool(what, spec)

    def cr_pod(self, what, meta, _spec, _v3):
        ips = meta.get("annotations", {}).get("cni.projectcalico.org/podIPs", "")
        self.add_endpoint(f"{what} of {meta.get('namespace')}", [ip for ip in ips.split(",") if ip])

    # ---- what holds between them ----

    def check(self):
        self.check_blocks()
        self.check_affinities()
        self.check_handles()
        self.check_endpoints()
        return self.violations

    def is_half_made(self, cidr):
        """Nobody is given anything of it before its affinity is confirmed."""
        _, affinity, used = self.blocks[cidr]
        state = self.affinities.get((*affinity.split(":", 1), cidr), ("", ""))[1] if affinity else ""
        return not used and state in ("pending", "pendingDeletion")

    def check_blocks(self):
        for version in (4, 6):
            outer = []
            for cidr in sorted(c for c in self.blocks if c.version == version):
                outer = [o for o in outer if cidr.overlaps(o)]
                for other in outer:
                    if not self.is_half_made(cidr) and not self.is_half_made(other):
                        self.wrong(self.blocks[cidr][0], f"{cidr} overlaps the block {other}")
                outer.append(cidr)
        for cidr, (what, affinity, _) in self.blocks.items():
            for pool, size in self.pools.values():
                if pool.version != cidr.version or not pool.overlaps(cidr):
                    continue
                if size != cidr.prefixlen and "REMADE" not in os.environ or not cidr.subnet_of(pool):
                    self.wrong(what, f"the pool {pool} has blocks of /{size}")
            if affinity is not None and (*affinity.split(":", 1), cidr) not in self.affinities:
                self.wrong(what, f"there is no affinity of {affinity}")

    def check_affinities(self):
        for (kind, host, cidr), (what, state) in self.affinities.items():
            if state != "confirmed":
                continue
            if cidr not in self.blocks:
                self.wrong(what, "confirmed, and there is no block")
            elif self.blocks[cidr][1] != f"{kind}:{host}":
                self.wrong(what, f"confirmed, and the block is of {self.blocks[cidr][1]}")

    def allocated(self):
        """Each handle's address, by handle and block."""
        ret = {}
        for cidr, (_, _, used) in self.blocks.items():
            for i, a in used.items():
                if "handle_id" in a:
                    ret.setdefault((a["handle_id"].split("\r")[0], cidr), []).append(cidr[i])
        return ret

    def check_handles(self):
        names = {name.split("\r")[0]: counts for name, (_, counts) in self.handles.items()}
        for (name, cidr), ips in self.allocated().items():
            what = f"handle {name}"
            if name == "windows-reserved-ipam-handle":
                continue
            if name not in names:
                self.wrong(what, f"{ips[0]} has it, and it does not exist")
            elif names[name].get(cidr, 0) < len(ips):
                self.wrong(what, f"counts {names[name].get(cidr, 0)} of {cidr}, which has {len(ips)}")

    def check_endpoints(self):
        owners, used = {}, {ip for ips in self.allocated().values() for ip in ips}
        for what, ip in self.endpoints:
            if ip in owners:
                self.wrong(what, f"{ip} is of {owners[ip]}, too")
            owners[ip] = what
            if ip not in used and any(ip in pool for pool, _ in self.pools.values()):
                self.wrong(what, f"{ip} is not allocated")


# ---- datastores ----

def read_sqlite(ds, path):
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    for key, value in db.execute("SELECT key, value FROM kv WHERE value IS NOT NULL ORDER BY key"):
        ds.add_kv(key, value)
    db.close()


def read_etcd(ds, url):
    body = json.dumps({
        "key": base64.b64encode(b"/calico/").decode(), "range_end": base64.b64encode(b"/calico0").decode(),
    }).encode()
    with urllib.request.urlopen(f"{url}/v3/kv/range", body, 30) as answer:
        for kv in json.load(answer).get("kvs", []):
            ds.add_kv(base64.b64decode(kv["key"]).decode(), base64.b64decode(kv.get("value", "")).decode())


def read_kube(ds, url, ca, token, group="crd.projectcalico.org/v1"):
    v3 = group == LABEL + "v3"
    context = ssl.create_default_context(cafile=ca)

    def items(path):
        request = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            return json.load(answer)
    for plural in ("ipamblocks", "blockaffinities", "ipamhandles", "ippools",
                   "ipamconfigurations" if v3 else "ipamconfigs"):
        for cr in items(f"/apis/{group}/{plural}")["items"]:
            ds.add_cr(cr, v3)
    for pod in items("/api/v1/pods")["items"]:
        if not pod["metadata"].get("deletionTimestamp"):
            ds.add_cr({**pod, "kind": "Pod"}, v3)


def main(argv):
    readers = {"sqlite": (read_sqlite, 1, 1), "etcd": (read_etcd, 1, 1), "kube": (read_kube, 3, 4)}
    reader, low, high = readers.get(argv[0] if argv else "", (None, 0, 0))
    if not reader or not low <= len(argv) - 1 <= high:
        print(__doc__, file=sys.stderr)
        return 2
    ds = Datastore()
    try:
        reader(ds, *argv[1:])
    except (OSError, sqlite3.Error, ValueError, KeyError) as e:
        print(f"{' '.join(argv[:2])}: {e}", file=sys.stderr)
        return 2
    for line in ds.check():
        print(line)
    print(f"{len(ds.blocks)} blocks, {len(ds.affinities)} affinities, {len(ds.handles)} handles, "
          f"{sum(map(len, ds.allocated().values()))} addresses, {len(ds.violations)} violations")
    return 1 if ds.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
