"""Who may call: by which host names, and from which pages."""

import httpx2
import pytest

from service.app import create_app
from service.settings import GatewaySettings
from tests.service.serving import assert_problem, client_of

CAR = {"prompt": "a car"}
EVIL = {"Origin": "https://evil.example"}


async def answer_for(settings: GatewaySettings, host: str) -> httpx2.Response:
    async with client_of(create_app(settings)) as client:
        return await client.get("/healthz", headers={"Host": host})


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "192.0.2.1", ""])
async def test_a_gateway_of_this_machine_answers_for_localhost_and_for_addresses(settings: GatewaySettings, host: str) -> None:
    assert (await answer_for(settings, host)).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8000", "127.0.0.1.evil.example", "a b", "["])
async def test_it_does_not_for_names_that_anybody_may_let_lead_here(settings: GatewaySettings, host: str) -> None:
    assert_problem(await answer_for(settings, host), 421, "host-not-allowed", "Host")


@pytest.mark.parametrize(
    ("host", "allowed_hosts", "status"),
    [("0.0.0.0", "", 200), ("0.0.0.0", "ovam.example, other", 421), ("127.0.0.1", "*", 200), ("0.0.0.0", "gateway, Ovam", 200)],  # noqa: S104
)
async def test_one_that_listens_elsewhere_answers_for_any_name_or_for_those_that_are_set(
    settings: GatewaySettings, host: str, allowed_hosts: str, status: int
) -> None:
    found = settings.model_copy(update={"host": host, "allowed_hosts": allowed_hosts})
    assert (await answer_for(found, "ovam:8000")).status_code == status
    assert (await answer_for(found, "10.0.0.7:8000")).status_code == 200


@pytest.mark.parametrize(
    "headers", [EVIL, EVIL | {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "null"}]
)
@pytest.mark.usefixtures("worker")
async def test_a_page_of_another_site_changes_nothing(client: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    job = (await client.post("/v1/generate", json=CAR)).headers["location"]
    assert_problem(await client.post(f"{job}/cancel", headers=headers), 403, "origin-not-allowed", "Origin")
    assert_problem(await client.delete(job, headers=headers), 403, "origin-not-allowed", "Origin")
    assert (await client.get(job, headers=headers)).json()["state"] == "queued"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"},
        {"Sec-Fetch-Site": "none"},
    ],
)
@pytest.mark.usefixtures("worker")
async def test_a_page_of_its_own_and_other_programs_do(client: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    job = (await client.post("/v1/generate", json=CAR, headers=headers)).headers["location"]
    assert (await client.post(f"{job}/cancel", headers=headers)).status_code == 200


@pytest.mark.parametrize("origins", ["https://evil.example", "*"])
@pytest.mark.usefixtures("worker")
async def test_so_does_a_page_whose_origin_is_set(settings: GatewaySettings, origins: str) -> None:
    async with client_of(create_app(settings.model_copy(update={"cors_origins": origins}))) as client:
        assert (await client.post("/v1/generate", json=CAR, headers=EVIL | {"Sec-Fetch-Site": "cross-site"})).status_code == 202


async def test_no_answer_is_to_be_taken_for_something_else(client: httpx2.AsyncClient, generated: str) -> None:
    paths = ("/healthz", "/v2", "/docs", f"/v1/jobs/{generated}", f"/v1/jobs/{generated}/artifacts/image-0.png")
    for path in paths:
        assert (await client.get(path)).headers["x-content-type-options"] == "nosniff"
