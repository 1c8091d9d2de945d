# SPDX-License-Identifier: GPL-2.0-or-later
"""A container runtime's side of the CNI specification 1.1.0, from its text alone (sections 2, 3 and 5)."""
import json
import os
import subprocess

VERSIONS = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]  # that a runtime of today speaks


class Failed(Exception):
    """A plugin failed, with an error as section 5 has it."""

    def __init__(self, plugin, verb, error, stderr):
        super().__init__(f"{plugin} {verb}: {error}\n{stderr}")
        self.code, self.msg, self.error = error["code"], error["msg"], error


class Broken(AssertionError):
    """A plugin did what the specification does not have."""


class Attachment:
    """What is the same for every verb; `result` is what a runtime keeps from ADD to DEL."""

    def __init__(self, container_id, netns, ifname="eth0", args="", capabilities=None):
        self.container_id, self.netns, self.ifname = container_id, netns, ifname
        self.args, self.capabilities = args, capabilities or {}
        self.result = None

    def env(self):
        return {
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": self.ifname,
            "CNI_ARGS": self.args,
        }


def need(condition, *what):
    if not condition:
        raise Broken(*what)


def fields(where, have, must, may=()):
    need(isinstance(have, dict), where, have)
    need(set(must) <= set(have) <= set(must) | set(may), where, sorted(have), must, may)


def check_result(result, version, ipam=False):
    """Section 5, field by field; `version` of ips is of 0.3 and 0.4 alone, `mtu` came with 1.1.0."""
    fields("result", result, ["cniVersion", "ips"], ["interfaces", "routes", "dns"])
    need(result["cniVersion"] == version, "cniVersion", result)
    interfaces = result.get("interfaces", [])
    need(not ipam or "interfaces" not in result, "interfaces of an IPAM plugin", result)
    for i in interfaces:
        fields("interface", i, ["name"], ["mac", "sandbox"] + ["mtu"] * (version >= "1.1.0"))
        need(i["name"] != "", "interface", i)
    for ip in result["ips"]:
        old = version < "1.0.0"
        fields("ip", ip, ["address"] + ["version"] * old, ["gateway", "interface"])
        need("/" in ip["address"], "address", ip)
        if old:
            need(ip["version"] == ("6" if ":" in ip["address"] else "4"), "version", ip)
        if "interface" in ip:
            need(not ipam and ip["interface"] in range(len(interfaces)), "interface", result)
    for route in result.get("routes", []):
        fields("route", route, ["dst"], ["gw"] + ["mtu", "advmss", "priority", "table", "scope"] * (version >= "1.1.0"))
    fields("dns", result.get("dns", {}), [], ["nameservers", "domain", "search", "options"])


def execute(argv, env, stdin):
    """Returns (exit code, stdout, stderr). Nothing of this process's CNI_* goes to the plugin."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CNI_")}
    p = subprocess.run(argv, env={**clean, **env}, input=stdin, capture_output=True, text=True, timeout=120)
    return p.returncode, p.stdout, p.stderr


class Network:
    """A network configuration. path: where plugins are; wrap(argv, verb, type): argv to run in its place."""

    def __init__(self, conflist, path, wrap=None):
        self.conf, self.path, self.wrap = conflist, path, wrap
        spoken = [v for v in conflist.get("cniVersions", []) + [conflist["cniVersion"]] if v in VERSIONS]
        need(spoken, "no version that is spoken", conflist)
        self.version = max(spoken)

    def find(self, plugin):
        for directory in self.path:
            if os.access(os.path.join(directory, plugin), os.X_OK):
                return os.path.join(directory, plugin)
        raise FileNotFoundError(f"plugin {plugin} in {self.path}")

    def derive(self, plugin, attachment=None, prev=None, valid=None):
        conf = {k: v for k, v in plugin.items() if not k.startswith("cni.dev/")}
        conf |= {"cniVersion": self.version, "name": self.conf["name"]}
        if attachment:
            has = conf.pop("capabilities", {})
            asked = {k: v for k, v in attachment.capabilities.items() if has.get(k)}
            if asked:
                conf["runtimeConfig"] = asked
        if prev:
            conf["prevResult"] = prev
        if valid is not None:
            conf["cni.dev/valid-attachments"] = valid
        return conf

    def run(self, verb, plugin, conf, env):
        """One plugin: what it printed, decoded; None where it printed nothing."""
        argv = [self.find(plugin["type"])]
        if self.wrap:
            argv = self.wrap(argv, verb, plugin["type"])
        env = {"CNI_COMMAND": verb, "CNI_PATH": ":".join(self.path), **env}
        code, out, err = execute(argv, env, json.dumps(conf))
        try:
            said = json.loads(out) if out else None
        except ValueError:
            raise Broken(plugin["type"], verb, "is no JSON", out, err) from None
        if code == 0:
            return said
        need(said is not None, plugin["type"], verb, f"exited with {code} and without an error", err)
        fields("error", said, ["code", "msg"], ["cniVersion", "details"])
        need(isinstance(said["code"], int) and said["code"] > 0 and said["msg"], "error", said)
        raise Failed(plugin["type"], verb, said, err)

    def add(self, attachment):
        result = None
        attachment.result = None
        for plugin in self.conf["plugins"]:
            conf = self.derive(plugin, attachment, result)
            result = self.run("ADD", plugin, conf, attachment.env())
            need(result is not None, plugin["type"], "ADD without a result")
            check_result(result, self.version)
        attachment.result = result
        return result

    def delete(self, attachment):
        prev = attachment.result if self.version >= "0.4.0" else None
        for plugin in reversed(self.conf["plugins"]):
            conf = self.derive(plugin, attachment, prev)
            said = self.run("DEL", plugin, conf, attachment.env())
            need(said is None, plugin["type"], "DEL prints", said)

    def check(self, attachment, skip=()):
        if self.conf.get("disableCheck"):
            return
        for plugin in self.conf["plugins"]:
            if plugin["type"] in skip:
                continue
            conf = self.derive(plugin, attachment, attachment.result)
            said = self.run("CHECK", plugin, conf, attachment.env())
            need(said is None, plugin["type"], "CHECK prints", said)

    def status(self):
        for plugin in self.conf["plugins"]:
            said = self.run("STATUS", plugin, self.derive(plugin), {})
            need(said is None, plugin["type"], "STATUS prints", said)

    def gc(self, attachments):
        """Every plugin is asked, whatever the others say; the first failure is the result."""
        valid = [{"containerID": a.container_id, "ifname": a.ifname} for a in attachments]
        failed = []
        for plugin in [] if self.conf.get("disableGC") else self.conf["plugins"]:
            try:
                said = self.run("GC", plugin, self.derive(plugin, valid=valid), {})
                need(said is None, plugin["type"], "GC prints", said)
            except Failed as e:
                failed.append(e)
        if failed:
            raise failed[0]

    def versions(self, plugin):
        said = self.run("VERSION", {"type": plugin}, {"cniVersion": self.version}, {})
        fields("version", said, ["cniVersion", "supportedVersions"])
        need(said["cniVersion"] == self.version, "cniVersion", said)
        return said["supportedVersions"]
