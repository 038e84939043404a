"""Levels of x86-64 CPUs, as the psABI defines them, and how llama.cpp is built for each: it chooses its instructions when it is compiled."""

import platform
import sys
from pathlib import Path

# Linux's names of the features that a level adds to the one before it.
FEATURES = {
    "x86-64-v2": "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3",
    "x86-64-v3": "abm avx avx2 bmi1 bmi2 f16c fma movbe",
    "x86-64-v4": "avx512bw avx512cd avx512dq avx512f avx512vl",
}

# The level of llama.cpp's build without any options.
PLAIN = "x86-64-v3"


def all_levels():
    """All levels. None stands for the only build on a processor without levels."""
    return list(FEATURES) if platform.machine() == "x86_64" else [None]


def best_level():
    """The highest level that this machine has."""
    if all_levels() == [None]:
        return None
    present = cpu_flags()
    best = None
    for level, features in FEATURES.items():
        if not present.issuperset(features.split()):
            break
        best = level
    return best or sys.exit("Tenon needs a CPU of the level x86-64-v2 (SSE4.2 and POPCNT), which this one has not.")


def cpu_flags():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return set(next(line for line in lines if line.startswith("flags")).split(":")[1].split())


def build_options(level):
    """Environment variables that choose the instruction set of llama.cpp's build."""
    if level is None:
        return {}
    switch = {True: "ON", False: "OFF"}
    of_v3 = dict.fromkeys(["GGML_AVX", "GGML_AVX2", "GGML_BMI2", "GGML_F16C", "GGML_FMA"], switch[level != "x86-64-v2"])
    return of_v3 | {"GGML_AVX512": switch[level == "x86-64-v4"]}
