"""Hosts of their own on one machine: network namespaces, each with a cable to this one that can be pulled out."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SLOW = ["tbf", "rate", "256kbit", "burst", "4kb", "latency", "2s"]


@dataclass(frozen=True)
class Host:
    """A namespace; `here` is this machine's address on the cable, and `cable` its end of it."""

    name: str
    here: str
    cable: str

    def command(self, *words: str) -> list[str]:
        """Python on that host."""
        return ["ip", "netns", "exec", self.name, sys.executable, *words]

    def cut_off(self) -> None:
        """Pull the cable: packets are lost, and nobody is told."""
        ip("link", "set", self.cable, "down")

    def returned(self) -> None:
        """Put the cable back."""
        ip("link", "set", self.cable, "up")

    def slow(self) -> None:
        """Let little through, both ways."""
        run("tc", "qdisc", "add", "dev", self.cable, "root", *SLOW)
        run("tc", "-n", self.name, "qdisc", "add", "dev", "eth0", "root", *SLOW)


def run(*command: str) -> None:
    """Run a command; CalledProcessError if it fails, FileNotFoundError where there is no such command."""
    subprocess.run(command, check=True, capture_output=True)


def ip(*words: str) -> None:
    run("ip", *words)


def possible() -> str:
    """Why there can be no hosts here; empty if there can."""
    try:
        with host(9) as tried:
            tried.slow()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network namespaces here: {error}"
    return ""


@contextmanager
def host(number: int) -> Iterator[Host]:
    """A host; it goes with all that runs on it."""
    name, here = f"ovam{os.getpid()}-{number}", f"10.213.{number}.1"
    ip("netns", "add", name)
    try:
        ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("addr", "add", f"{here}/24", "dev", name)
        ip("link", "set", name, "up")
        ip("-n", name, "addr", "add", f"10.213.{number}.2/24", "dev", "eth0")
        for each in ("eth0", "lo"):
            ip("-n", name, "link", "set", each, "up")
        yield Host(name, here, name)
    finally:
        ip("netns", "del", name)
