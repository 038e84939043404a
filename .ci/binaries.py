"""Checks that programs and libraries need nothing but an old enough glibc."""

import re
import subprocess
import sys

SYSTEM_LIBRARIES = re.compile(r"lib(c|m|dl|pthread|rt)\.so\.\d+|ld-linux[\w-]*\.so\.\d+")


def check(files, glibc):
    """Ends the program with a sentence about each file that needs more."""
    complaints = [complaint for file in files for complaint in complaints_about(file, glibc)]
    if complaints:
        sys.exit("\n".join(complaints))


def complaints_about(file, glibc):
    newest = max(version for version in versions_needed(file))
    if newest > glibc:
        yield f"{file} needs glibc {dotted(newest)}, but is meant to run with {dotted(glibc)}: {' '.join(symbols_of(file, newest))}"
    for library in re.findall(r"NEEDED +(\S+)", objdump("-p", file)):
        if not SYSTEM_LIBRARIES.fullmatch(library):
            yield f"{file} needs {library}, which not every system has: link it statically."


def versions_needed(file):
    versions = re.findall(r"\bGLIBC_(\d+(?:\.\d+)+)", objdump("-T", file))
    return (tuple(map(int, version.split("."))) for version in versions)


def symbols_of(file, version):
    return re.findall(rf"\(?GLIBC_{re.escape(dotted(version))}\)? +(\S+)", objdump("-T", file))


def dotted(version):
    return ".".join(map(str, version))


def objdump(option, file):
    return subprocess.run(["objdump", option, file], check=True, capture_output=True, text=True).stdout
