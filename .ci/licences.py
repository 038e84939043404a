"""Collects the licence texts of all code that the released files are linked from."""

import json
import re
import subprocess
from collections import defaultdict
from pathlib import Path

import workspace

NAMES = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)
# Licences of the C and C++ libraries that Zig links statically, as paths in its folder.
ZIG = ["LICENSE", "lib/libcxx/LICENSE.TXT", "lib/libcxxabi/LICENSE.TXT", "lib/libunwind/LICENSE.TXT", "lib/libc/glibc/LICENSES"]

# Libraries of other languages that are part of the program, as the paths of their licences.
BUNDLED = {"marked": "host/page/LICENSE.marked"}


def texts(crates, target, zig):
    """The files of the folder `licences`, by their names."""
    linked = linked_packages(crates, target)
    return {
        "licences/third-party.txt": third_party(linked, zig).encode(),
        "licences/rust-standard-library.html": rust_standard_library(),
    }


def linked_packages(crates, target):
    """All external packages that these crates of the workspace are linked from, sorted by name and version."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={target}"]
    metadata = json.loads(subprocess.run(command, cwd=workspace.ROOT, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    found = {}
    ahead = [id for id in metadata["workspace_members"] if packages[id]["name"] in crates]
    while ahead:
        id = ahead.pop()
        if id not in found:
            found[id] = packages[id]
            ahead += [dep["pkg"] for dep in nodes[id]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]
    return sorted((p for p in found.values() if p["source"]), key=lambda p: (p["name"], p["version"]))


def third_party(linked, zig):
    users = defaultdict(list)
    without = []
    for package in linked:
        files = licence_files(Path(package["manifest_path"]).parent)
        for file in files:
            users[file.read_text(errors="replace").strip()].append(f"{package['name']} {package['version']}")
        if not files:
            without.append(f"{package['name']} {package['version']}: {package['license']}, {package['repository']}")
    for name in ZIG:
        users[(zig / name).read_text(errors="replace").strip()].append(f"Zig, {name}")
    for name, licence in BUNDLED.items():
        users[(workspace.ROOT / licence).read_text().strip()].append(name)
    parts = ["What Tenon's program and plugins are linked from, with the licence texts that come with it."]
    parts += ["These name their licences and bring no text of their own:\n" + "\n".join(without)] if without else []
    parts += [f"{', '.join(dict.fromkeys(names))}\n\n{text}" for text, names in users.items()]
    return f"\n\n{'=' * 80}\n\n".join(parts) + "\n"


def licence_files(folder):
    """The licence files of a package, and of the library that a `-sys` package contains and builds."""
    beside = [path for path in sorted(folder.iterdir()) if NAMES.match(path.name)]
    below = [path for path in sorted(folder.glob("*/*")) if NAMES.match(path.name)]
    return [path for path in beside + below if path.is_file() and path.suffix not in (".rs", ".py", ".sh")]


def rust_standard_library():
    rustc = subprocess.run(["rustc", "--print", "sysroot"], check=True, capture_output=True, text=True)
    return Path(rustc.stdout.strip(), "share/doc/rust/COPYRIGHT-library.html").read_bytes()
