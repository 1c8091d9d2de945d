#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""ipam_read.py finds nothing in the model's own examples, and finds each thing that is broken in them."""
import copy
import json
import os
import sys
import unittest

import ipam_read as r

SAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "samples")
CIDR = "10.244.66.128-29"
BLOCK_KEY = r.IPAM + "assignment/ipv4/block/" + CIDR
AFFINITY_KEY = r.IPAM + "host/node1/ipv4/block/" + CIDR
HANDLE_KEY = r.IPAM + "handle/k8s-pod-network.0f3c1d"
TUNNEL_KEY = r.IPAM + "handle/ipip-tunnel-addr-node1"
POOL_KEY = r.V3 + "ippools/default-ipv4-ippool"
CONFIG_KEY = r.IPAM + "config"
NOW = 1785585700


def sample(name):
    with open(os.path.join(SAMPLES, name), encoding="utf-8") as f:
        return f.read().rstrip("\n")


def store(block="block-used.json"):
    handle = sample("handle.json")
    return {
        BLOCK_KEY: sample(block), AFFINITY_KEY: sample("affinity.json"), HANDLE_KEY: handle,
        TUNNEL_KEY: handle, POOL_KEY: sample("pool.json"), CONFIG_KEY: sample("config.json"),
    }


def look(kvs):
    ds = r.Datastore(NOW)
    for key in sorted(kvs):
        ds.add_kv(key, kvs[key])
    return ds.check()


def crs(version, block="block-used"):
    tunnel = json.loads(sample(f"handle.{version}.json"))
    tunnel["metadata"]["name"] = tunnel["spec"]["handleID"] = "ipip-tunnel-addr-node1"
    names = (block, "affinity", "handle", "pool", "config")
    return [json.loads(sample(f"{name}.{version}.json")) for name in names] + [tunnel]


def look_crs(objects, version):
    ds = r.Datastore(NOW)
    for cr in objects:
        ds.add_cr(cr, version == "v3")
    return ds.check()


def change(path, value):
    """path: of members and indexes. value None: the member goes, callable: it makes the new one."""
    def edit(obj):
        at = obj
        for p in path[:-1]:
            at = at[p]
        if value is None:
            del at[path[-1]]
        else:
            at[path[-1]] = value(at[path[-1]]) if callable(value) else value
    return edit


