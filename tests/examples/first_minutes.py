#!/usr/bin/env python3
"""Walks through the first minutes of a new user, and prints how long each step takes and the answer of the small model.

    tests/examples/first_minutes.py archive target/dist/tenon-*-linux-x86_64.tar.gz
    tests/examples/first_minutes.py wheel target/dist/tenon-*.whl
    tests/examples/first_minutes.py clone
    tests/examples/first_minutes.py plugins target/dist/tenon-*-linux-x86_64.tar.gz

`archive` runs an archive of `make dist` in a root directory that `debootstrap` makes, if it is installed, else in one that has nothing
but the C library (needs `unshare`, and root or user namespaces). `wheel` installs the wheel in an empty environment of Python. `clone`
clones this repository and calls `make run`, with an empty home directory, so that everything is built and fetched; the crates that cargo
has downloaded are used unless `--cold-registry` is given. It also measures the memory of the build, and calls `make run` a second time.
These ask what the README asks. `plugins` writes the guide's first plugin, in Rust and in C, with nothing of Tenon but an archive, and with
an empty build directory; it asks what the guide asks. All fail if an answer is wrong or came too late; `--any-time` only prints the times.
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
import threading
import time
import venv
import urllib.request
from pathlib import Path

from servers import free_port

ROOT = Path(__file__).resolve().parents[2]
RIGHT = "Tokyo"
# Seconds after which a server that does not answer is given up.
PATIENCE = {"archive": 300, "wheel": 300, "clone": 7200, "plugins": 300}
# Most seconds to the first answer, of the steps that a user takes.
LIMITS = {"archive": 30, "wheel": 30, "clone": 300, "plugins": 300}
# The same for a second `make run`.
WARM_LIMIT = 10
# Most bytes that the build may take.
MEMORY_LIMIT = 4 << 30
# The release of Debian in which archives are tried.
DEBIAN = "bookworm"


def main():
    options = arguments()
    if options.way == "plugins":
        return write_plugins(options)
    steps = Steps()
    ways = {"archive": from_archive, "wheel": from_wheel, "clone": from_clone}
    with tempfile.TemporaryDirectory(prefix="tenon-first-") as folder, contextlib.ExitStack() as cleanup:
        server = ways[options.way](options, Path(folder), steps, cleanup)
        steps.first_answer(server)
        problems = [late("the first answer", steps.sum, LIMITS[options.way])]
        if options.way == "clone":
            problems += built(server, cleanup)
    report(problems, options)


def report(problems, options):
    problems = [problem for problem in problems if problem]
    if problems and not options.any_time:
        sys.exit("\n".join(problems))


def late(what, seconds, limit):
    return seconds > limit and f"{what} came after {seconds:.1f} s, later than {limit} s"


def built(server, cleanup):
    """What was wrong with a build and with what was built. Serves a second time."""
    memory = server.peak
    print(f"memory of the build: {memory / 2**30:.1f} GiB")
    server.stop()
    warm, again = Steps(), Server(server.command, server.port, server.log, PATIENCE["archive"], **server.more)
    cleanup.callback(again.stop)
    print("make run, once more:")
    warm.first_answer(again)
    return [memory > MEMORY_LIMIT and "the build took more than 4 GiB", late("the second start's answer", warm.sum, WARM_LIMIT)]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--any-time", action="store_true", help="do not fail if something takes long")
    ways = parser.add_subparsers(dest="way", required=True)
    archive = ways.add_parser("archive")
    archive.add_argument("file", type=Path, help="the archive")
    archive.add_argument("--model", type=Path, help="the model [default: that of `make run`]")
    wheel = ways.add_parser("wheel")
    wheel.add_argument("file", type=Path, help="the wheel")
    wheel.add_argument("--model", type=Path, help="the model [default: that of `make run`]")
    plugins = ways.add_parser("plugins")
    plugins.add_argument("file", type=Path, help="the archive")
    clone = ways.add_parser("clone")
    clone.add_argument("--repository", default=str(ROOT), help="what to clone [default: this one]")
    clone.add_argument("--cold-registry", action="store_true", help="download the crates too")
    return parser.parse_args()


class Steps:
    """Prints each step with the seconds that it took."""

    def __init__(self):
        self.last, self.sum = time.monotonic(), 0

    def done(self, name, is_users=True):
        """Ends a step. One that is not the user's does not count."""
        now = time.monotonic()
        print(f"{now - self.last:8.1f} s  {name}{'' if is_users else ' (does not count)'}", flush=True)
        self.sum += (now - self.last) * is_users
        self.last = now

    def first_answer(self, server, asked=None, right=RIGHT):
        """Waits for the server, and asks it: what the README asks, or this."""
        server.wait("listening at", self, "until it listens")
        server.wait("model ready", self, "until the model is ready")
        answer = ask(server.port, *(asked or question(ROOT / "README.md")))
        self.done("ask")
        print(f"answer: {answer}")
        print(f"{self.sum:8.1f} s  in all")
        if right not in answer:
            sys.exit(f"the answer is wrong: it has no {right}")


class Server:
    """A process that serves, what it starts, and its log. `peak` is the most memory that they took together."""

    def __init__(self, command, port, log, patience, **more):
        self.command, self.more, self.peak = command, more, 0
        self.port, self.log, self.deadline = port, log, time.monotonic() + patience
        with log.open("w") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, **more)
        threading.Thread(target=self.watch_memory, daemon=True).start()

    def watch_memory(self):
        while self.process.poll() is None:
            self.peak = max(self.peak, resident_bytes(self.process.pid))
            time.sleep(0.5)

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


