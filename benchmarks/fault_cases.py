"""What goes wrong: each fault is a list of steps, taken when so many statements have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cassandra.policies import ConstantSpeculativeExecutionPolicy, SpeculativeExecutionPolicy

from benchmarks.fault_load import Run, Settings
from benchmarks.fault_ring import PATIENT, connected, lost
from cassconc.testing.node import LocalCluster


@dataclass
class Scene:
    """What a step can lay its hands on."""

    ring: LocalCluster
    session: Any
    keyspace: str
    settings: Settings
    run: Run
    lost: int | None = None  # found under way, where it can't be found at the end

    def execute(self, text: str) -> None:
        """Run a statement in a session of its own."""
        with connected(self.ring, PATIENT) as session:
            session.execute(text, timeout=PATIENT)


@dataclass(frozen=True)
class Step:
    """Something that happens.

    Attributes:
        at: The part of the statements after whose end it happens.
        act: What happens.
        within: How many seconds after the step before it happens at the latest.
    """

    at: float
    act: Callable[[Scene], object]
    within: float = 240.0


@dataclass(frozen=True)
class Case:
    """A fault.

    Attributes:
        name: Its name, which is its row's in the table.
        steps: What happens.
        all_written: Whether every statement has to succeed with the retry.
        short: Whether the short form has it.
        compared: Whether the short form runs it with the driver's load, too.
        speculative: The speculative execution policy of the profile.
        overloaded: Whether it needs the one node that refuses what is too much for it.
    """

    name: str
    steps: Sequence[Step]
    all_written: bool = True
    short: bool = False
    compared: bool = False
    speculative: SpeculativeExecutionPolicy | None = None
    overloaded: bool = False


def play(case: Case, scene: Scene) -> bool:
    """Take the steps of a case; whether the load was still running at the first of them."""
    under_load = True
    for number, step in enumerate(case.steps):
        count = int(step.at * scene.settings.statements)
        running = scene.run.progress.wait_for(count, step.within)
        if number == 0:
            under_load = running
        step.act(scene)
    return under_load


def _wait(scene: Scene) -> None:
    """Wait as long as a hung node hangs, or until the load has ended."""
    scene.run.progress.wait_for(scene.settings.statements + 1, scene.settings.hung_for)


def _each(*numbers: int) -> Callable[[str], Callable[[Scene], None]]:
    def of(method: str) -> Callable[[Scene], None]:
        def act(scene: Scene) -> None:
            for number in numbers:
                getattr(scene.ring.nodes[number], method)()

        return act

    return of


def _hang_for_a_time(scene: Scene) -> None:
    scene.ring.nodes[0].hang()
    _wait(scene)
    scene.ring.nodes[0].resume()


def _kill_for_a_time(*numbers: int) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        for number in numbers:
            scene.ring.nodes[number].kill()
        time.sleep(min(5.0, scene.settings.hung_for))
        for number in numbers:
            scene.ring.nodes[number].start()

    return act


def _drop_keyspace(scene: Scene) -> None:
    """What was written so far has to be there; after the drop nobody can tell.

    A drop takes seconds: the rest of the input waits for it, so that some of it comes too late.
    """
    account = scene.run.account
    with connected(scene.ring, PATIENT) as session:
        if scene.run.is_ours:
            account.hold(0)
            scene.lost = lost(scene.ring, scene.keyspace, account)
            account.hold(int(0.7 * account.statements))
        session.execute(f"DROP KEYSPACE {scene.keyspace}", timeout=PATIENT)
        account.hold(None)


def _alter(change: str) -> Callable[[Scene], None]:
    return lambda scene: scene.execute(f"ALTER TABLE {scene.keyspace}.writes {change}")


CASES = [
    Case("none", []),
    Case("one node killed", [Step(0.2, _each(0)("kill"))], short=True),
    Case("one node hung, resumed", [Step(0.2, _hang_for_a_time)], short=True, compared=True),
    Case("one node hung for good", [Step(0.2, _each(0)("hang"))]),
    Case(
        "one node hung for good, speculative execution",
        [Step(0.2, _each(0)("hang"))],
        speculative=ConstantSpeculativeExecutionPolicy(0.5, 1),
    ),
    Case("one node stopped, restarted", [Step(0.2, _each(0)("restart"))]),
    Case("two of three killed, restarted", [Step(0.2, _kill_for_a_time(0, 1))], short=True),
    Case("all three killed, restarted", [Step(0.2, _kill_for_a_time(0, 1, 2))]),
    Case(
        "rolling restart",
        [Step(at, _each(number)("restart")) for number, at in enumerate((0.1, 0.35, 0.6))],
    ),
    Case(
        "session.shutdown()",
        [Step(0.5, lambda scene: scene.session.shutdown())],
        all_written=False,
        short=True,
    ),
    Case(
        "cluster.shutdown()",
        [Step(0.5, lambda scene: scene.session.cluster.shutdown())],
        all_written=False,
    ),
    Case("keyspace dropped", [Step(0.2, _drop_keyspace)], all_written=False, short=True),
    Case(
        "table altered",
        [
            Step(0.2, _alter("ADD more text")),
            Step(0.4, _alter("ADD most int")),
            Step(0.6, _alter("DROP more")),
            Step(0.8, _alter("DROP most")),
        ],
        short=True,
    ),
    Case("node overloaded", [], overloaded=True),
]

# One node that answers what is beyond a rate with the error Overloaded, instead of waiting.
OVERLOADED = {
    "native_transport_rate_limiting_enabled": True,
    "native_transport_max_requests_per_second": 300,
    "native_transport_throw_on_overload": True,
}
