"""Functions that are called in processes of their own: they hold nobody up, and one that takes too long is ended."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

STARTS_WITHIN = 60.0  # seconds, on a busy machine
SPAWN = get_context("spawn")
P = ParamSpec("P")
R = TypeVar("R")


class LateError(Exception):
    """The function took too long, or its process died of it."""


class Helper:
    """A process that calls functions, one at a time. It is started when it is first needed."""

    def __init__(self) -> None:
        self.process: Any = None
        self.pipe: Connection | None = None

    def call(self, seconds: float, function: Callable[..., R], *arguments: object) -> R:
        """Call a function that is found by its name. Raises LateError, and what it raises."""
        pipe = self.pipe or self.start()
        try:
            pipe.send((function, arguments))
            answer = pipe.recv() if pipe.poll(seconds) else None
        except (OSError, EOFError):
            answer = None
        if answer is None:
            self.end()
            raise LateError
        well, outcome = answer
        if not well:
            raise outcome
        return outcome

    def start(self) -> Connection:
        """Start the process; returns when it is ready, since that takes no time from a function."""
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        if not self.pipe.poll(STARTS_WITHIN):
            self.end()
            raise LateError
        self.pipe.recv()
        return self.pipe

    def end(self) -> None:
        """End the process, if there is one, whatever it does."""
        process, pipe, self.process, self.pipe = self.process, self.pipe, None, None
        if process is not None and pipe is not None:
            process.kill()
            process.join()
            process.close()
            pipe.close()


def serve(pipe: Connection) -> None:
    """Call what is asked for until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    with suppress(EOFError):
        pipe.send(None)
        while True:
            function, arguments = pipe.recv()
            try:
                outcome = True, function(*arguments)
            except Exception as error:  # noqa: BLE001  # whatever it is: it is raised where the function was called
                outcome = False, error
            pipe.send(outcome)


class Aside:
    """Some helpers. A call waits for one that is free."""

    def __init__(self, count: int) -> None:
        self.helpers = [Helper() for _ in range(count)]
        self.free: asyncio.LifoQueue[Helper] = asyncio.LifoQueue()  # who has just worked has a process
        for helper in self.helpers:
            self.free.put_nowait(helper)

    async def call(self, seconds: float, function: Callable[P, R], *arguments: P.args, **_: P.kwargs) -> R:
        """Call a function. Raises LateError, and what it raises; to wait for a helper takes nothing from its time."""
        helper = await self.free.get()
        try:
            return await asyncio.to_thread(helper.call, seconds, function, *arguments)
        finally:
            self.free.put_nowait(helper)

    def close(self) -> None:
        """End all processes. A call that is under way raises LateError."""
        while not self.free.empty():
            self.helpers.remove(helper := self.free.get_nowait())
            helper.end()
        for helper in self.helpers:
            helper.process.kill()  # the thread that waits for it does the rest
