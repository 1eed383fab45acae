"""One node: starting it, waiting until it is of use, and doing it harm."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ._config import Launch, java_command, write_files
from ._cql import schema_version
from ._errors import AddressInUse, NodeError
from ._log import NodeLog, has_started, lost_its_address, sees, why_it_ended
from ._process import State, Supervisor

_POLL_SECONDS = 0.05
_STOP_SECONDS = 60.0


class Node:
    """One node of a LocalCluster.

    Attributes:
        address: the loopback address that it listens on, as a str.
        log_path: the file with its log, which is gone with the cluster.

    Every method may be called from any thread, and raises NodeError once the cluster is closed.
    """

    def __init__(
        self,
        address: str,
        launch: Launch,
        supervisor: Supervisor,
        ring: Sequence[Node],
        start_timeout: float,
    ) -> None:
        self.address = address
        self._folder = supervisor.folder / address
        self.log_path: Path = self._folder / "node.log"
        self._launch = launch
        self._supervisor = supervisor
        self._ring = ring
        self._start_timeout = start_timeout
        # Written and read without a lock: whoever hangs or ends a node knows.
        self._hung = False
        self._wanted = False  # whether it was started, and neither stopped nor killed since
        self._own_log = NodeLog(self.log_path)  # of its last start

    def __repr__(self) -> str:
        return f"<Node {self.address}:{self._launch.native_port}>"

    @property
    def is_running(self) -> bool:
        """Whether its process is there, hung or not; False once the cluster is closed."""
        return not self._supervisor.closed and self._state().running

    def start(self) -> None:
        """Starts the node and returns when it serves requests.

        That is when it accepts connections, and when it and every other node that runs and does
        not hang see each other and have the same schema. It keeps the data that it had.

        Raises NodeError if it runs already, ends on its way, or is not there in `start_timeout`.
        """
        if self._state().running:
            raise NodeError(f"{self!r} runs already")
        others = [node for node in self._ring if node is not self and node._answers()]
        seeds = [node.address for node in others] or [self.address]
        write_files(self._launch, self.address, self._folder, seeds)
        self._own_log = own_log = NodeLog(self.log_path)
        other_logs = {node: NodeLog(node.log_path) for node in others}
        self._hung = False
        self._supervisor.start(
            self.address, java_command(self._launch, self._folder), self.log_path
        )

        def is_of_use() -> bool:
            state = self._state()
            log = own_log.text()
            if not state.running:
                raise self._ended(state, log, "while it started")
            peers = [node for node in others if node._answers()]
            return (
                has_started(log)
                and all(self._sees(peer, log) for peer in peers)
                and all(peer._sees(self, other_logs[peer].text()) for peer in peers)
                and self._agrees_with(peers)
            )

        if not _wait(is_of_use, self._start_timeout):
            raise NodeError(
                f"{self!r} was not up after {self._start_timeout:g} s; the end of its log: "
                f"{why_it_ended(own_log.text())}"
            )
        self._wanted = True

    def check(self) -> None:
        """Raises NodeError, with the reason from its log, if the node has ended by itself.

        Or was ended by somebody else, such as the kernel where memory is short. Nothing is raised
        for a node that hangs, or that `stop` or `kill` ended.
        """
        state = self._state()
        if self._wanted and not state.running:
            raise self._ended(state, self._own_log.text(), "while it served")

    def stop(self) -> None:
        """Ends the node in the orderly way (SIGTERM) and waits for its end; also a hung one.

        Does nothing to a node that does not run. Raises NodeError if it had to be killed after
        60 s.
        """
        self._wanted = False
        self._signal(signal.SIGTERM)
        self.resume()
        if not self._wait_for_end():
            self.kill()
            raise NodeError(f"{self!r} did not stop in {_STOP_SECONDS:g} s and was killed")

    def kill(self) -> None:
        """Ends the node at once (SIGKILL), also a hung one; nothing if it does not run.

        As on any Cassandra with `commitlog_sync: periodic`, what it acknowledged in its last tenth
        of a second may be lost to it: with several replicas others have it, and one node alone
        keeps it with `yaml={"commitlog_sync": "batch", "commitlog_sync_period": None}`.
        """
        self._wanted = False
        self._signal(signal.SIGKILL)
        if not self._wait_for_end():
            raise NodeError(f"{self!r} outlived SIGKILL by {_STOP_SECONDS:g} s")

    def hang(self) -> None:
        """Makes the node stop answering (SIGSTOP) with its connections open, until `resume`.

        When this returns, it answers nothing any more.

        Raises NodeError if it does not run.
        """
        self._hung = True
        if not self._signal(signal.SIGSTOP).running:
            raise NodeError(f"{self!r} does not run")

    def resume(self) -> None:
        """Lets a hung node go on (SIGCONT), without waiting; nothing to one that does not hang."""
        self._signal(signal.SIGCONT)
        self._hung = False

    def restart(self) -> None:
        """`stop`, if it runs, then `start`."""
        self.stop()
        self.start()

    def _state(self) -> State:
        return self._supervisor.state(self.address)

    def _signal(self, number: signal.Signals) -> State:
        return self._supervisor.signal(self.address, number)

    def _answers(self) -> bool:
        return self.is_running and not self._hung

    def _sees(self, other: Node, log: str) -> bool:
        return sees(log, other.address, self._launch.storage_port)

    def _agrees_with(self, peers: Sequence[Node]) -> bool:
        """Whether they all accept connections and have the same schema."""
        port = self._launch.native_port
        try:
            return len({schema_version(node.address, port) for node in (self, *peers)}) == 1
        except OSError:
            return False

    def _wait_for_end(self) -> bool:
        return _wait(lambda: not self._state().running, _STOP_SECONDS)

    def _ended(self, state: State, log: str, when: str) -> NodeError:
        error = AddressInUse if lost_its_address(log) else NodeError
        code = state.code or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return error(f"{self!r} {how} {when}; its log says: {why_it_ended(log)}")


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
