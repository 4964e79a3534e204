"""Images at addresses: fetched from where that is allowed, and from nowhere else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from contracts.schema.errors import ServiceError
from service.fetching import fetched, is_named
from service.settings import GatewaySettings

SETTINGS = GatewaySettings(max_body_bytes=2000)


@dataclass
class Files:
    """Somebody's server of files: what it was asked, and what it answers."""

    answers: dict[str, bytes]
    url: str = ""
    asked: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head)
        writer.write(self.answers[head.split(" ")[1]])
        await writer.drain()
        writer.close()
        await writer.wait_closed()


def answer(body: bytes, status: str = "200 OK", header: str = "X-A: b") -> bytes:
    return f"HTTP/1.1 {status}\r\n{header}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


@asynccontextmanager
async def serving(**answers: bytes) -> AsyncIterator[Files]:
    files = Files({f"/{name}": each for name, each in answers.items()})
    server = await asyncio.start_server(files.serve, "127.0.0.1", 0)
    async with server:
        files.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield files


async def test_a_file_of_a_host_that_is_named_is_fetched() -> None:
    async with serving(a=answer(b"image")) as files:
        settings = SETTINGS.model_copy(update={"image_hosts": f"elsewhere.example, {files.url.removeprefix('http://')}"})
        assert await fetched(f"{files.url}/a", settings, {"Authorization": "Token t"}, field="image") == b"image"
        assert f"Host: {files.url.removeprefix('http://')}\r\n" in files.asked[0]
        assert "Authorization: Token t\r\n" in files.asked[0]


@pytest.mark.parametrize("hosts", ["", "127.0.0.1:1", "localhost", "none"])
async def test_nothing_is_asked_of_a_private_host_that_is_not_named(hosts: str) -> None:
    async with serving(a=answer(b"image")) as files:
        port = files.url.rpartition(":")[2]
        for host in ("127.0.0.1", "127.1", "[::ffff:127.0.0.1]", "0x7f000001"):
            with pytest.raises(ServiceError) as refused:
                await fetched(f"http://{host}:{port}/a", SETTINGS.model_copy(update={"image_hosts": hosts}), field="image")
            assert refused.value.code == "invalid-argument"
            assert refused.value.field == "image"
            assert refused.value.value == f"http://{host}:{port}/a"
        assert files.asked == []


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (answer(b"", "302 Found", "Location: http://169.254.169.254/"), "image-unreadable", "status 302"),
        (answer(b"", "401 Unauthorized"), "image-unreadable", "give its key"),
        (answer(b"x" * 2001), "body-too-large", "2000 bytes"),
        (b"nonsense\r\n\r\n", "image-unreadable", "could not be fetched"),
        (b"", "image-unreadable", "could not be fetched"),
    ],
)
async def test_other_answers_are_told(given: bytes, code: str, said: str) -> None:
    async with serving(a=given) as files:
        with pytest.raises(ServiceError, match=said) as refused:
            await fetched(f"{files.url}/a", SETTINGS.model_copy(update={"image_hosts": "127.0.0.1"}), field="image")
        assert refused.value.code == code
        assert len(files.asked) == 1  # and nobody else


async def test_as_many_bytes_as_are_allowed_are_taken_and_problems_are_short() -> None:
    settings = SETTINGS.model_copy(update={"image_hosts": "127.0.0.1"})
    async with serving(a=answer(b"x" * 2000), **{"b" * 200: answer(b"", "404 Not Found")}) as files:
        assert len(await fetched(f"{files.url}/a", settings, field="image")) == 2000
        with pytest.raises(ServiceError) as missing:
            await fetched(f"{files.url}/{'b' * 200}", settings, field="image")
    assert (missing.value.code, missing.value.value) == ("image-unreadable", f"{files.url}/{'b' * 200}"[:100])


def test_hosts_are_named_with_or_without_their_ports() -> None:
    assert is_named("http://studio:8080/a", "studio")
    assert is_named("http://Studio/a", "studio:80")
    assert is_named("https://studio/a", " x , STUDIO:443")
    assert is_named("http://[::1]:9/a", "[::1]:9")
    assert not is_named("http://studio:8080/a", "studio:80")
    assert not is_named("http://studio.example/a", "studio")
    assert not is_named("http://studio@evil.example/a", "studio")
    assert not is_named("http://studio:99999/a", "studio")
