#!/usr/bin/env python3
"""Restarts two servers in turn behind a proxy, under load, and fails if a request fails.

The proxy runs with its file in config/deploy, except for the addresses and the certificate, and clients speak TLS with it. Needs
haproxy or nginx, openssl, and the echo plugin:

    tests/examples/restarts.py target/dist/tenon
    tests/examples/restarts.py target/dist/tenon --proxy nginx
"""

import argparse
import contextlib
import csv
import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from servers import PATIENCE, Server, free_port, get, quantile, wait

DEPLOY = Path(__file__).resolve().parents[2] / "config/deploy"
# HAProxy asks each second whether a server is ready; nginx does not ask at all.
DRAIN_DELAY_SECS = {"haproxy": 3, "nginx": 0}


def main():
    options = arguments()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as cleanup:
        make_certificate(Path(folder))
        delay = f"drain_delay_secs = {DRAIN_DELAY_SECS[options.proxy]}"
        homes = [Path(folder) / name for name in ("first", "second")]
        servers = [Server(options.tenon, options.plugins, home, 2, server=delay) for home in homes]
        proxy = PROXIES[options.proxy](Path(folder), servers)
        for part in (*servers, proxy):
            cleanup.callback(part.kill)
            part.start()
        for server in servers:
            proxy.wait_for(server)
        load = Load(proxy, options)
        restart_in_turn(servers, proxy, options.restarts, load)
        load.finish()
        print(f"{options.proxy}: {options.restarts} restarts, {load.report()}; {proxy.report()}")
    sys.exit(1 if load.failures else 0)


def make_certificate(folder):
    """Writes a certificate of this machine, its key, and both in one file."""
    certificate, key = folder / "tenon.crt", folder / "tenon.key"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=tenon", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-out", certificate, "-keyout", key]
    subprocess.run(["openssl", "req", *kind, *names, *files], check=True, capture_output=True)
    (folder / "tenon.pem").write_bytes(certificate.read_bytes() + key.read_bytes())


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tenon", type=Path, help="the server's program")
    parser.add_argument("--plugins", type=Path, help="directory with the echo plugin [default: beside the program]")
    parser.add_argument("--proxy", choices=PROXIES, default="haproxy")
    parser.add_argument("--requests", type=int, default=10_000, help="least number of requests")
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--clients", type=int, default=8)
    return parser.parse_args()


