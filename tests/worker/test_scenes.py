"""The traces that were used last are kept in memory, within a budget."""

from dataclasses import dataclass
from typing import Any

import pytest

from tests.worker.client import Client
from worker.resources import Resources
from worker.scenes import SceneCache


@dataclass(frozen=True)
class Sized:
    """Stands for a scene, of which the cache asks its size alone."""

    nbytes: int


def filled(cache: SceneCache, *names: str, nbytes: int = 10) -> SceneCache:
    for name in names:
        scene: Any = Sized(nbytes)
        cache.keep((name, 1, 0), "model " + name, scene)
    return cache


def kept(cache: SceneCache) -> str:
    return "".join(name for name in "abcdef" if cache.get((name, 1, 0)))


def test_the_least_recently_used_scene_is_forgotten_when_the_budget_is_full() -> None:
    cache = filled(SceneCache(30), "a", "b", "c")
    assert cache.get(("a", 1, 0)) is not None
    filled(cache, "d")
    assert (kept(cache), cache.nbytes, len(cache)) == ("acd", 30, 3)


def test_a_scene_larger_than_the_budget_is_not_kept_and_displaces_nothing() -> None:
    cache = filled(SceneCache(30), "a", "b")
    filled(cache, "c", nbytes=31)
    assert (kept(cache), cache.nbytes) == ("ab", 20)


def test_scenes_that_fill_the_budget_exactly_are_kept() -> None:
    assert kept(filled(SceneCache(30), "a", nbytes=30)) == "a"
    assert kept(filled(SceneCache(30), "a", "b", "c")) == "abc"


async def test_a_scene_is_as_large_as_its_trace_its_image_and_what_is_kept_with_them(client: Client, worker: Resources) -> None:
    await client.generated()
    ((_, scene),) = worker.scenes.warm._scenes.values()
    queries = sum(block.queries.nbytes for block in scene.trace.blocks)
    matrices = sum(4 * (layer.grid[0] * layer.grid[1]) ** 2 for layer in scene.trace.self_attention)
    assert worker.scenes.nbytes >= queries + 64 * 64 * 3
    assert worker.scenes.nbytes - scene.trace.nbytes == 64 * 64 * 3 + matrices  # by which heat will be refined


async def test_the_scene_of_a_second_attempt_is_its_own(client: Client, worker: Resources) -> None:
    record = await client.record(client.generation())
    await client.ledger.claim(record.id, max_attempts=9)
    await client.deliver(record)
    source = await client.ended(record.id)
    assert source.attempt == 2
    for _ in range(2):
        assert worker.scenes.get((source.id, 2, 0)) is not None
        worker.scenes.forget_model("tiny")
        assert (await client.attributed(source)).error is None


def test_a_scene_kept_again_counts_once() -> None:
    cache = filled(filled(SceneCache(30), "a", "a", "b"), "a", nbytes=15)
    assert (kept(cache), cache.nbytes, len(cache)) == ("ab", 25, 2)
    filled(cache, "a", nbytes=31)
    assert (kept(cache), cache.nbytes) == ("b", 10)  # rather none than an old one


def test_the_scenes_of_a_model_are_forgotten_with_it_and_others_stay() -> None:
    cache = filled(SceneCache(30), "a", "b", "c")
    cache.forget_model("model b")
    assert (kept(cache), cache.nbytes) == ("ac", 20)


@pytest.mark.parametrize("image", [0, 1])
async def test_a_scene_read_from_the_store_is_kept_under_its_own_image(client: Client, worker: Resources, image: int) -> None:
    source = await client.generated(num_images=2)
    assert len(worker.scenes) == 2
    worker.scenes.forget_model("tiny")
    first = await client.attributed(source, image=image)
    assert first.error is None
    assert worker.scenes.get((source.id, 1, image)) is not None
    assert worker.scenes.get((source.id, 1, 1 - image)) is None
    other = await client.attributed(source, image=1 - image)
    files = [await client.artifact(record, "heatmap-0.npy") for record in (first, other)]
    assert files[0] != files[1]
