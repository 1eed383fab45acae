"""What a test gets for each request, and answers it with."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, cast
from uuid import UUID

from . import results
from .errors import ErrorKind, error
from .frames import Frame, Opcode
from .messages import BatchItem, Message
from .results import prelude
from .statements import Prepared, Statement, statement_id
from .values import Columns, cql_type
from .wire import UNSET, Value

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .connection import ServerConnection
    from .node import ScriptedNode

_ENVELOPE = frozenset({"warnings", "custom_payload", "tracing_id", "pieces", "stream"})


class Envelope(TypedDict, total=False):
    """What every answer can have besides its content.

    `pieces` are the sizes in which it is written, each after the client read the one before;
    `stream` is another stream than that of the request.
    """

    warnings: Sequence[str]
    custom_payload: Mapping[str, bytes | None]
    tracing_id: UUID
    pieces: Sequence[int]
    stream: int


class ServerRequest:
    """One request that arrived.

    It may be answered from any thread, at any time, in any order, and, being a hostile server's,
    more than once: the first answer ends its being counted as unanswered. Every answering method
    returns whether the connection still took the answer.

    Attributes:
        number: counts the requests of the cluster that were for the test, from 1.
        opcode: its name: "QUERY", "EXECUTE", "BATCH", ...
        text: the CQL text, of an EXECUTE that of the prepared statement; None for a BATCH.
        statement: for an EXECUTE, the prepared statement's metadata.
        values: the bound values as bytes, None for null, `UNSET`.
        consistency, serial_consistency, page_size, paging_state, timestamp (microseconds),
            keyspace, skip_metadata, tracing, custom_payload, batch_type: as in the message.
        batch: for a BATCH its statements; prepared ones have their text too.
        automatic_kind: what the server would have answered by itself; None for user statements.
        answers: how often it was answered.
    """

    def __init__(
        self, connection: "ServerConnection", frame: Frame, message: Message, kind: str | None
    ) -> None:
        self.connection = connection
        self.frame = frame
        self.message = message
        self.automatic_kind = kind
        self.number = 0
        self.answers = 0
        self.silent = False
        self.opcode = message.opcode.name
        self.stream = frame.stream
        self.version = frame.version
        self.text = message.text
        self.statement: Statement | None = None
        self.values: list[Value] = message.values
        self.consistency = message.consistency
        self.serial_consistency = message.serial_consistency
        self.page_size = message.page_size
        self.paging_state = message.paging_state
        self.timestamp = message.timestamp
        self.keyspace = message.keyspace or connection.keyspace
        self.skip_metadata = message.skip_metadata
        self.tracing = message.tracing
        self.custom_payload = message.custom_payload
        self.batch_type = message.batch_type
        self.batch: list[BatchItem] = message.batch

    def __repr__(self) -> str:
        what = self.text if self.text is not None else f"{len(self.batch)} statements"
        return f"<request {self.number} {self.opcode} on stream {self.stream}: {what}>"

    @property
    def node(self) -> "ScriptedNode":
        """The node that it was sent to."""
        return self.connection.node

    @property
    def named_values(self) -> dict[str, Value]:
        """The values by name: names in the message, or those of the prepared statement."""
        bind = self.statement.bind if self.statement else ()
        names = self.message.names or [name for name, _ in bind]
        return dict(zip(names, self.values))

    @property
    def parameters(self) -> list[Any]:
        """The values of an EXECUTE as Python values, by the types it was prepared with."""
        bind = self.statement.bind if self.statement else ()
        return [
            value if value is UNSET else cql_type(kind).decode(value)
            for (_, kind), value in zip(bind, self.values)
        ]

    def resolve(self, prepared: Mapping[bytes, Prepared]) -> None:
        """Fills in the texts of prepared statements; called by the server as the request comes."""
        known = prepared.get(self.message.statement_id or b"")
        if known:
            self.text, self.statement = known.text, known.statement
        for at, item in enumerate(self.batch):
            known = prepared.get(item.statement_id or b"")
            if known:
                self.batch[at] = BatchItem(known.text, item.statement_id, item.values)

    # -- answers

    def respond(self, opcode: int, body: bytes = b"", **envelope: "Unpack[Envelope]") -> bool:
        """Answers with any message."""
        flags, start = prelude(
            envelope.get("warnings"), envelope.get("custom_payload"), envelope.get("tracing_id")
        )
        self.answers += 1
        return self.connection.send_frame(
            envelope.get("stream", self.stream),
            opcode,
            start + body,
            version=self.version,
            flags=flags,
            pieces=envelope.get("pieces", ()),
            settle=self.settle,
        )

    def settle(self) -> None:
        """Counts this request as answered; done by the first answer, just before it is sent."""
        self.node.cluster.ledger.answered(self)

    def void(self, **envelope: "Unpack[Envelope]") -> bool:
        """Answers that it was done: what a write gets."""
        return self.respond(Opcode.RESULT, results.VOID, **envelope)

    def rows(
        self,
        columns: Iterable[tuple[str, str]] | None = None,
        rows: Iterable[Iterable[Any]] = (),
        *,
        paging_state: bytes | None = None,
        skip_metadata: bool | None = None,
        **envelope: "Unpack[Envelope]",
    ) -> bool:
        """Answers with rows.

        Arguments:
            columns: (name, type) pairs; without them, those that the statement was prepared with.
            rows: sequences of Python values.
            paging_state: says that there are more pages, and what the client has to ask with.
            skip_metadata: without it, as the client asked, unless the columns are others than it
                was told at PREPARE: then they are sent, with v5 as a change of the metadata.
            **envelope: see `Envelope`.
        """
        statement = self.statement or Statement()
        declared: Columns = statement.result
        actual = declared if columns is None else tuple((name, kind) for name, kind in columns)
        changed = None
        if skip_metadata is None:
            skip_metadata = self.skip_metadata and actual == declared
            if self.skip_metadata and actual != declared and self.version >= 5:
                changed = results.metadata_id(actual)
        body = results.rows(
            actual,
            rows,
            keyspace=statement.keyspace,
            table=statement.table,
            paging_state=paging_state,
            skip_metadata=skip_metadata,
            changed_metadata_id=changed,
        )
        return self.respond(Opcode.RESULT, body, **envelope)

    def applied(
        self,
        applied: bool = True,
        columns: Iterable[tuple[str, str]] = (),
        rows: Iterable[Iterable[Any]] = ((),),
        **envelope: "Unpack[Envelope]",
    ) -> bool:
        """Answers a conditional statement; `columns` and `rows` are those that were in its way."""
        every = [("[applied]", "boolean"), *columns]
        return self.rows(every, [(applied, *row) for row in rows], **envelope)

    def error(self, kind: ErrorKind, message: str | None = None, **info: Any) -> bool:
        """Answers with an error; `info` has its fields (see `errors.error`), or an `Envelope`'s."""
        envelope = {key: info.pop(key) for key in _ENVELOPE & set(info)}
        if kind == "unprepared" and self.message.statement_id is not None:
            info.setdefault("statement_id", self.message.statement_id)
        body = error(kind, message, version=self.version, **info)
        return self.respond(Opcode.ERROR, body, **cast("Envelope", envelope))

    def set_keyspace(self, keyspace: str, **envelope: "Unpack[Envelope]") -> bool:
        """Answers a USE."""
        self.connection.keyspace = keyspace
        return self.respond(Opcode.RESULT, results.set_keyspace(keyspace), **envelope)

    def schema_change(
        self,
        change: str,
        target: str,
        keyspace: str,
        name: str | None = None,
        arguments: Sequence[str] = (),
        **envelope: "Unpack[Envelope]",
    ) -> bool:
        """Answers a statement that changed the schema: ("CREATED", "TABLE", "ks", "t")."""
        body = results.schema_change(change, target, keyspace, name, arguments)
        return self.respond(Opcode.RESULT, body, **envelope)

    def prepared(self, statement: Statement | None = None, **envelope: "Unpack[Envelope]") -> bool:
        """Answers a PREPARE, and makes the statement known to the node."""
        text = self.text or ""
        found = self.node.prepare(text, statement)
        body = results.prepared(
            self.version,
            statement_id(text),
            found.bind,
            found.result,
            found.partition_key,
            keyspace=found.keyspace,
            table=found.table,
        )
        return self.respond(Opcode.RESULT, body, **envelope)

    def automatic(self) -> None:
        """Answers as the server would have: for what `hand_over` gave to the test."""
        self.node.cluster.answer_automatically(self)

    def silence(self) -> None:
        """Says that there will be no answer; it stays counted as unanswered."""
        self.silent = True