def restart_in_turn(servers, proxy, restarts, load):
    for number in range(restarts):
        # The restarts are spread over the requests.
        wait(lambda: len(load.seconds) >= load.least * number // restarts, "the load")
        server = servers[number % len(servers)]
        server.stop()
        server.start()
        proxy.wait_for(server)
        print(f"restart {number + 1} of {restarts}: {load.report()}", file=sys.stderr)


class Proxy:
    """A proxy with its file in config/deploy, changed as little as possible."""

    def __init__(self, home, servers):
        self.home, self.servers, self.port, self.process = home, servers, free_port(), None

    def file(self, name, *changes):
        """Writes the file with these changes: pairs of a pattern that it has once and a replacement."""
        text = (DEPLOY / name).read_text()
        changes += tuple((f"127\\.0\\.0\\.1:{8080 + n}\\b", f"127.0.0.1:{server.port}") for n, server in enumerate(self.servers))
        for pattern, replacement in changes:
            text, count = re.subn(pattern, replacement, text)
            assert count == 1, f"{pattern} is {count} times in {name}"
        path = self.home / name
        path.write_text(text)
        return path

    def run(self, command):
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait(self.is_up, "the proxy")

    def is_up(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        if self.process:
            self.process.terminate()
            self.process.wait(PATIENCE)


class HAProxy(Proxy):
    def start(self):
        self.state_port = free_port()
        bind = (r"bind :443 ", f"bind 127.0.0.1:{self.port} ")
        certificate = (r"/etc/haproxy/tenon\.pem", str(self.home / "tenon.pem"))
        state = (r"127\.0\.0\.1:8404", f"127.0.0.1:{self.state_port}")
        self.run(["haproxy", "-db", "-f", self.file("haproxy.cfg", bind, certificate, state)])

    def wait_for(self, server):
        name = ["first", "second"][self.servers.index(server)]
        wait(lambda: self.state(name)["status"] == "UP", f"{name} behind the proxy")

    def state(self, name):
        page = get(self.state_port, "/;csv")[1].decode().removeprefix("# ")
        return next(row for row in csv.DictReader(page.splitlines()) if (row["pxname"], row["svname"]) == ("tenon", name))

    def report(self):
        whole = self.state("BACKEND")
        return f"HAProxy sent {whole['wredis']} requests to another server"


class Nginx(Proxy):
    def start(self):
        listen = (r"listen 443 ", f"listen 127.0.0.1:{self.port} ")
        certificate = (r"/etc/nginx/tenon\.crt", str(self.home / "tenon.crt"))
        key = (r"/etc/nginx/tenon\.key", str(self.home / "tenon.key"))
        site = self.file("nginx.conf", listen, certificate, key)
        kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        paths = " ".join(f"{kind}_temp_path {self.home}/{kind};" for kind in kinds)
        main = f"error_log {self.home}/nginx.log; pid {self.home}/nginx.pid; daemon off;\n"
        main += f"events {{}}\nhttp {{ access_log off; {paths} include {site}; }}\n"
        path = self.home / "main.conf"
        path.write_text(main)
        self.run(["nginx", "-p", self.home, "-c", path])

    def wait_for(self, server):
        # It tries each server for each request.
        pass

    def report(self):
        lines = (self.home / "nginx.log").read_text().splitlines()
        return f"nginx logged {sum('[error]' in line for line in lines)} failed tries"


PROXIES = {"haproxy": HAProxy, "nginx": Nginx}


class Load:
    """Clients that chat, in plain answers and streams by turns, until it is finished."""

    def __init__(self, proxy, options):
        self.port, self.least, self.finishing = proxy.port, options.requests, False
        self.tls = ssl.create_default_context(cafile=proxy.home / "tenon.crt")
        self.lock, self.seconds, self.failures = threading.Lock(), [], []
        self.threads = [threading.Thread(target=self.chat_on, daemon=True) for _ in range(options.clients)]
        for thread in self.threads:
            thread.start()

    def chat_on(self):
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=self.tls)
        streamed = False
        while not (self.finishing and len(self.seconds) >= self.least):
            begin, streamed = time.monotonic(), not streamed
            failure = self.chat(connection, streamed)
            with self.lock:
                self.seconds.append(time.monotonic() - begin)
                self.failures += [failure] if failure else []

    def chat(self, connection, streamed):
        """What went wrong, or None."""
        text = "All of this comes back."
        body = {"messages": [{"role": "user", "content": text}], "temperature": 0, "stream": streamed}
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
            response = connection.getresponse()
            answer = response.read().decode()
            if response.status == 200 and (streamed_text if streamed else plain_text)(answer) == text:
                return None
            return f"{response.status}: {answer}"
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return repr(error)

    def finish(self):
        self.finishing = True
        for thread in self.threads:
            thread.join()
        for failure in self.failures[:10]:
            print(failure, file=sys.stderr)

    def report(self):
        with self.lock:
            at = lambda part: f"{quantile(self.seconds or [0], part) * 1000:.0f} ms"
            return f"{len(self.failures)} of {len(self.seconds)} requests failed; p50 {at(0.5)}, p99 {at(0.99)}, longest {at(1)}"


def plain_text(answer):
    return json.loads(answer)["choices"][0]["message"]["content"]


def streamed_text(answer):
    """The text of a stream; None if the stream is not whole."""
    events = [line.removeprefix("data: ") for line in answer.splitlines() if line.startswith("data: ")]
    if events[-1:] != ["[DONE]"]:
        return None
    choices = [choice for event in events[:-1] for choice in json.loads(event).get("choices", [])]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


main()
