"""Links between the processes of a run, beside PyTorch's own: one that dies, or is asked to stop, is known to all.

Every process has a connection to the first, which tells the others. The system closes a process's connections however
it ends, so that its end is known at once, also to those who wait for it on a device and would wait for ever. What a
process says is a line: `stop`, `left` (it ends as agreed), `failed WHY` (of itself), `lost RANK WHY` (of another).
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch.distributed as dist

from semiseg_cli.core.errors import ProcessLost

CONNECT = 20.0  # seconds in which all connections are made; a process that has none is not watched
GRACE = 15.0  # seconds that the main thread has to end by itself, once a process is lost
WAIT = 5.0  # seconds in which a lost process is known, once an exchange with it has failed


class Peers:
    """The links of one process. `resume`: the command that goes on with the run, once there is something to go on with.

    stop: whether any process was asked to. lost: the rank of the first that ended unasked, and what it said of that.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size, self.resume, self.stop = rank, size, "", False
        self.lost: tuple[int, str] | None = None
        self.links: dict[int, socket.socket] = {}
        self._gone, self._left = threading.Event(), False

    @classmethod
    def connected(cls, rank: int, size: int) -> Peers:
        """Links of all processes of PyTorch's group. Every one of them must call it."""
        self, server = cls(rank, size), socket.create_server(("", 0)) if rank == 0 else None
        offer: list[Any] = [(server.getsockname()[1], secrets.token_hex(16))] if server else [None]
        dist.broadcast_object_list(offer, 0)
        port, token = offer[0]
        with suppress(OSError):  # no way through: then nobody is watched, as PyTorch has it
            if server:
                self._accept(server, token)
            else:
                link = socket.create_connection((os.environ["MASTER_ADDR"], port), CONNECT)
                link.sendall(f"{token} {rank}\n".encode())
                self._follow(0, link)
        return self

    def _accept(self, server: socket.socket, token: str) -> None:
        server.settimeout(CONNECT)
        with server:
            while len(self.links) < self.size - 1:
                link, _ = server.accept()
                link.settimeout(CONNECT)
                with suppress(OSError, ValueError):
                    said, rank = link.recv(100).decode().split()
                    if secrets.compare_digest(said, token) and int(rank) in range(1, self.size):
                        self._follow(int(rank), link)

    def _follow(self, rank: int, link: socket.socket) -> None:
        link.settimeout(None)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a machine that is gone closes nothing
        for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self.links[rank] = link
        threading.Thread(target=self._listen, args=(rank, link), daemon=True).start()

    def _listen(self, rank: int, link: socket.socket) -> None:
        with suppress(OSError), link.makefile("r", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                word, _, rest = line.strip().partition(" ")
                if word == "stop":
                    self.ask_to_stop()
                    continue
                if word == "lost":
                    number, _, rest = rest.partition(" ")
                    rank = int(number)
                if word != "left":
                    self._lose(rank, rest)
                return
        self._lose(rank, "")

    def _say(self, line: str) -> None:
        for link in list(self.links.values()):
            with suppress(OSError):
                link.sendall(f"{line}\n".encode())

    def ask_to_stop(self) -> None:
        """Let all processes know that one was asked to stop."""
        if not self.stop:
            self.stop = True
            self._say("stop")

    def leave(self, failed: str = "") -> None:
        """This process ends: as agreed, or for a reason of its own."""
        self._left = True
        self._say(f"failed {' '.join(failed.split())}" if failed else "left")  # a line, whatever it holds

    def _lose(self, rank: int, why: str) -> None:
        if self._left or self.lost:
            return
        self.lost = (rank, why)
        if self.rank == 0:
            self._say(f"lost {rank} {why}")
        self._gone.set()
        threading.Thread(target=self._end, daemon=True).start()

    def _end(self) -> None:
        """End this process, if it does not by itself: its main thread may wait for the one that is lost."""
        threading.Event().wait(GRACE)
        error = self.error()
        if self._left or error is None:
            return
        if not error.told:
            print(f"error: {error.what}\n  why: {error.why}\n  try: {error.fix}", file=sys.stderr, flush=True)
        os._exit(error.code)

    def error(self, wait: float = 0.0) -> ProcessLost | None:
        """What to say of the process that is lost, if one is, or becomes known to be while it is waited."""
        if self.links:
            self._gone.wait(wait)
        if self.lost is None:
            return None
        rank, why = self.lost
        error = ProcessLost(
            f"process {rank} of {self.size} {'ended' if why else 'was killed, or its machine is gone'}",
            why=why or "usually the system ended it for lack of memory (dmesg, or the log of the scheduler, tells)",
            fix=self.resume or "the same command starts it anew",
        )
        error.told = bool(why) or self.rank != (1 if rank == 0 else 0)  # it told why itself, or another process tells
        return error


def heard(asked: Callable[[], bool], peers: Peers) -> Callable[[], bool]:
    """Whether this process or another was asked to stop. Not agreed upon: another may know it a moment later."""

    def stopping() -> bool:
        if asked():
            peers.ask_to_stop()
        return peers.stop or asked()

    return stopping
