"""`ovam keys`, and a gateway that will not start where anybody could reach it."""

import json

import pytest
from typer.testing import CliRunner

from contracts.state.keyring import FORM
from launcher.cli import app


@pytest.fixture
def ovam(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("OVAM_REDIS_URL", redis_url)
    return CliRunner()


def test_a_key_is_created_shown_once_listed_and_revoked(ovam: CliRunner) -> None:
    made = ovam.invoke(app, ["keys", "create", "ci", "--tenant", "team", "--days", "30", "--requests-per-second", "5"])
    assert made.exit_code == 0, made.output
    assert FORM.fullmatch(made.stdout.strip())
    assert "not shown again" in made.stderr
    listed = ovam.invoke(app, ["keys", "list"]).stdout
    assert listed.startswith("ci: tenant team, generate, read, until 20")
    assert "5 requests a second, 64 jobs waiting in a lane" in listed
    assert made.stdout.strip() not in listed
    assert ovam.invoke(app, ["keys", "revoke", "ci"]).stdout == "ci is revoked\n"
    assert ovam.invoke(app, ["keys", "list"]).stdout == ""


def test_everything_can_be_had_as_json(ovam: CliRunner) -> None:
    made = json.loads(
        ovam.invoke(app, ["keys", "create", "ops", "--scope", "admin", "--bytes", "7", "--when-full", "collect", "--json"]).stdout
    )
    key = made.pop("key")
    assert FORM.fullmatch(key)
    (listed,) = json.loads(ovam.invoke(app, ["keys", "list", "--json"]).stdout)
    assert listed == made
    assert (made["tenant"], made["scopes"], made["limits"]["bytes_kept"]) == ("ops", ["admin"], 7)
    assert (
        "at most 64 jobs waiting in a lane, 7 bytes kept (those used longest ago go)" in ovam.invoke(app, ["keys", "list"]).stdout
    )
    assert json.loads(ovam.invoke(app, ["keys", "revoke", "ops", "--json"]).stdout) == {"revoked": "ops"}


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["create", "twice"], 1, "there is a key 'twice' already"),
        (["create", "A key"], 2, "name=A key"),
        (["create", "a", "--bytes", "0"], 2, "bytes_kept=0"),
        (["create", "a", "--scope", "root"], 2, "scopes=root"),
        (["create", "a", "--days", "0"], 2, "0 is not in the range 0<x<=36500"),
        (["create", "a", "--days", "nan"], 2, "nan is not in the range"),
        (["create", "a", "--days", "1e300"], 2, "is not in the range"),
        (["revoke", "nobody"], 1, "there is no key 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(ovam: CliRunner, arguments: list[str], code: int, sentence: str) -> None:
    ovam.invoke(app, ["keys", "create", "twice"])
    done = ovam.invoke(app, ["keys", *arguments])
    assert (done.exit_code, sentence in done.stderr) == (code, True), done.output


def test_without_redis_a_sentence_says_what_to_set(ovam: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVAM_REDIS_URL", "redis://:secret@127.0.0.1:1/0")
    done = ovam.invoke(app, ["keys", "list"])
    assert done.exit_code == 1
    assert "OVAM_REDIS_URL" in done.stderr
    assert "secret" not in done.output


@pytest.mark.parametrize("command", ["serve", "up"])
def test_where_other_machines_reach_it_a_gateway_starts_only_if_somebody_decided_about_keys(
    ovam: CliRunner, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVAM_HOST", "0.0.0.0")  # noqa: S104  # nothing is bound
    done = ovam.invoke(app, [command])
    assert done.exit_code == 2
    assert "OVAM_HOST=0.0.0.0" in done.stderr
    assert "OVAM_KEYS=required" in done.stderr
    assert "OVAM_KEYS=off" in done.stderr
