"""What goes wrong: one fault after the other, drawn by chance from a deck, so that each kind has its share."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from random import Random

from redis.exceptions import RedisError

from contracts.state import keys
from proofs.chaos.redelivery import Redelivery
from proofs.chaos.scene import Member, Scene, valkey_back
from proofs.claims import Log
from proofs.proxy import Proxy, Weather
from proofs.stage import send

Fault = Callable[[Scene, Redelivery], Awaitable[str]]
"""Do something and undo it; a word about what was hit, and for how long."""

GAP = (0.5, 2.5)  # seconds between two faults
ALIVE_WITHIN = 60.0  # seconds
ENOUGH = 2  # workers
LOOK_EVERY = 0.1  # seconds
BALLAST_PIECE = 1 << 20
LONGEST_PAUSE_OF_WORKER = 8.0  # seconds: beyond some four, others take its jobs


async def worker_kill(scene: Scene, redelivery: Redelivery) -> str:
    """Kill a worker, when another one is there to take over."""
    await others_alive(scene)
    member = scene.random.choice(scene.workers)
    await redelivery.expect(member.name)
    send(member.child, signal.SIGKILL)
    redelivery.begin()
    return member.name


async def others_alive(scene: Scene) -> None:
    """Wait until at least two workers' hearts beat, for as long as it takes to start one."""
    with suppress(TimeoutError, RedisError):
        async with asyncio.timeout(ALIVE_WITHIN):
            while sum([await scene.redis.exists(keys.worker(member.name)) for member in scene.workers]) < ENOUGH:
                await asyncio.sleep(LOOK_EVERY)


async def gateway_kill(scene: Scene, _: Redelivery) -> str:
    """Kill a gateway."""
    member = scene.random.choice(scene.gateways)
    send(member.child, signal.SIGKILL)
    return member.name


async def valkey_kill(scene: Scene, _: Redelivery) -> str:
    """Kill Valkey."""
    send(scene.stage.valkey, signal.SIGKILL)
    await asyncio.sleep(0.5)
    await valkey_back(scene)
    return "valkey"


async def worker_pause(scene: Scene, redelivery: Redelivery) -> str:
    """Stop a worker in the middle of whatever it does, and let it go on."""
    member = scene.random.choice(scene.workers)
    await redelivery.expect(member.name)
    return await paused(scene, member, LONGEST_PAUSE_OF_WORKER)


async def gateway_pause(scene: Scene, _: Redelivery) -> str:
    """Stop a gateway for a while."""
    return await paused(scene, scene.random.choice(scene.gateways), 3.0)


async def valkey_pause(scene: Scene, _: Redelivery) -> str:
    """Stop Valkey for a while."""
    send(scene.stage.valkey, signal.SIGSTOP)
    seconds = await lasting(scene, 3.0)
    send(scene.stage.valkey, signal.SIGCONT)
    return f"valkey, {seconds:.1f} s"


async def paused(scene: Scene, member: Member, most: float) -> str:
    """Stop a process and let it go on."""
    send(member.child, signal.SIGSTOP)
    seconds = await lasting(scene, most)
    send(member.child, signal.SIGCONT)
    return f"{member.name}, {seconds:.1f} s"


async def lasting(scene: Scene, most: float) -> float:
    """Let some time pass; the seconds."""
    seconds = scene.random.uniform(0.5, most)
    await asyncio.sleep(seconds)
    return seconds


def network(weather: Weather) -> Fault:
    """Bad weather between one process and Valkey."""

    async def fault(scene: Scene, _: Redelivery) -> str:
        member = scene.random.choice([*scene.gateways, *scene.workers])
        return f"{member.name}, {await weathered(scene, member.network, weather)}"

    return fault


def s3(weather: Weather) -> Fault:
    """Bad weather between everybody and S3."""

    async def fault(scene: Scene, _: Redelivery) -> str:
        return f"s3, {await weathered(scene, scene.s3, weather)}" if scene.s3 else "no s3"

    return fault


async def weathered(scene: Scene, proxy: Proxy, weather: Weather) -> str:
    """Change the weather for a while."""
    proxy.set(weather)
    seconds = await lasting(scene, 5.0)
    proxy.set("fair")
    return f"{seconds:.1f} s"


async def disk_full(scene: Scene, _: Redelivery) -> str:
    """Fill the disk up, and whatever becomes free on it, for a while."""
    if scene.disk is None:
        return "no disk"
    ballast = scene.disk / "ballast"
    seconds = scene.random.uniform(1.0, 5.0)
    with ballast.open("wb") as file, suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                fill(file.fileno())
                await asyncio.sleep(0.02)
    ballast.unlink()
    return f"{seconds:.1f} s"


def fill(descriptor: int) -> None:
    """Extend a file until the disk is full."""
    for piece in (BALLAST_PIECE, 4096):
        with suppress(OSError):
            while True:
                os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, piece)


EVERYWHERE: dict[str, tuple[Fault, int]] = {
    "worker kill": (worker_kill, 3),
    "worker pause": (worker_pause, 2),
    "gateway kill": (gateway_kill, 1),
    "gateway pause": (gateway_pause, 1),
    "valkey kill": (valkey_kill, 1),
    "valkey pause": (valkey_pause, 1),
    "network cut": (network("cut"), 1),
    "network hangs": (network("hang"), 1),
    "network slow": (network("slow"), 1),
}
"""Each with its share in the deck."""
DISK: dict[str, tuple[Fault, int]] = {"disk full": (disk_full, 2)}
S3: dict[str, tuple[Fault, int]] = {
    "s3 errors": (s3("errors"), 1),
    "s3 hangs": (s3("hang"), 1),
    "s3 cut": (s3("cut"), 1),
    "s3 slow": (s3("slow"), 1),
}


def deck(scene: Scene) -> dict[str, tuple[Fault, int]]:
    """The faults that a scene can have."""
    return EVERYWHERE | (DISK if scene.disk else {}) | (S3 if scene.s3 else {})


def drawn(cards: dict[str, tuple[Fault, int]], random: Random) -> Iterator[str]:
    """Names of faults for ever, a shuffled deck after the other."""
    while True:
        names = [name for name, (_, share) in cards.items() for _ in range(share)]
        random.shuffle(names)
        yield from names


async def break_things(scene: Scene, count: int, log: Log, redelivery: Redelivery) -> Counter[str]:
    """Inject so many faults; how many of each kind."""
    cards, done = deck(scene), Counter[str]()
    for _, name in zip(range(count), drawn(cards, scene.random), strict=False):
        log.write("fault", kind=name)
        hit = await cards[name][0](scene, redelivery)
        log.write("over", kind=name, hit=hit)
        done[name] += 1
        await asyncio.sleep(scene.random.uniform(*GAP))
    return done
