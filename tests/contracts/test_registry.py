"""Names and versions of tokens, on a real Valkey: none is changed, lost, or given twice."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from contracts.schema.errors import Code, ServiceError
from contracts.schema.jobs import utc_now
from contracts.schema.models import ModelCard
from contracts.schema.tokens import TokenCard, TokenFacts
from contracts.state import keys
from contracts.state.registry import NewToken, Registry, enter, numbered


def new(name: str, key: str = "id", classes: tuple[str, ...] = ("cat",)) -> NewToken:
    facts = TokenFacts(
        id=key, model="tiny", width=4, classes=list(classes), origin="optimize", job_id="0" * 26, created_at=utc_now()
    )
    return NewToken(name, facts)


@pytest.fixture
async def registry(redis_url: str) -> AsyncIterator[Registry]:
    async with Redis.from_url(redis_url) as redis:
        yield Registry(redis)


async def entered(registry: Registry, *tokens: NewToken) -> list[TokenCard]:
    async def act(pipe: object) -> list[TokenCard]:
        cards = await numbered(pipe, tokens)
        pipe.multi()
        enter(pipe, cards)
        return cards

    return await registry.redis.transaction(act, keys.TOKENS, value_from_callable=True)


async def fails(code: Code, work: object) -> None:
    with pytest.raises(ServiceError) as caught:
        await work
    assert caught.value.code is code


async def test_a_name_in_use_gets_a_new_version_and_the_old_one_stays(registry: Registry) -> None:
    (first,) = await entered(registry, new("cat", "a"))
    (second,) = await entered(registry, new("cat", "b"))
    assert (first.reference, second.reference) == ("cat@1", "cat@2")
    assert await registry.get("cat@1") == first
    assert await registry.get("cat@2") == await registry.get("cat") == second
    assert await registry.versions("cat") == [second, first]


async def test_tokens_that_are_entered_together_are_numbered_in_their_order(registry: Registry) -> None:
    await entered(registry, new("cat"))
    cards = await entered(registry, new("cat"), new("dog"), new("cat"))
    assert [card.reference for card in cards] == ["cat@2", "dog@1", "cat@3"]


@pytest.mark.parametrize("reference", ["dog", "cat@2", "dog@1", "cat@999999999"])
async def test_what_is_not_there_is_unknown(registry: Registry, reference: str) -> None:
    await entered(registry, new("cat"))
    assert await registry.find(reference) is None
    await fails(Code.UNKNOWN_TOKEN, registry.get(reference))
    await fails(Code.UNKNOWN_TOKEN, registry.remove(reference))


async def test_a_number_is_not_given_again_while_the_name_has_a_version(registry: Registry) -> None:
    await entered(registry, new("cat", "a"), new("cat", "b"))
    assert [card.id for card in await registry.remove("cat@2")] == ["b"]
    assert (await registry.get("cat")).version == 1
    assert (await entered(registry, new("cat", "c")))[0].version == 3
    await registry.remove("cat@1")
    await registry.remove("cat@3")
    assert await registry.redis.keys("*token*") == []
    assert (await entered(registry, new("cat", "d")))[0].version == 1


async def test_a_bare_name_takes_all_versions_away(registry: Registry) -> None:
    await entered(registry, new("cat", "a"), new("cat", "b"), new("cats", "c"))
    assert {card.id for card in await registry.remove("cat")} == {"a", "b"}
    assert [listing.name for listing in await registry.page("", 9)] == ["cats"]
    await fails(Code.UNKNOWN_TOKEN, registry.versions("cat"))


async def test_a_renamed_token_keeps_its_numbers_and_goes_on_counting(registry: Registry) -> None:
    await entered(registry, new("cat", "a"), new("cat", "b"), new("cat", "c"))
    await registry.remove("cat@3")
    assert (await registry.rename("cat", "tiger")).reference == "tiger@2"
    assert [(card.id, card.reference) for card in await registry.versions("tiger")] == [("b", "tiger@2"), ("a", "tiger@1")]
    assert await registry.find("cat") is None
    assert (await entered(registry, new("tiger")))[0].version == 4
    assert (await entered(registry, new("cat")))[0].version == 1


async def test_a_rename_onto_a_name_in_use_changes_nothing(registry: Registry) -> None:
    await entered(registry, new("cat", "a"), new("dog", "b"))
    await fails(Code.TOKEN_EXISTS, registry.rename("cat", "dog"))
    await fails(Code.UNKNOWN_TOKEN, registry.rename("cow", "dog"))
    assert ((await registry.get("cat")).id, (await registry.get("dog")).id) == ("a", "b")
    assert (await registry.rename("cat", "cat")).reference == "cat@1"


async def test_of_two_renames_onto_one_name_one_is_refused(registry: Registry) -> None:
    await entered(registry, new("cat", "a"), new("dog", "b"))
    outcomes = await asyncio.gather(registry.rename("cat", "pet"), registry.rename("dog", "pet"), return_exceptions=True)
    assert sorted(isinstance(outcome, ServiceError) for outcome in outcomes) == [False, True]
    assert len(await registry.page("", 9)) == 2


async def test_names_come_page_by_page_with_the_newest_version_of_each(registry: Registry) -> None:
    await entered(registry, *(new(name) for name in ("b", "a", "c", "b", "a-b")))
    first = await registry.page("", 2)
    assert [(listing.reference, listing.versions) for listing in first] == [("a@1", 1), ("a-b@1", 1)]
    assert [(listing.reference, listing.versions) for listing in await registry.page("a-b", 9)] == [("b@2", 2), ("c@1", 1)]
    assert await registry.page("c", 9) == []
    await registry.remove("b@1")
    assert [(listing.reference, listing.versions) for listing in await registry.page("a-b", 1)] == [("b@2", 1)]
    await registry.redis.delete(keys.token("b", registry.tenant))  # as if it went between the names and their versions
    assert [listing.reference for listing in await registry.page("a-b", 2)] == ["c@1"]


async def test_a_name_that_is_removed_while_it_is_learned_again_is_there_whole_or_not_at_all(registry: Registry) -> None:
    for number in range(20):
        await entered(registry, new("cat", f"old-{number}"))
        await asyncio.gather(registry.remove("cat"), entered(registry, new("cat", f"new-{number}")))
        assert await registry.redis.hexists(keys.TOKENS, "cat") == bool(await registry.redis.exists(keys.token("cat")))


NAMES = st.sampled_from(["a", "b", "c"])
STEPS = st.one_of(
    st.tuples(st.just("learn"), NAMES),
    st.tuples(st.just("rename"), NAMES, NAMES),
    st.tuples(st.just("remove"), NAMES, st.integers(0, 3)),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=20))
def test_whatever_is_done_the_registry_is_what_a_plain_dict_would_be(redis_url: str, steps: list[tuple]) -> None:
    async def compare() -> None:
        async with Redis.from_url(redis_url) as redis:
            await redis.flushall()
            registry, model = Registry(redis), Model()
            for number, step in enumerate(steps):
                assert await really(registry, step, number) == model.does(step, number)
            held = {listing.name: [card.version for card in await registry.versions(listing.name)]
                    for listing in await registry.page("", 9)}  # fmt: skip
            assert held == {name: sorted(versions, reverse=True) for name, versions in model.held.items()}

    asyncio.run(compare())


async def really(registry: Registry, step: tuple, number: int) -> object:
    try:
        match step:
            case ("learn", name):
                return (await entered(registry, new(name, str(number))))[0].version
            case ("rename", name, other):
                return (await registry.rename(name, other)).version
            case ("remove", name, version):
                gone = await registry.remove(f"{name}@{version}" if version else name)
                return {card.id for card in gone}
    except ServiceError as error:
        return error.code


class Model:
    """What the registry should be."""

    def __init__(self) -> None:
        self.held: dict[str, dict[int, str]] = {}
        self.last: dict[str, int] = {}

    def does(self, step: tuple, number: int) -> object:
        name = step[1]
        if step[0] != "learn" and name not in self.held:
            return Code.UNKNOWN_TOKEN
        match step:
            case ("learn", name):
                self.last[name] = self.last.get(name, 0) + 1
                self.held.setdefault(name, {})[self.last[name]] = str(number)
                return self.last[name]
            case ("rename", name, other):
                if other != name and other in self.held:
                    return Code.TOKEN_EXISTS
                self.held[other], self.last[other] = self.held.pop(name), self.last.pop(name)
                return max(self.held[other])
            case ("remove", name, version):
                wanted = [version] if version else [*self.held[name]]
                if wanted[0] not in self.held[name]:
                    return Code.UNKNOWN_TOKEN
                gone = {self.held[name].pop(each) for each in wanted}
                if not self.held[name]:
                    del self.held[name], self.last[name]
                return gone


def test_a_class_is_a_row_and_only_a_single_one_needs_no_name() -> None:
    one = TokenCard(name="cat", version=1, **dict(new("cat").facts))
    several = TokenCard(name="pets", version=2, **dict(new("pets", classes=("cat", "dog")).facts))
    assert (one.row(None, field="f"), one.row("cat", field="f"), several.row("dog", field="f")) == (1, 1, 2)
    for card, name in ((one, "dog"), (several, None), (several, "cow")):
        with pytest.raises(ServiceError, match=", ".join(card.classes)) as caught:
            card.row(name, field="start.0.class_name")
        assert (caught.value.code, caught.value.field) == (Code.UNKNOWN_CLASS, "start.0.class_name")


def test_a_token_of_another_model_or_width_names_both() -> None:
    card = TokenCard(name="cat", version=1, **dict(new("cat").facts))
    model = ModelCard(
        name="tiny",
        source="",
        family="sd1",
        text_width=4,
        max_tokens=77,
        default_height=64,
        default_width=64,
        size_multiple=8,
        default_guidance_scale=1,
    )
    assert card.on(model, field="token") is card
    for change in ({"name": "huge"}, {"text_width": 8}):
        with pytest.raises(
            ServiceError, match=r"'cat@1' belongs to model 'tiny' and is 4 wide.* '(huge|tiny)', which takes (4|8)"
        ):
            card.on(model.model_copy(update=change), field="token")