TIME = "2026-08-01T12:00:00Z"
BROKEN_BLOCKS = [
    (("allocations", 0), 2, "attribute 2 of 2"),
    (("allocations", 0), -1, "attribute -1"),
    (("allocations", 0), True, "attribute True"),
    (("allocations", 0), 1, "nobody's"),
    (("allocations",), lambda v: v[:-1], "allocations are not 8"),
    (("unallocated", 0), 3, "stands twice in unallocated"),
    (("unallocated", 0), 8, "not of this block"),
    (("unallocated", 0), 1, "allocated and unallocated"),
    (("unallocated",), lambda v: v[1:], "make no 8"),
    (("attributes",), lambda v: v + [{"releasedAt": TIME}], "nobody's"),
    (("attributes", 1), lambda v: {"secondary": v["secondary"], "handle_id": v["handle_id"]}, "order"),
    (("attributes", 1, "handle_id"), None, "no handle_id"),
    (("attributes", 1, "handle_id"), "nobody", "it does not exist"),
    (("attributes", 1, "secondary"), {"pod": "a", "node": "b"}, "not sorted"),
    (("attributes", 1, "secondary"), {"pod": 1}, "secondary is"),
    (("attributes", 1, "releasedAt"), TIME, "has an owner"),
    (("attributes", 1), {"releasedAt": "2030-01-01T00:00:00Z"}, "yet to come"),
    (("attributes", 1), lambda v: {"handle_id": "ipip-tunnel-addr-node1",
                                   "secondary": {"node": "node1", "type": "ipipTunnelAddress"}}, "attribute stands twice"),
    (("sequenceNumber",), 1785585600123456790, "sequence number"),
    (("sequenceNumber",), 1.5, "sequenceNumber"),
    (("sequenceNumberForAllocation", "1"), None, "not of the ordinals"),
    (("sequenceNumberForAllocation",), lambda v: dict(reversed(v.items())), "not sorted as texts"),
    (("affinity",), "node1", "affinity 'node1'"),
    (("affinity",), "host:node2", "no affinity of host:node2"),
    (("affinity_claim_time",), None, "do not go together"),
    (("affinity_claim_time",), "2026-08-01 12:00:00", "no time"),
    (("deleted",), "false", "deleted is"),
    (("cidr",), "10.244.66.136/29", "the block is of"),
    (("cidr",), "10.244.66.129/29", "the block is of"),
    (("x",), "y", "does not know"),
    (("unallocated",), None, "no unallocated"),
]
BROKEN_OTHERS = [
    (AFFINITY_KEY, ("state",), "claimed", "state 'claimed'"),
    (AFFINITY_KEY, ("deleted",), "false", "deleted is"),
    (HANDLE_KEY, ("block", "10.244.66.128/29"), 0, "counts 0"),
    (HANDLE_KEY, ("block",), {}, "without blocks"),
    (HANDLE_KEY, ("block",), {"10.244.66.136/29": 1}, "counts 0 of 10.244.66.128/29"),
    (CONFIG_KEY, ("auto_allocate_blocks",), None, "neither strict"),
    (CONFIG_KEY, ("auto_allocate_blocks",), False, "is left out"),
    (CONFIG_KEY, ("maxBlocksPerHost",), 3, "order"),
    (POOL_KEY, ("spec", "blockSize"), 28, "has blocks of /28"),
    (POOL_KEY, ("spec", "blockSize"), 19, "blockSize 19"),
    (POOL_KEY, ("metadata", "name"), "other", "another name"),
]
BROKEN_CRS = [
    (0, ("metadata", "name"), "10-244-66-128-30", "another name"),
    (0, ("spec", "allocations", 0), 7, "attribute 7"),
    (1, ("metadata", "name"), "node1", "the name is to be"),
    (1, ("metadata", "labels", "projectcalico.org/hostname-hash"), "X", "labels"),
    (1, ("metadata", "labels", "projectcalico.org/ip-version"), None, "labels"),
    (1, ("spec", "deleted"), 0, "deleted is 0"),
    (1, ("spec", "state"), "x", "state 'x'"),
    (2, ("metadata", "name"), "K8s", "the name is to be k8s-pod-network.0f3c1d"),
    (2, ("spec", "handleID"), "K8s:x", "the name is to be h-k8s-x-"),
    (2, ("spec", "block", "10.244.66.128/29"), "1", "counts '1'"),
    (4, ("metadata", "name"), "other", "not default"),
    (4, ("spec", "strictAffinity"), None, "always written"),
]


