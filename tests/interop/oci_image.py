#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""oci_image.py OUT NAME COMMAND...: an image whose file system is busybox alone, as an archive of the OCI's layout."""
import hashlib
import io
import json
import sys
import tarfile

MEDIA = "application/vnd.oci.image."


def put(tar, name, data, mode=0o644, link=None):
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    if link:
        info.type, info.linkname = tarfile.SYMTYPE, link
    tar.addfile(info, io.BytesIO(data))


def rootfs():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in "dev", "proc", "sys", "tmp", "etc", "bin":
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        with open("/bin/busybox", "rb") as f:
            put(tar, "bin/busybox", f.read(), 0o755)
        for name in "sh", "sleep", "ip", "ping", "nc", "cat", "httpd", "wget":
            put(tar, "bin/" + name, b"", link="busybox")
    return out.getvalue()


def main(path, name, *command):
    blobs = {}

    def blob(kind, data):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": MEDIA + kind, "digest": "sha256:" + digest, "size": len(data)}

    layer = blob("layer.v1.tar", rootfs())
    config = blob("config.v1+json", json.dumps({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": command, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}).encode())
    manifest = blob("manifest.v1+json", json.dumps({
        "schemaVersion": 2, "mediaType": MEDIA + "manifest.v1+json", "config": config, "layers": [layer]}).encode())
    manifest["annotations"] = {"io.containerd.image.name": name}
    with tarfile.open(path, "w") as tar:
        put(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        put(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode())
        for digest, data in blobs.items():
            put(tar, "blobs/sha256/" + digest, data)


main(*sys.argv[1:])
