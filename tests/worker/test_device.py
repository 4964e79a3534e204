"""The gate to the device."""

import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from functools import partial

import pytest

from worker.device import SAVED, DeviceGate, Priority


@pytest.fixture
def gate() -> Iterator[DeviceGate]:
    with DeviceGate.open() as gate:
        yield gate


def occupied(gate: DeviceGate) -> threading.Event:
    """Keep the device busy until the event is set."""
    begun, release = threading.Event(), threading.Event()
    gate.submit(Priority.GENERATE, lambda: (begun.set(), release.wait(10)))
    assert begun.wait(10)
    return release


def test_waiting_work_is_done_by_priority_then_in_order(gate: DeviceGate) -> None:
    release, done = occupied(gate), []
    names = [("g", Priority.GENERATE), ("o", Priority.OPTIMIZE), ("a", Priority.INTERACTIVE), ("b", Priority.INTERACTIVE)]
    outcomes = [gate.submit(priority, lambda name=name: done.append(name)) for name, priority in names]
    release.set()
    for outcome in outcomes:
        outcome.result(10)
    assert done == ["a", "b", "o", "g"]


def test_tenants_take_turns(gate: DeviceGate) -> None:
    release, done = occupied(gate), []
    asked = [("a1", "anne"), ("a2", "anne"), ("a3", "anne"), ("b1", "bert"), ("b2", "bert"), ("c1", "carl")]

    def ask(name: str, tenant: str) -> Future[None]:
        return gate.submit(Priority.GENERATE, lambda: done.append(name), tenant)

    outcomes = [ask(*each) for each in asked]
    outcomes.append(gate.submit(Priority.INTERACTIVE, lambda: done.append("urgent"), "anne"))
    outcomes.append(gate.submit(Priority.GENERATE, lambda: outcomes.extend([ask("d1", "dora"), ask("d2", "dora")]), "bert"))
    release.set()
    for outcome in outcomes:
        outcome.result(10)
    assert done == ["urgent", "a1", "b1", "c1", "a2", "b2", "a3", "d1", "d2"]


def test_a_tenant_that_asks_for_less_than_its_part_saves_up_some_turns(gate: DeviceGate) -> None:
    for _ in range(3 * SAVED):
        gate.submit(Priority.GENERATE, lambda: None, "anne").result(10)
    release, done = occupied(gate), []
    names = [*["anne"] * 3, *["bert"] * (SAVED + 2)]
    outcomes = [gate.submit(Priority.GENERATE, lambda name=name: done.append(name), name) for name in names]
    release.set()
    for outcome in outcomes:
        outcome.result(10)
    assert done == [*["bert"] * (SAVED + 1), "anne", "bert", "anne", "anne"]


def test_urgent_work_runs_when_longer_work_breathes_and_nothing_else_does(gate: DeviceGate) -> None:
    begun, waiting, done = threading.Event(), threading.Event(), []

    def long() -> None:
        begun.set()
        waiting.wait(10)
        gate.breathe()
        done.append("long")

    outcomes = [gate.submit(Priority.OPTIMIZE, long)]
    begun.wait(10)
    outcomes.append(gate.submit(Priority.OPTIMIZE, lambda: done.append("equal")))
    outcomes.append(gate.submit(Priority.INTERACTIVE, lambda: done.append("urgent")))
    waiting.set()
    for outcome in outcomes:
        outcome.result(10)
    assert done == ["urgent", "long", "equal"]


def test_an_error_of_urgent_work_does_not_reach_the_work_it_interrupted(gate: DeviceGate) -> None:
    begun, waiting = threading.Event(), threading.Event()

    def long() -> str:
        begun.set()
        waiting.wait(10)
        gate.breathe()
        return "fine"

    outcome = gate.submit(Priority.GENERATE, long)
    begun.wait(10)
    urgent = gate.submit(Priority.INTERACTIVE, lambda: 1 / 0)
    waiting.set()
    assert outcome.result(10) == "fine"
    with pytest.raises(ZeroDivisionError):
        urgent.result(10)


def test_work_canceled_while_it_waits_is_never_begun(gate: DeviceGate) -> None:
    release, done = occupied(gate), []
    outcome = gate.submit(Priority.GENERATE, lambda: done.append("canceled"))
    assert outcome.cancel()
    release.set()
    gate.submit(Priority.GENERATE, lambda: done.append("next")).result(10)
    assert done == ["next"]


def test_all_work_is_done_on_one_thread(gate: DeviceGate) -> None:
    threads = {gate.submit(Priority.INTERACTIVE, threading.get_ident).result(10) for _ in range(4)}
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_work_that_still_waits_at_the_end_is_canceled() -> None:
    with DeviceGate.open() as gate:
        release = occupied(gate)
        outcome = gate.submit(Priority.GENERATE, lambda: None)
        threading.Timer(0.1, release.set).start()
    with pytest.raises(CancelledError):
        outcome.result(0)


def test_longer_work_lets_urgent_work_in_at_every_breath(gate: DeviceGate) -> None:
    begun, waiting, again, done = threading.Event(), threading.Event(), threading.Event(), []

    def long() -> None:
        begun.set()
        for step in (waiting, again):
            step.wait(10)
            gate.breathe()
        done.append("long")

    outcome = gate.submit(Priority.GENERATE, long)
    begun.wait(10)
    first = gate.submit(Priority.INTERACTIVE, lambda: done.append("first"))
    waiting.set()
    first.result(10)
    gate.submit(Priority.OPTIMIZE, lambda: done.append("second"))
    again.set()
    outcome.result(10)
    assert done == ["first", "second", "long"]


def test_work_that_interrupts_is_interrupted_only_by_what_is_more_urgent_than_itself(gate: DeviceGate) -> None:
    begun, waiting, inside, on, done = *(threading.Event() for _ in range(4)), []

    def long() -> None:
        begun.set()
        waiting.wait(10)
        gate.breathe()
        done.append("generate")

    def shorter() -> None:
        inside.set()
        on.wait(10)
        gate.breathe()
        done.append("optimize")

    outcomes = [gate.submit(Priority.GENERATE, long)]
    begun.wait(10)
    outcomes.append(gate.submit(Priority.OPTIMIZE, shorter))
    waiting.set()
    inside.wait(10)
    outcomes.append(gate.submit(Priority.OPTIMIZE, lambda: done.append("equal")))
    outcomes.append(gate.submit(Priority.INTERACTIVE, lambda: done.append("urgent")))
    on.set()
    for outcome in outcomes:
        outcome.result(10)
    assert done == ["urgent", "optimize", "equal", "generate"]


def test_the_end_waits_for_work_under_way_which_it_does_not_interrupt() -> None:
    begun, done = threading.Event(), []

    def long() -> None:
        begun.set()
        for _ in range(20):
            time.sleep(0.01)
            gate.breathe()
        done.append("long")

    with DeviceGate.open() as gate:
        outcome = gate.submit(Priority.GENERATE, long)
        begun.wait(10)
    outcome.result(0)
    assert done == ["long"]
    assert not any(thread.name == "device" and thread.is_alive() for thread in threading.enumerate())


def test_an_idle_gate_holds_on_to_nothing_that_its_work_has_used(gate: DeviceGate) -> None:
    class Tensor:
        pass

    tensor = Tensor()
    held = weakref.ref(tensor)
    gate.submit(Priority.GENERATE, partial(id, tensor)).result(10)
    del tensor
    deadline = time.monotonic() + 5
    while held() is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
