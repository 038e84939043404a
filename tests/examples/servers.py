"""Servers of one echo model, for the scripts beside this file."""

import contextlib
import http.client
import socket
import subprocess
import sys
import time

# Seconds that anything may take.
PATIENCE = 120


class Server:
    """A server at a port that stays the same. `server` and `engine` are sections of its configuration in TOML."""

    def __init__(self, program, plugins, home, step_ms, server="", engine=""):
        home.mkdir()
        self.home, self.port, self.process = home, free_port(), None
        (home / "echo.echo").write_text(str(step_ms))
        config = f"[server]\nport = {self.port}\n{server}\n[engine]\n{engine}\n[[models]]\npath = 'echo.echo'\n"
        (home / "tenon.toml").write_text(config)
        plugins = plugins or program.parent / "plugins"
        self.command = [program.resolve(), "serve", "--config", "tenon.toml", "--plugins", plugins.resolve()]

    def start(self):
        with open(self.home / "log", "a") as log:
            self.process = subprocess.Popen(self.command, cwd=self.home, stderr=log)
        wait(self.is_ready, f"the server in {self.home}")

    def is_ready(self):
        try:
            return get(self.port, "/health/ready")[0] == 200
        except OSError:
            return False

    def stop(self):
        self.process.terminate()
        if (code := self.process.wait(PATIENCE)) != 0:
            sys.exit(f"a server ended with {code}:\n{(self.home / 'log').read_text()}")

    def kill(self):
        if self.process:
            self.process.kill()


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()


def quantile(values, part):
    ordered = sorted(values)
    return ordered[int(part * (len(ordered) - 1))]


def wait(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"{what} is not ready after {PATIENCE} seconds")
        time.sleep(0.05)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