class Reader(unittest.TestCase):
    def found(self, violations, text):
        self.assertTrue(any(text in v for v in violations), f"{text!r} is not found: {violations}")

    @staticmethod
    def clean(kvs):
        """The examples' block is smaller than their pool's."""
        edited = json.loads(kvs[POOL_KEY])
        edited["spec"]["blockSize"] = 29
        return {**kvs, POOL_KEY: r.go_json(edited)}

    def test_examples(self):
        for block in ("used", "new", "released", "cooldown"):
            with self.subTest(block):
                kvs = self.clean(store(f"block-{block}.json"))
                self.assertEqual(look(kvs), [])
        for version in ("v1", "v3"):
            for block in ("used", "new", "released", "cooldown"):
                with self.subTest(block=block, version=version):
                    objects = crs(version, f"block-{block}")
                    objects[3]["spec"]["blockSize"] = 29
                    self.assertEqual(look_crs(objects, version), [])

    def test_handle_that_is_no_name(self):
        objects = crs("v1")
        for name, handle in (("h-net-0f3c1d-net1-3277138d5a5", "net.0f3c1d:net1"),
                             ("h-my-network-0f3c1d-94c1897d7f8", "My_Network.0f3c1d")):
            objects[2]["metadata"]["name"], objects[2]["spec"]["handleID"] = name, handle
            self.assertFalse([v for v in look_crs(objects, "v1") if "the name is to be" in v])

    def test_half_done_is_none(self):
        kvs = self.clean(store())
        kvs[AFFINITY_KEY] = sample("affinity-pending.json")
        kvs[HANDLE_KEY] = kvs[HANDLE_KEY].replace(":1}", ":7}")
        self.assertEqual(look(kvs), [])
        self.assertEqual(look({AFFINITY_KEY: kvs[AFFINITY_KEY]}), [])

    def test_broken_blocks(self):
        for path, value, text in BROKEN_BLOCKS:
            with self.subTest(path=path, value=value):
                kvs = self.clean(store())
                block = json.loads(kvs[BLOCK_KEY])
                if path[-1] in ("x", "releasedAt"):
                    at = block if len(path) == 1 else block["attributes"][1]
                    at[path[-1]] = value
                else:
                    change(path, value)(block)
                kvs[BLOCK_KEY] = r.go_json(block)
                self.found(look(kvs), text)

    def test_broken_others(self):
        for key, path, value, text in BROKEN_OTHERS:
            with self.subTest(key=key, path=path, value=value):
                kvs = self.clean(store())
                obj = json.loads(kvs[key])
                if path[-1] == "maxBlocksPerHost":
                    obj[path[-1]] = value
                else:
                    change(path, value)(obj)
                kvs[key] = r.go_json(obj)
                self.found(look(kvs), text)

    def test_broken_crs(self):
        for version in ("v1", "v3"):
            for i, path, value, text in BROKEN_CRS:
                with self.subTest(version=version, i=i, path=path):
                    objects = copy.deepcopy(crs(version))
                    objects[3]["spec"]["blockSize"] = 29
                    change(path, value)(objects[i])
                    self.found(look_crs(objects, version), text)
        self.found(look_crs(crs("v1"), "v3"), "annotation")
        self.found(look_crs(crs("v3"), "v1"), "annotation")

    def test_absent_and_doubled(self):
        kvs = self.clean(store())
        for key, text in ((AFFINITY_KEY, "no affinity of host:node1"), (HANDLE_KEY, "does not exist"),
                          (BLOCK_KEY, "there is no block")):
            less = dict(kvs)
            del less[key]
            self.found(look(less), text)
        inner = BLOCK_KEY.replace("-29", "-30")
        block = json.loads(sample("block-new.json"))
        block.update(cidr="10.244.66.128/30", allocations=[None] * 4, unallocated=[0, 1, 2, 3])
        self.found(look({**kvs, inner: r.go_json(block)}), "overlaps the block")
        half = {AFFINITY_KEY.replace("-29", "-30"): r.go_json({"state": "pending", "deleted": False})}
        half = look({**kvs, **half, inner: r.go_json(block)})
        self.assertTrue(half and not any("overlaps" in line for line in half))
        other = AFFINITY_KEY.replace("node1", "node2")
        self.found(look({**kvs, other: kvs[AFFINITY_KEY]}), "the block is of host:node1")
        self.found(look({**kvs, BLOCK_KEY: kvs[BLOCK_KEY].replace(":", ": ", 1)}), "as Go writes it")
        self.found(look({**kvs, BLOCK_KEY: kvs[BLOCK_KEY].replace("{", '{"cidr":"x",', 1)}), "stands twice")
        self.found(look({**kvs, BLOCK_KEY: "{"}), "no JSON")
        self.found(look({**kvs, r.IPAM + "assignments/x": "{}"}), "no key of the model")

    def test_endpoints(self):
        def endpoint(name, ip):
            return r.go_json({
                "kind": "WorkloadEndpoint", "apiVersion": "projectcalico.org/v3",
                "metadata": {"name": name, "namespace": "default"}, "spec": {"ipNetworks": [ip]}})
        kvs, at = self.clean(store()), r.V3 + "workloadendpoints/default/"
        self.assertEqual(look({**kvs, at + "a": endpoint("a", "10.244.66.129/32")}), [])
        self.found(look({**kvs, at + "a": endpoint("a", "10.244.66.130/32")}), "not allocated")
        self.found(look({**kvs, at + "a": endpoint("a", "10.244.66.128/29")}), "no single address")
        self.found(look({**kvs, at + "a": endpoint("a", "10.244.66.129/32"),
                         at + "b": endpoint("b", "10.244.66.129/32")}), "too")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
