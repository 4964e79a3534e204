"""The proofs' own parts; what they prove is in docs/reliability.md, which `make chaos` and the others write."""

import asyncio
from pathlib import Path
from random import Random

import httpx2
import pytest

from proofs import page
from proofs.chaos.faults import S3, drawn
from proofs.claims import Claim, Proof, keep, none, quantile
from proofs.fuzz.hostile import damaged, replaced
from proofs.jobs import artifacts, image
from proofs.proxy import Proxy


def test_the_page_is_what_the_summaries_say() -> None:
    assert page.PAGE.read_text() == page.text()


def test_a_claim_holds_within_its_bounds_and_a_proof_if_all_its_claims_do() -> None:
    claims = [Claim("slow", 11, "s", at_most=10), Claim("many", 3, at_least=3), none("lost", 0), Claim("so it is", 5)]
    assert [claim.holds for claim in claims] == [False, True, True, True]
    assert claims[0].bound == "at most 10 s"
    assert not Proof("x", claims, {}).holds
    assert Proof("x", claims[1:], {}).holds
    assert not Claim("fast", quantile([], 0.95), "s", at_most=10).holds, "what was not measured"


def test_a_summary_becomes_a_section_that_says_what_does_not_hold(tmp_path: Path) -> None:
    keep(Proof("chaos", [none("jobs lost", 2)], {"jobs": 10}, {"disk full": 3}), tmp_path)
    text = page.text(tmp_path)
    assert "| jobs lost | 2  | at most 0 | **no** |" in text
    assert "Done: jobs 10. Faults: disk full 3." in text
    assert text.count(page.MISSING) == len(page.ABOUT) - 1


def test_faults_are_drawn_by_their_shares_and_again_by_the_same_seed() -> None:
    names = [name for _, name in zip(range(8), drawn(S3, Random(1)), strict=False)]
    assert sorted(names) == sorted([*S3] * 2)
    assert names == [name for _, name in zip(range(8), drawn(S3, Random(1)), strict=False)]


def test_hostile_requests_differ_from_the_valid_ones_in_a_value_or_in_a_file() -> None:
    _, body = image(1)
    assert all(replaced(body, "hostile", Random(seed)) != body for seed in range(20))
    assert all(damaged(body["image"], Random(seed)) != body["image"] for seed in range(20))
    assert artifacts({"result": [{"url": "/a", "sha256": "0"}]}) == {"/a": {"url": "/a", "sha256": "0"}}


async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
    await writer.drain()
    writer.close()


async def test_a_proxy_forwards_cuts_hangs_and_answers_with_errors() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with Proxy.open(server.sockets[0].getsockname()[:2]) as proxy, httpx2.AsyncClient(timeout=0.5) as client:
        url = f"http://127.0.0.1:{proxy.port}/"
        assert (await client.get(url)).text == "hi"
        proxy.set("errors")
        assert (await client.get(url)).status_code == 503
        proxy.set("cut")
        with pytest.raises(httpx2.HTTPError):
            await client.get(url)
        proxy.set("hang")
        with pytest.raises(httpx2.TimeoutException):
            await client.get(url)
        proxy.set("slow")
        assert (await client.get(url, timeout=5)).text == "hi"
    server.close()
