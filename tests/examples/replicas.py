#!/usr/bin/env python3
"""Compares two ways to choose among two servers, for agents that each hold a conversation: in turn, and by the metrics and prefixes that
the Kubernetes Gateway API inference extension chooses by. Agents ask a small proxy, which chooses the server. Prints how much of the
prompts was cached, and how long answers took. Ends with 1 if a request failed:

    tests/examples/replicas.py target/dist/tenon

The servers have the echo model, each step of which takes a fixed time, so a prompt costs what of it is not cached.
"""

import argparse
import contextlib
import http.client
import http.server
import itertools
import json
import random
import re
import sys
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
    options, failed = arguments(), 0
    for policy in (InTurn, ByMetricsAndPrefix):
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as cleanup:
            servers = [Server(options.tenon, options.plugins, Path(folder) / name, STEP_MS, engine=ENGINE) for name in ("first", "second")]
            for server in servers:
                cleanup.callback(server.kill)
                server.start()
            proxy = Proxy(policy([server.port for server in servers]))
            cleanup.callback(proxy.server_close)
            cleanup.callback(proxy.shutdown)
            threading.Thread(target=proxy.serve_forever, daemon=True).start()
            agents = [Agent(number, proxy.server_port, options.turns) for number in range(options.agents)]
            for agent in agents:
                agent.start()
            for agent in agents:
                agent.join()
            of_policy = sum(agent.turns - len(agent.answers) for agent in agents)
            print(f"{policy.__doc__} {report(agents)}, {of_policy} failed")
            failed += of_policy
    sys.exit(1 if failed else 0)


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
    return f"{len(answers)} answers; {cached / prompt:.0%} of {prompt} prompt tokens cached; {times}"


class Agent(threading.Thread):
    """A conversation. Each turn sends all of it and waits for the answer."""

    def __init__(self, number, port, turns):
        super().__init__()
        self.port, self.turns, self.answers = port, turns, []
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
        status, answer = post(self.port, body)
        return json.loads(answer) if status == 200 else None


def post(port, body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()


class Proxy(http.server.ThreadingHTTPServer):
    """Passes each request on to the server that a picker chooses."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, picker):
        super().__init__(("127.0.0.1", 0), Passing)
        self.picker = picker


class Passing(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        try:
            status, answer = post(self.server.picker.pick(body), body)
        except OSError as error:
            status, answer = 502, str(error).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class InTurn:
    """In turn:"""

    def __init__(self, ports):
        self.next = itertools.cycle(ports)

    def pick(self, body):
        return next(self.next)


class ByMetricsAndPrefix:
    """By metrics and prefix:"""

    WEIGHTS = {"queue": 2, "kv": 2, "prefix": 3}
    # What the extension's prefix plugin takes for a token's length, and how much of a prompt it looks at.
    TOKEN_CHARS, MOST_BLOCKS = 4, 256
    INTERVAL_SECS = 0.05

    def __init__(self, ports):
        self.replicas = {port: {"blocks": OrderedDict()} for port in ports}
        self.lock = threading.Lock()
        self.scrape()
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        with contextlib.suppress(OSError):
            while True:
                time.sleep(self.INTERVAL_SECS)
                self.scrape()

    def scrape(self):
        for port, replica in self.replicas.items():
            page = get(port, "/metrics")[1].decode()
            replica["queue"] = gauge(page, "vllm:num_requests_waiting")
            replica["kv"] = gauge(page, "vllm:kv_cache_usage_perc")
            pool = re.search(r"^vllm:cache_config_info\{(.*)\} 1$", page, re.M)[1]
            pool = dict(re.findall(r'(\w+)="(.*?)"', pool))
            replica["block"] = int(pool["block_size"]) * self.TOKEN_CHARS
            replica["capacity"] = int(pool["num_gpu_blocks"])

    def pick(self, body):
        size = next(iter(self.replicas.values()))["block"]
        blocks = [hash(body[:end]) for end in range(size, len(body), size)][: self.MOST_BLOCKS]
        with self.lock:
            port = max(self.replicas, key=lambda port: self.score(port, blocks))
            known = self.replicas[port]["blocks"]
            for block in blocks:
                known[block] = True
                known.move_to_end(block)
            while len(known) > self.replicas[port]["capacity"]:
                known.popitem(last=False)
        return port

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
