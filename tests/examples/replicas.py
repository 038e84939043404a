#!/usr/bin/env python3
"""Compares two ways to choose among two servers, for agents that each hold a conversation: in turn, and by the metrics and prefixes that
the Kubernetes Gateway API inference extension chooses by. Prints how much of the prompts was cached, and how long answers took:

    tests/examples/replicas.py target/dist/tenon

The servers have the echo model, each step of which takes a fixed time, so a prompt costs what of it is not cached.
"""

import argparse
import contextlib
import http.client
import itertools
import json
import random
import re
import tempfile
import threading
import time
from collections import OrderedDict
from pathlib import Path

from servers import PATIENCE, Server, get, quantile

STEP_MS = 10
# A small step and a small pool: prompts cost time, and not every conversation stays cached.
ENGINE = "max_batch_tokens = 256\nmax_draft_tokens = 0\nmax_sequences = 16\nmax_cached_sequences = 48\nkv_tokens = 131072\nmax_queue = 256"
# Agents of one group have the same instructions.
GROUPS = 10
INSTRUCTIONS_CHARS = 2000
TURN_CHARS = 400
# Longest pause before a turn.
PAUSE_SECS = 2


def main():
    options = arguments()
    for policy in (InTurn, ByMetricsAndPrefix):
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as cleanup:
            servers = [Server(options.tenon, options.plugins, Path(folder) / name, STEP_MS, engine=ENGINE) for name in ("first", "second")]
            for server in servers:
                cleanup.callback(server.kill)
                server.start()
            picker = policy([server.port for server in servers])
            agents = [Agent(number, picker, options.turns) for number in range(options.agents)]
            for agent in agents:
                agent.start()
            for agent in agents:
                agent.join()
            print(f"{policy.__doc__} {report(agents)}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tenon", type=Path, help="the server's program")
    parser.add_argument("--plugins", type=Path, help="directory with the echo plugin [default: beside the program]")
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--turns", type=int, default=10)
    return parser.parse_args()


def report(agents):
    answers = [answer for agent in agents for answer in agent.answers]
    prompt, cached = (sum(answer[key] for answer in answers) for key in ("prompt", "cached"))
    seconds = [answer["seconds"] for answer in answers]
    times = ", ".join(f"p{part} {quantile(seconds, part / 100):.2f} s" for part in (50, 99))
    failed = sum(agent.turns - len(agent.answers) for agent in agents)
    return f"{len(answers)} answers, {failed} failed; {cached / prompt:.0%} of {prompt} prompt tokens cached; {times}"


class Agent(threading.Thread):
    """A conversation. Each turn sends all of it and waits for the answer."""

    def __init__(self, number, picker, turns):
        super().__init__()
        self.picker, self.turns, self.answers = picker, turns, []
        group = number % GROUPS
        instructions = f"Group {group}. " + "Follow these rules. " * (INSTRUCTIONS_CHARS // 20)
        self.messages = [{"role": "system", "content": instructions}]
        self.number, self.random = number, random.Random(number)

    def run(self):
        for turn in range(self.turns):
            text = f"Agent {self.number}, turn {turn}: ".ljust(TURN_CHARS, "x")
            self.messages.append({"role": "user", "content": text})
            time.sleep(self.random.uniform(0, PAUSE_SECS))
            begin = time.monotonic()
            answer = self.ask()
            if answer is None:
                return
            usage = answer["usage"]
            cached = usage["prompt_tokens_details"]["cached_tokens"]
            self.answers.append({"prompt": usage["prompt_tokens"], "cached": cached, "seconds": time.monotonic() - begin})
            self.messages.append(answer["choices"][0]["message"])

    def ask(self):
        """The answer, or None if there is none."""
        body = json.dumps({"messages": self.messages, "temperature": 0, "max_tokens": 16})
        with self.picker.picked(body) as port:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            with contextlib.closing(connection), contextlib.suppress(OSError):
                connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
                response = connection.getresponse()
                answer = json.loads(response.read())
                return answer if response.status == 200 else None


class InTurn:
    """In turn:"""

    def __init__(self, ports):
        self.next = itertools.cycle(ports)

    @contextlib.contextmanager
    def picked(self, body):
        yield next(self.next)


class ByMetricsAndPrefix:
    """By metrics and prefix:"""

    WEIGHTS = {"queue": 2, "kv": 2, "prefix": 3}
    # Characters of a block of a prefix, and blocks that are remembered for each server.
    BLOCK, BLOCKS = 256, 30_000
    INTERVAL_SECS = 0.05

    def __init__(self, ports):
        self.replicas = {port: {"queue": 0, "kv": 0.0, "blocks": OrderedDict()} for port in ports}
        self.lock = threading.Lock()
        threading.Thread(target=self.scrape, daemon=True).start()

    def scrape(self):
        with contextlib.suppress(OSError):
            while True:
                for port, replica in self.replicas.items():
                    page = get(port, "/metrics")[1].decode()
                    replica["queue"] = gauge(page, "vllm:num_requests_waiting")
                    replica["kv"] = gauge(page, "vllm:kv_cache_usage_perc")
                time.sleep(self.INTERVAL_SECS)

    @contextlib.contextmanager
    def picked(self, body):
        blocks = [hash(body[:end]) for end in range(self.BLOCK, len(body), self.BLOCK)]
        with self.lock:
            port = max(self.replicas, key=lambda port: self.score(port, blocks))
            known = self.replicas[port]["blocks"]
            for block in blocks:
                known[block] = True
                known.move_to_end(block)
            while len(known) > self.BLOCKS:
                known.popitem(last=False)
        yield port

    def score(self, port, blocks):
        replica = self.replicas[port]
        queues = [other["queue"] for other in self.replicas.values()]
        spread = max(queues) - min(queues)
        scores = {
            "queue": (max(queues) - replica["queue"]) / spread if spread else 1,
            "kv": 1 - replica["kv"],
            "prefix": sum(block in replica["blocks"] for block in blocks) / max(len(blocks), 1),
        }
        return sum(self.WEIGHTS[name] * score for name, score in scores.items())


def gauge(page, name):
    return sum(float(value) for value in re.findall(rf"^{name}\{{.*\}} (\S+)$", page, re.M))


main()
