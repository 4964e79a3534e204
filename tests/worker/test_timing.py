"""Where the time of an attempt goes, and the spans that say so."""

import inspect
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from obstore.store import MemoryStore
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from contracts.schema.errors import Code, Failure, ServiceError
from contracts.schema.jobs import JobRecord
from contracts.schema.probe import ProbeJob
from contracts.state.store import ArtifactStore, File
from worker import timing
from worker.metrics import Metrics
from worker.timed_store import TimedStore
from worker.timing import Stopwatch, Timing, phase

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(timing, "tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def filed(**fields: object) -> JobRecord:
    job = ProbeJob(job_id="1" * 26, model="tiny", box=(0, 0, 8, 8), words=["a"], prompt="a")
    return JobRecord.filed(job, timedelta(hours=1)).model_copy(update=fields)


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_what_overlaps_counts_once() -> None:
    watch = Stopwatch()
    watch.start()
    watch.start()
    time.sleep(0.02)
    watch.stop()
    assert watch.seconds == 0
    watch.stop()
    assert 0.02 <= watch.seconds < 1


def test_the_phases_of_an_attempt_are_children_of_the_request_that_filed_it(spans: InMemorySpanExporter) -> None:
    record = filed(traceparent=PARENT)
    measured = Timing(record)
    with measured.of_attempt(record):
        with phase("load"):
            pass
        measured.begin()
        with measured.measured("device"):
            pass
        with phase("store"):
            pass
        measured.failed(Failure(code=Code.OUT_OF_MEMORY, detail="too large"))
    found = by_name(spans)
    assert set(found) == {"job probe", "load", "wait", "device", "store"}
    assert {f"{span.context.trace_id:032x}" for span in found.values()} == {PARENT.split("-")[1]}
    job = found.pop("job probe")
    assert f"{job.parent.span_id:016x}" == PARENT.split("-")[2]
    assert {span.parent.span_id for span in found.values()} == {job.context.span_id}
    assert job.attributes["ovam.job.id"] == record.id
    assert (job.attributes["error.type"], job.status.description) == ("out-of-memory", "too large")
    assert found["wait"].start_time == pytest.approx(record.created_at.timestamp() * 1e9, abs=1e6)


def test_the_wait_ends_with_the_first_turn_and_is_never_negative() -> None:
    record = filed(created_at=filed().created_at + timedelta(hours=1))  # the gateway's clock is ahead
    measured = Timing(record)
    assert measured.waited is None
    measured.begin()
    measured.begin()
    assert measured.waited == 0


def test_a_job_that_lets_another_in_does_not_count_its_time() -> None:
    measured = Timing(filed())
    with measured.measured("device"), measured.interrupted():
        time.sleep(0.02)
    assert measured.watches["device"].seconds < 0.02


def test_without_an_attempt_nothing_is_measured() -> None:
    with phase("store"):
        assert timing.CURRENT.get() is None


@pytest.mark.parametrize("parent", [None, "", "nonsense", "00-0-0-00"])
def test_a_record_without_a_usable_parent_begins_a_trace(parent: str | None, spans: InMemorySpanExporter) -> None:
    record = filed(traceparent=parent)
    with Timing(record).of_attempt(record):
        pass
    assert by_name(spans)["job probe"].parent is None


def test_whatever_a_job_reads_or_writes_is_timed() -> None:
    work = {name for name, member in vars(ArtifactStore).items() if inspect.iscoroutinefunction(member) and name[0] != "_"}
    assert work - vars(TimedStore).keys() == {"probe", "remove_empty", "manifest", "copy"}, "nothing that a job does"


async def test_bytes_are_counted_once_they_have_moved_and_failures_by_their_operation() -> None:
    metrics = Metrics()
    store = TimedStore(ArtifactStore(MemoryStore()), metrics)

    def counted(operation: str, what: str = "transferred_bytes") -> float | None:
        return metrics.registry.get_sample_value(f"ovam_store_{what}_total", {"operation": operation})

    await store.put("a", b"0123456789")
    files = [File("b", "text/plain", b"123"), File("c", "text/plain", b"4567")]
    artifacts = [await store.write("job", 1, files[0])]
    await store.commit("job", 2, files)
    assert counted("write") == 10 + 3 + 7
    await store.seal("job", 1, artifacts)
    await store.copy("a", "d")
    for read, moved in (
        (store.get("d"), 10),
        (store.get("none"), 0),
        (store.get_range("a", 2, 5), 3),
        (store.get_start("a", 4), 4),
        (store.get_start("none", 4), 0),
        (store.get_ranges("a", [(0, 2), (3, 6)]), 5),
        (store.get_ranges("none", [(0, 2)]), 0),
    ):
        before = counted("read") or 0
        await read
        assert (counted("read") or 0) - before == moved
    await store.delete("a")
    assert await store.delete_folder("jobs/job") == 5
    assert counted("delete") is None
    with pytest.raises(ServiceError):
        await store.get_range("a", 0, 4)
    assert (counted("read", "errors"), counted("read"), counted("write")) == (1, 22, 20)