def resident_bytes(session):
    """The resident memory of all processes of a session."""
    pages = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            # The name, which is in brackets, may have spaces.
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                pages += int(fields[21])
    return pages * os.sysconf("SC_PAGE_SIZE")


def question(document):
    """The path and the body of the first request in a document."""
    return re.search(r":8080(/v1/\S+) .*?  -d '(\{.*?\})'\n", document.read_text(), re.DOTALL).groups()


def ask(port, path, body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        choice = json.load(answer)["choices"][0]
    return choice["text"] if "text" in choice else choice["message"]["content"]


def from_archive(options, folder, steps, cleanup):
    """Serves from an archive in a bare root directory."""
    model = get_model(options, steps)
    root = folder / "root"
    root.mkdir()
    has_debian = shutil.which("debootstrap") is not None
    if has_debian:
        output(["debootstrap", "--variant=minbase", DEBIAN, root])
        steps.done(f"make a root directory of Debian {DEBIAN}", is_users=False)
    home = root / "opt"
    home.mkdir(exist_ok=True)
    subprocess.run(["tar", "-xzf", options.file.resolve(), "-C", home], check=True)
    (unpacked,) = home.iterdir()
    steps.done(f"unpack {options.file.stat().st_size / 1e6:.0f} MB")
    shutil.copy2(model, root / "model.gguf")
    if not has_debian:
        copied = fill(root, unpacked)
        steps.done(f"make a root directory with {', '.join(copied)}", is_users=False)
    inside = f"/opt/{unpacked.name}/tenon"
    print(output([*enter(root), inside, "--version"]))
    steps.done("tenon --version")
    print(output([*enter(root), inside, "doctor"]))
    steps.done("tenon doctor")
    port = free_port()
    command = [*enter(root), inside, "serve", "/model.gguf", "--port", str(port)]
    server = Server(command, port, folder / "log", PATIENCE["archive"])
    cleanup.callback(server.stop)
    return server


def from_wheel(options, folder, steps, cleanup):
    """Serves from a wheel in an empty environment of Python."""
    model = get_model(options, steps)
    venv.create(folder / "venv", with_pip=True)
    steps.done("make an environment", is_users=False)
    programs = folder / "venv/bin"
    output([programs / "pip", "install", "--no-index", options.file.resolve()])
    steps.done(f"install {options.file.stat().st_size / 1e6:.0f} MB")
    port = free_port()
    command = [programs / "tenon", "serve", model, "--port", str(port)]
    server = Server(command, port, folder / "log", PATIENCE["wheel"], cwd=folder)
    cleanup.callback(server.stop)
    return server


def get_model(options, steps):
    model = options.model or Path(output([ROOT / ".ci/fetch-model"]))
    steps.done("get the model", is_users=False)
    return model.resolve()


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


def write_plugins(options):
    """Follows the first commands of the guide, and those of the project in C."""
    problems = []
    with tempfile.TemporaryDirectory(prefix="tenon-plugins-") as folder, contextlib.ExitStack() as cleanup:
        folder = Path(folder)
        subprocess.run(["tar", "-xzf", options.file.resolve(), "-C", folder], check=True)
        (unpacked,) = folder.iterdir()
        environment = {name: value for name, value in os.environ.items() if name not in ("CARGO_TARGET_DIR", "RUSTFLAGS")}
        environment["PATH"] = f"{unpacked}:{environment['PATH']}"
        guide = ROOT / "plugin-api/GUIDE.md"
        author = Author(folder, environment, cleanup)
        server = author.follow(commands(guide, "tenon plugins new "))
        author.steps.first_answer(server, question(guide), " went up the hill")
        problems.append(late("the first answer of a plugin in Rust", author.steps.sum, LIMITS["plugins"]))
        author.check()

        author = Author(folder, environment, cleanup)
        author.run("tenon plugins new --lang c tiny-ngram")
        author.at /= "tiny-ngram"
        readme = author.at / "README.md"
        server = author.follow(commands(readme, "    make\n"))
        author.steps.first_answer(server, question(readme), "ail")
        problems.append(late("the first answer of a plugin in C", author.steps.sum, LIMITS["plugins"]))
        author.check()
    report(problems, options)


class Author:
    """Somebody who writes a plugin, and runs the commands of a document."""

    def __init__(self, folder, environment, cleanup):
        self.at, self.environment, self.cleanup, self.steps = folder, environment, cleanup, Steps()

    def follow(self, lines):
        """Runs commands up to the one that serves a model, and serves it."""
        for line in lines:
            if line.startswith("cd "):
                self.at /= line.removeprefix("cd ")
            elif line.startswith("tenon serve "):
                port = free_port()
                command = [*line.split(), "--port", str(port)]
                server = Server(command, port, self.at / "log", PATIENCE["plugins"], cwd=self.at, env=self.environment)
                self.cleanup.callback(server.stop)
                return server
            else:
                self.run(line)
        sys.exit("no command serves a model")

    def run(self, line):
        output(["sh", "-c", line], cwd=self.at, env=self.environment)
        self.steps.done(line)

    def check(self):
        (library,) = (self.at / "plugins").glob("*.so")
        (model,) = (self.at / "models").iterdir()
        print(output(["tenon", "plugins", "check", library, "--model", model], cwd=self.at, env=self.environment).splitlines()[-1])


def commands(document, begin):
    """The commands of a document from these words on, up to a fence or an empty line."""
    rest = document.read_text().split("\n" + begin, 1)[1]
    return [line.strip() for line in (begin + re.split(r"\n\n|\n```", rest)[0]).splitlines()]


def output(command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if done.returncode != 0:
        sys.exit(f"{command}: {done.returncode}\n{done.stdout}")
    return done.stdout.strip()


main()
