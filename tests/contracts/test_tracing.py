"""When a process is traced, by which exporter, and what a log line says of it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, get_current_span, use_span

from contracts.logs import with_trace
from contracts.settings import BadSettingsError
from contracts.tracing import configure_tracing, context_of, exporter_name
from tests.packaging.files import ROOT

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACED = f"""
import logging, structlog
from opentelemetry import trace
from contracts.logs import configure_logging
from contracts.tracing import configure_tracing, context_of
configure_logging("info")
configure_tracing("ovam-test")
with structlog.contextvars.bound_contextvars(job_id="j1"):
    with trace.get_tracer("t").start_as_current_span("s", context_of("{PARENT}")):
        logging.getLogger("library").warning("said %s", "so")
        structlog.get_logger("ours").info("event", number=1)
"""


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, "otlp_proto_http"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "otlp_proto_grpc"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp_proto_http"),
    ],
)
def test_the_standard_variables_choose_the_exporter(
    environment: dict[str, str], name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert exporter_name() == name


@pytest.mark.parametrize(
    ("variable", "value"), [("OTEL_TRACES_EXPORTER", "nowhere"), ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "pigeon")]
)
def test_what_is_not_there_is_named(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x")
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadSettingsError, match=rf"{variable}.*{value}"):
        configure_tracing("test")


@pytest.mark.parametrize("parent", [None, "", "nonsense"])
def test_nonsense_is_no_parent(parent: str | None) -> None:
    assert not get_current_span(context_of(parent)).get_span_context().is_valid


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A collector of traces: its address, and what it was sent."""
    sent = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", sent
        server.shutdown()


def test_spans_reach_a_collector_and_every_line_is_json_that_names_trace_and_job(
    collector: tuple[str, list[tuple[str, bytes]]],
) -> None:
    address, sent = collector
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_EXPORTER_OTLP_COMPRESSION": "none"}
    done = subprocess.run(
        [sys.executable, "-c", TRACED], cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["event"], line["logger"], line["level"]) for line in lines] == [
        ("said so", "library", "warning"),
        ("event", "ours", "info"),
    ]
    assert {(line["job_id"], line["trace_id"]) for line in lines} == {("j1", PARENT.split("-")[1])}
    assert [path for path, _ in sent] == ["/v1/traces"]
    assert b"ovam-test" in sent[0][1]
    assert bytes.fromhex(PARENT.split("-")[1]) in sent[0][1]


def test_a_line_names_its_span_and_none_outside_of_one() -> None:
    assert with_trace(None, "", {"event": "it"}) == {"event": "it"}
    with use_span(NonRecordingSpan(SpanContext(trace_id=1, span_id=2, is_remote=False))):
        assert with_trace(None, "", {}) == {"trace_id": f"{1:032x}", "span_id": f"{2:016x}"}
