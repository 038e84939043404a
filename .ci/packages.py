"""Writes the released files as an archive and as a Python wheel. The same files always give the same bytes."""

import base64
import gzip
import hashlib
import io
import tarfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import PurePath

PYTHON_NAME = "tenon"
SUMMARY = "An OpenAI-compatible LLM server whose model backends are shared libraries"


@dataclass
class Release:
    version: str
    arch: str
    glibc: tuple
    # Modification time of the files, in seconds since 1970.
    epoch: int
    # Contents by name.
    files: dict


def write_archive(release, folder):
    """Writes the archive, and a file with its SHA-256. Returns both paths."""
    name = f"tenon-{release.version}-linux-{release.arch}"
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for file, content in sorted(release.files.items()):
            entry = tarfile.TarInfo(f"{name}/{file}")
            entry.size, entry.mode, entry.mtime = len(content), mode(file), release.epoch
            archive.addfile(entry, io.BytesIO(content))
    packed = folder / f"{name}.tar.gz"
    packed.write_bytes(gzip.compress(tar.getvalue(), compresslevel=9, mtime=release.epoch))
    checksum = packed.with_name(f"{packed.name}.sha256")
    checksum.write_text(f"{hashlib.sha256(packed.read_bytes()).hexdigest()}  {packed.name}\n")
    return packed, checksum


def write_wheel(release, folder):
    """Writes the wheel. The program goes into the environment's `bin`, its plugins into the directory where it looks for them, and man pages into `share`."""
    tag = f"py3-none-manylinux_{release.glibc[0]}_{release.glibc[1]}_{release.arch}"
    base = f"{PYTHON_NAME}-{release.version}"
    files = {place_in_wheel(base, name): content for name, content in release.files.items()}
    files[f"{base}.dist-info/METADATA"] = metadata(release).encode()
    files[f"{base}.dist-info/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: tenon\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    record = f"{base}.dist-info/RECORD"
    lines = [f"{name},sha256={digest(content)},{len(content)}" for name, content in sorted(files.items())]
    # By the standard the record comes last.
    entries = [*sorted(files.items()), (record, "\n".join([*lines, f"{record},,\n"]).encode())]
    wheel = folder / f"{base}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in entries:
            entry = zipfile.ZipInfo(name, time.gmtime(release.epoch)[:6])
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, (0o100000 | mode(name)) << 16
            archive.writestr(entry, content, compresslevel=9)
    return wheel


def place_in_wheel(base, name):
    top = PurePath(name).parts[0]
    if name == "tenon":
        return f"{base}.data/scripts/tenon"
    if top == "plugins":
        return f"{base}.data/data/lib/tenon/{name}"
    if top == "share":
        return f"{base}.data/data/{name}"
    if top in ("licences", "LICENSE"):
        return f"{base}.dist-info/licenses/{name}"
    return f"{base}.data/data/share/tenon/{name}"


def metadata(release):
    fields = [
        "Metadata-Version: 2.4",
        f"Name: {PYTHON_NAME}",
        f"Version: {release.version}",
        f"Summary: {SUMMARY}",
        "License-Expression: Apache-2.0",
        *(f"License-File: {name}" for name in sorted(release.files) if name.startswith(("licences/", "LICENSE"))),
        "Requires-Python: >=3.8",
        "Description-Content-Type: text/markdown",
    ]
    return "\n".join(fields) + "\n\n" + release.files["README.md"].decode()


def mode(name):
    return 0o755 if name.endswith((".so", "/tenon")) or name == "tenon" else 0o644


def digest(content):
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
