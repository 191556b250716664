"""Wraps tars of files as an image that containerd and docker import.

mkimage.py NAME:TAG OUT.tar --layer LAYER.tar [--layer …] [--user 65532] [--env A=B] --entrypoint COMMAND [ARG …]
"""

import argparse
import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What the image specification calls the machines that `uname -m` names."""


def digest(path: str) -> str:
    """The layer's digest, as the image's configuration names it."""
    with Path(path).open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Writes the image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("out")
    parser.add_argument("--layer", action="append", required=True)
    parser.add_argument("--user", default="")
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--entrypoint", nargs="+", required=True)
    options = parser.parse_args()
    config = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": options.entrypoint, "Env": [PATH, *options.env], "User": options.user},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in options.layer]},
    }
    body = json.dumps(config).encode()
    name = hashlib.sha256(body).hexdigest() + ".json"
    layers = [f"layer{n}.tar" for n in range(len(options.layer))]
    manifest = json.dumps([{"Config": name, "RepoTags": [options.name], "Layers": layers}]).encode()
    with tarfile.open(options.out, "w") as image:
        for member, data in ((name, body), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            image.addfile(info, io.BytesIO(data))
        for layer, member in zip(options.layer, layers, strict=True):
            image.add(layer, member)


main()
