#!/usr/bin/env python3
"""Compares the engine with ik_llama.cpp on one thread, in turns. Prints the medians of both in tokens/s, and the median of the ratios.

    pip install ik-llama-cpp-python
    tests/examples/ik_llama.py target/dist/tenon MODEL.gguf

Tenon's figures are those of `tenon bench engine`, which also samples. ik_llama.cpp gets its tokens from this program and samples nothing.
It uses flash attention where its package does: on CPUs with AVX-VNNI.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from statistics import median

from ik_llama_cpp import IkLlama
from ik_llama_cpp import _ctypes_api as api
from ik_llama_cpp._internals import make_batch_range, make_batch_single


def main():
    options = arguments()
    peer = Peer(options.model, options.prompt + options.output)
    runs = [(tenon(options), peer.measure(options)) for _ in range(options.pairs)]
    for index, what in enumerate([f"prompt of {options.prompt}", f"decoding {options.output}"]):
        ours, theirs = ([run[side][index] for run in runs] for side in range(2))
        ratio = median(a / b for a, b in zip(ours, theirs))
        print(f"{what} tokens: Tenon {median(ours):.1f}, ik_llama.cpp {median(theirs):.1f}, ratio {ratio:.2f}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tenon", help="the program")
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("--backend", default="org.tenon.candle-quantized", help="the backend that Tenon uses")
    parser.add_argument("--pairs", type=int, default=6, help="how often both are measured")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of a prompt")
    parser.add_argument("--output", type=int, default=64, help="tokens that are decoded after it")
    return parser.parse_args()


def tenon(options):
    """Tokens/s of a prompt and of decoding."""
    sizes = f"-p {options.prompt} -n {options.output}".split()
    command = [options.tenon, "bench", "engine", *"-t 1 -r 1 -b 1".split(), *sizes, "--backend", options.backend, options.model]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rates = [float(line.split("|")[-2].split("±")[0]) for line in table.splitlines() if "±" in line]
    if len(rates) != 2:
        sys.exit(f"not the table that was expected:\n{table}")
    return rates


class Peer:
    """ik_llama.cpp with a loaded model."""

    def __init__(self, model, context):
        with silence():
            self.model = IkLlama(model, n_ctx=context, n_threads=1, verbose=False)

    def measure(self, options):
        """Tokens/s of a prompt and of decoding."""
        context, prompt = self.model._context, [token % 1000 + 100 for token in range(options.prompt)]
        context.kv_cache_clear()
        begun = time.perf_counter()
        for start in range(0, options.prompt, context._n_ubatch):
            part = prompt[start : start + context._n_ubatch]
            self.decode(make_batch_range(part, pos_start=start, logits_last=start + len(part) == options.prompt))
        read = time.perf_counter()
        for position in range(options.prompt, options.prompt + options.output):
            self.decode(make_batch_single(100 + position % 1000, position))
        done = time.perf_counter()
        return options.prompt / (read - begun), options.output / (done - read)

    def decode(self, batch):
        failed = self.model._context.decode(batch)
        api.llama_batch_free(batch)
        if failed:
            sys.exit(f"ik_llama.cpp cannot decode: {failed}")


@contextlib.contextmanager
def silence():
    """The library writes its log to the terminal."""
    kept = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)


main()
