from pathlib import Path

import pytest

from contracts.settings import BadSettingsError, load
from service.settings import GatewaySettings

BAD = [
    ("OVAM_PORT", "x", "valid integer"),
    ("OVAM_PORT", "65536", "65535"),
    ("OVAM_MAX_QUEUED", "0", "greater than or equal to 1"),
    ("OVAM_REDIS_URL", "http://x", "redis://"),
    ("OVAM_STORE_URL", "ftp://x", "s3://"),
    ("OVAM_LOG_LEVEL", "loud", "'debug'"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), BAD)
def test_a_bad_value_is_refused_by_one_line_that_names_variable_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettingsError) as caught:
        load(GatewaySettings)
    message = str(caught.value)
    assert f"{name}={value}" in message
    assert allowed in message
    assert "\n" not in message


@pytest.mark.parametrize("port", [0, 65_535])
def test_every_port_there_is_can_be_chosen(port: int) -> None:
    assert GatewaySettings(port=port).port == port


def test_every_bad_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVAM_PORT", "x")
    monkeypatch.setenv("OVAM_MAX_SIDE", "y")
    with pytest.raises(BadSettingsError, match=r"OVAM_PORT.*OVAM_MAX_SIDE"):
        load(GatewaySettings)


def test_every_setting_is_explained() -> None:
    assert all(field.description for field in GatewaySettings.model_fields.values())


def test_the_store_is_below_the_data_folder_unless_it_is_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OVAM_DATA_DIR", str(tmp_path / "my data"))
    assert load(GatewaySettings).store == f"file://{tmp_path}/my%20data/store"
    monkeypatch.setenv("OVAM_STORE_URL", "s3://bucket/prefix")
    assert load(GatewaySettings).store == "s3://bucket/prefix"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        GatewaySettings().port = 1


def test_the_data_folder_is_the_same_wherever_a_process_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/anne")
    assert GatewaySettings(data_dir="data").data_dir == tmp_path / "data"
    assert GatewaySettings(data_dir="~/data").data_dir == Path("/home/anne/data")
