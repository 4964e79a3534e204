"""The worker's settings: what they default to, and what is refused."""

import socket

import pytest

from contracts.settings import BadSettingsError, load
from worker.settings import BUNDLED, BUNDLED_CLIP, JOBS_ON_GPU, WorkerSettings


@pytest.mark.parametrize(
    ("models", "chosen", "default"),
    [
        ({"a": "x", "world": "y"}, "", "world"),
        ({"b": "x", "a": "y"}, "", "b"),
        ({"b": "x", "world": "y"}, "b", "b"),
    ],
)
def test_the_default_model_is_the_chosen_one_else_the_bundled_one_else_the_first(
    models: dict[str, str], chosen: str, default: str
) -> None:
    assert WorkerSettings(models=models, default_model=chosen).default == default


def test_without_settings_the_bundled_model_is_served_under_the_names_of_host_and_process() -> None:
    settings = WorkerSettings()
    assert settings.models == {"world": str(BUNDLED)}
    assert (BUNDLED / "model_index.json").is_file()
    assert settings.preload
    assert settings.worker_name.startswith(f"{socket.gethostname()}-")


def test_the_bundled_clip_is_taken_where_the_bundled_model_is_all_that_is_served() -> None:
    assert WorkerSettings().chosen_clip == str(BUNDLED_CLIP)
    assert (BUNDLED_CLIP / "model.safetensors").is_file()
    assert WorkerSettings(models={"mine": str(BUNDLED)}).chosen_clip == str(BUNDLED_CLIP)
    assert WorkerSettings(models={"world": str(BUNDLED), "sd15": "x"}).chosen_clip == ""
    assert [WorkerSettings(clip=given).chosen_clip for given in ("", "other")] == ["", "other"]


def test_a_gpu_draws_several_jobs_together_unless_a_setting_says_how_many() -> None:
    free, told = WorkerSettings(), WorkerSettings(batch_jobs=3)
    assert [each.jobs_at_once(on_cpu=on_cpu) for each in (free, told) for on_cpu in (True, False)] == [1, JOBS_ON_GPU, 3, 3]


GOOD = {"OVAM_DEVICE": "cuda:10", "OVAM_TRACE_CACHE_BYTES": "0", "OVAM_GRACE_SECONDS": "0", "OVAM_REDELIVERY_SECONDS": "0.5"}


@pytest.mark.parametrize(("variable", "value"), GOOD.items())
def test_what_is_at_the_edge_of_what_can_be_used_can_be_used(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    assert str(getattr(load(WorkerSettings), variable.removeprefix("OVAM_").lower())).removesuffix(".0") == value


BAD = {
    "OVAM_MODELS": ['{"A b": "x"}', '{"a": " "}', "{}", "no json"],
    "OVAM_DEFAULT_MODEL": ["none"],
    "OVAM_DEVICE": ["tpu", "cuda:", "cpu0"],
    "OVAM_DTYPE": ["float8", "float32x"],
    "OVAM_MAX_LOADED_MODELS": ["0", "65"],
    "OVAM_TRACE_CACHE_BYTES": ["-1"],
    "OVAM_BATCH_IMAGES": ["0"],
    "OVAM_BATCH_JOBS": ["-1", "65"],
    "OVAM_BATCH_WINDOW_SECONDS": ["-0.1", "10.1"],
    "OVAM_LONG_JOBS": ["0", "17"],
    "OVAM_SHORT_JOBS": ["0"],
    "OVAM_CRF_BACKEND": ["pydensecrf"],
    "OVAM_REDELIVERY_SECONDS": ["0.4"],
    "OVAM_GRACE_SECONDS": ["-1"],
    "OVAM_JANITOR_SECONDS": ["0"],
    "OVAM_STORE_BYTES": ["-1"],
    "OVAM_THREADS": ["-1"],
    "OVAM_WORKER_NAME": [""],
}


@pytest.mark.parametrize(("variable", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_value_that_cannot_be_used_is_refused_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadSettingsError, match=rf"^{variable}"):
        load(WorkerSettings)
