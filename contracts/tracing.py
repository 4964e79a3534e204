"""Traces by OpenTelemetry, from a request to the device. Without its SDK, or without an exporter to send to, nothing is traced.

A process is traced by the standard variables alone: OTEL_EXPORTER_OTLP_ENDPOINT says where to, OTEL_TRACES_SAMPLER how much,
OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES under which name, OTEL_SDK_DISABLED not at all.
"""

import os
from importlib.metadata import entry_points

from opentelemetry import propagate, trace
from opentelemetry.context import Context

from contracts.settings import BadSettingsError

TRACEPARENT = "traceparent"  # W3C Trace Context's header, and a job record's field
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
EXPORTERS = "opentelemetry_traces_exporter"  # the group of entry points by which exporters are installed
PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
REMEDY = "install `ovam-service[otel]`, or unset the variable"


def configure_tracing(service: str) -> None:
    """Trace this process as `service`, unless the environment names it, when the environment asks for it.

    BadSettingsError when it asks for what is not installed.
    """
    name = exporter_name()
    if name is None:
        return
    try:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  # an extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise BadSettingsError(f"OTEL_TRACES_EXPORTER: the OpenTelemetry SDK is missing; {REMEDY}") from error
    found = entry_points(group=EXPORTERS, name=name)
    if not found:
        raise BadSettingsError(f"OTEL_TRACES_EXPORTER: there is no exporter {name!r}; {REMEDY}")
    own = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": service}
    provider = TracerProvider(resource=Resource.create(own))
    provider.add_span_processor(BatchSpanProcessor(next(iter(found)).load()()))
    trace.set_tracer_provider(provider)


def exporter_name() -> str | None:
    """The entry point of the exporter that the environment asks for; None for none. BadSettingsError for an unknown protocol."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter == "none" or not (exporter or any(map(os.environ.get, ENDPOINTS))):
        return None
    if exporter not in ("", "otlp"):
        return exporter
    variable = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
    protocol = os.environ.get(variable) or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    if protocol not in PROTOCOLS:
        raise BadSettingsError(f"{variable}={protocol}: allowed: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[protocol]


def traceparent() -> str | None:
    """The span under way, as W3C Trace Context writes it; None without one."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get(TRACEPARENT)


def context_of(parent: str | None) -> Context:
    """The context in which a span is the child of a `traceparent`; that of a new trace without one, or for nonsense."""
    return propagate.extract({TRACEPARENT: parent} if parent else {}, context=Context())
