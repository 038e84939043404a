#!/usr/bin/env python3
"""Walks through the first minutes of a new user, and prints how long each step takes and the answer of the small model.

    tests/examples/first_minutes.py archive target/dist/tenon-*-linux-x86_64.tar.gz
    tests/examples/first_minutes.py clone

`archive` runs an archive of `make dist` in a root directory that has nothing but the C library (needs `unshare`, and root or user
namespaces). `clone` clones this repository and calls `make run`, with an empty home directory, so that everything is built and fetched;
the crates that cargo has downloaded are used unless `--cold-registry` is given. Both ask what the README asks, and fail if the answer
is wrong.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from servers import free_port

ROOT = Path(__file__).resolve().parents[2]
RIGHT = "Tokyo"
# Seconds from the start to an answer.
PATIENCE = {"archive": 300, "clone": 7200}


def main():
    options = arguments()
    steps = Steps()
    with tempfile.TemporaryDirectory(prefix="tenon-first-") as folder, contextlib.ExitStack() as cleanup:
        server = {"archive": from_archive, "clone": from_clone}[options.way](options, Path(folder), steps, cleanup)
        server.wait("listening at", steps, "until it listens")
        server.wait("model ready", steps, "until the model is ready")
        answer = steps.time("ask what the README asks", lambda: ask(server.port))
        print(f"answer: {answer}")
        steps.print_sum()
    if RIGHT not in answer:
        sys.exit(f"the answer is wrong: it has no {RIGHT}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ways = parser.add_subparsers(dest="way", required=True)
    archive = ways.add_parser("archive")
    archive.add_argument("file", type=Path, help="the archive")
    archive.add_argument("--model", type=Path, help="the model [default: that of `make run`]")
    clone = ways.add_parser("clone")
    clone.add_argument("--repository", default=str(ROOT), help="what to clone [default: this one]")
    clone.add_argument("--cold-registry", action="store_true", help="download the crates too")
    return parser.parse_args()


class Steps:
    """Prints each step with the seconds that it took."""

    def __init__(self):
        self.begun = self.last = time.monotonic()

    def time(self, name, work):
        result = work()
        self.done(name)
        return result

    def done(self, name):
        now = time.monotonic()
        print(f"{now - self.last:8.1f} s  {name}", flush=True)
        self.last = now

    def print_sum(self):
        print(f"{time.monotonic() - self.begun:8.1f} s  in all")


class Server:
    """A process that serves, and its log."""

    def __init__(self, command, port, log, patience, **more):
        self.port, self.log, self.deadline = port, log, time.monotonic() + patience
        with log.open("w") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, **more)

    def wait(self, text, steps, name):
        while text not in (log := self.log.read_text(errors="replace")):
            if self.process.poll() is not None or time.monotonic() > self.deadline:
                sys.exit(f"no {text!r} in the log:\n{log[-4000:]}")
            time.sleep(0.02)
        steps.done(name)

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(60)


def ask(port):
    readme = (ROOT / "README.md").read_text()
    body = re.search(r"  -d '(\{.*?\})'\n", readme, re.DOTALL)[1]
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body.encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]


def from_archive(options, folder, steps, cleanup):
    """Serves from an archive in a bare root directory."""
    model = options.model or Path(output([ROOT / ".ci/fetch-model"]))
    steps.done("get the model")
    root = folder / "root"
    root.mkdir()
    subprocess.run(["tar", "-xzf", options.file.resolve(), "-C", root], check=True)
    (unpacked,) = root.iterdir()
    steps.done(f"unpack {options.file.stat().st_size / 1e6:.0f} MB")
    copied = fill(root, unpacked)
    shutil.copy2(model, root / "model.gguf")
    steps.done(f"make a root directory with {', '.join(copied)}")
    inside = f"/{unpacked.name}/tenon"
    print(output([*enter(root), inside, "--version"]))
    steps.done("tenon --version")
    print(output([*enter(root), inside, "doctor"]))
    steps.done("tenon doctor")
    port = free_port()
    command = [*enter(root), inside, "serve", "/model.gguf", "--port", str(port)]
    server = Server(command, port, folder / "log", PATIENCE["archive"])
    cleanup.callback(server.stop)
    return server


def fill(root, unpacked):
    """Copies the libraries of the C library that the archive's files need, and makes the places of the kernel's file systems."""
    files = [unpacked / "tenon", *unpacked.rglob("*.so")]
    needed = set()
    for file in files:
        # Without `=>` a line has the loader, or what the kernel adds.
        needed |= set(re.findall(r"(?:=> |^\s*)(/\S+) \(", output(["ldd", file]), re.MULTILINE))
    for library in sorted(needed):
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library, target)
    for place in ("proc", "sys", "dev", "tmp", "root"):
        (root / place).mkdir(exist_ok=True)
    return sorted(Path(library).name for library in needed)


def enter(root):
    """The beginning of a command that runs in a root directory."""
    mounts = "mount --rbind /proc proc && mount --rbind /sys sys && mount --rbind /dev dev"
    namespaces = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
    script = f'cd "$0" && {mounts} && exec env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . "$@"'
    return ["unshare", *namespaces, "sh", "-c", script, str(root)]


def from_clone(options, folder, steps, cleanup):
    """Serves with `make run` in a fresh clone."""
    clone, home = folder / "tenon", folder / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", options.repository, clone], check=True)
    steps.done("git clone")
    port = free_port()
    real = Path.home()
    environment = os.environ | {
        "HOME": str(home),
        "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(real / ".rustup")),
        "CARGO_HOME": str(home / ".cargo" if options.cold_registry else os.environ.get("CARGO_HOME", real / ".cargo")),
        "TENON__SERVER__PORT": str(port),
    }
    environment.pop("CARGO_TARGET_DIR", None)
    server = Server(["make", "run"], port, folder / "log", PATIENCE["clone"], cwd=clone, env=environment)
    cleanup.callback(server.stop)
    return server


def output(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"{command}: {done.returncode}\n{done.stdout}")
    return done.stdout.strip()


main()
