"""The OVAM_* variables of all processes together."""

import os
from collections.abc import Iterator
from difflib import get_close_matches

from contracts.settings import PREFIX
from ovam_client.drivers import KEY, URL
from service.settings import GatewaySettings
from worker.settings import WorkerSettings


class EverySetting(GatewaySettings, WorkerSettings):
    """The settings of gateway and worker in one, so that a bad value is reported once."""


def unknown_variables() -> Iterator[tuple[str, str]]:
    """Name the variables that look like settings but are none, each with a hint."""
    known = [f"{PREFIX}{name.upper()}" for name in EverySetting.model_fields] + [URL, KEY]
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            close = get_close_matches(name, known, n=1)
            yield name, f"did you mean {close[0]}?" if close else "see the table of settings in README.md"
