"""The workspace, as cargo builds it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LLAMA_CPP = "tenon-plugin-llama-cpp"
TARGET_DIR = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def was_built():
    """Whether the whole workspace was built: llama.cpp too, for whatever CPU level."""
    llama_cpp = "release/build/llama-cpp-sys-2-*"
    return any(TARGET_DIR.glob(llama_cpp)) or any(TARGET_DIR.glob(f"x86-64-*/{llama_cpp}"))


def build(*arguments, profile="release", target_dir=TARGET_DIR, command=("cargo", "build"), environment=None):
    """Builds the workspace. Returns the built files, the server's program first. Progress and errors go to the terminal."""
    cargo = subprocess.run(
        [*command, "--profile", profile, "--message-format=json-render-diagnostics", *arguments],
        cwd=ROOT,
        env=os.environ | {"CARGO_TARGET_DIR": str(target_dir)} | (environment or {}),
        stdout=subprocess.PIPE,
    )
    if cargo.returncode != 0:
        sys.exit(cargo.returncode)
    messages = [json.loads(line) for line in cargo.stdout.splitlines()]
    artifacts = [message for message in messages if message["reason"] == "compiler-artifact"]
    programs = [Path(a["executable"]) for a in artifacts if a["executable"] and a["target"]["name"] == "tenon"]
    return programs + [Path(file) for a in artifacts if is_plugin(a) for file in a["filenames"] if file.endswith(".so")]


def build_c():
    """Compiles the plugin in C. Returns its library."""
    folder = ROOT / "plugins/ngram-c"
    library = TARGET_DIR / "c/libtenon_plugin_ngram_c.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    include = ROOT / "plugin-api/include"
    # The tests compile with the same flags: tests/src/c_library.rs.
    flags = "-shared -fPIC -O2 -std=c99 -Wall -Wextra -Werror -pedantic".split()
    cc = subprocess.run(["cc", *flags, "-I", include, folder / "ngram.c", "-lm", "-o", library])
    if cc.returncode != 0:
        sys.exit(cc.returncode)
    return library


def is_plugin(artifact):
    return "cdylib" in artifact["target"]["kind"] and ROOT / "plugins" in Path(artifact["manifest_path"]).parents


def place_of(file, level):
    """Where a built file goes: a plugin of a CPU level into the level's folder."""
    if file.suffix != ".so":
        return Path(file.name)
    if level is not None and file.stem == "lib" + LLAMA_CPP.replace("-", "_"):
        return Path("plugins", level, file.name)
    return Path("plugins", file.name)


def version():
    return re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
