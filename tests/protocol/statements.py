"""What a PREPARE is answered: declared by the test, or guessed from the CQL text.

A test gives a dict, or a function, from CQL text to `Statement`; what it does not declare (not in
the dict, or None from the function) is guessed by `guess`, which knows plain INSERT, SELECT,
UPDATE and DELETE, and no more.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5
from typing import TypeAlias

from .values import Columns


@dataclass(frozen=True)
class Statement:
    """The metadata of a prepared statement.

    `bind` and `result` are (name, type) pairs; `partition_key` holds the positions, among `bind`,
    of the columns of the partition key, in its order.
    """

    bind: Columns = ()
    result: Columns = ()
    partition_key: Sequence[int] = ()
    keyspace: str = "ks"
    table: str = "t"

    @staticmethod
    def of(
        bind: Iterable[tuple[str, str]] = (),
        result: Iterable[tuple[str, str]] = (),
        partition_key: Sequence[int] = (),
    ) -> "Statement":
        """The same from any iterables."""
        return Statement(tuple(bind), tuple(result), tuple(partition_key))


Declared: TypeAlias = Mapping[str, Statement] | Callable[[str], Statement | None]


@dataclass(frozen=True)
class Prepared:
    """A statement as one node knows it."""

    text: str
    statement: Statement


def statement_id(text: str) -> bytes:
    """The prepared id: a hash of the text."""
    return md5(text.encode(), usedforsecurity=False).digest()


_INT_NAMES = frozenset({"id", "k", "key", "pk", "ck", "n", "i"})

_LITERAL = re.compile(r"'(?:[^']|'')*'")
_MARKER = r"(?:\?|:\w+)"
_NAME = r'(?:"[^"]+"|\w+)'
_TABLE = re.compile(rf"\b(?:INTO|FROM|UPDATE)\s+(?:({_NAME})\s*\.\s*)?({_NAME})", re.IGNORECASE)
_INSERT = re.compile(
    r"^\s*INSERT\s+INTO\s+[^(]+\(([^)]*)\)\s*VALUES\s*\((.*?)\)\s*(?:IF\b|USING\b|;|$)",
    re.IGNORECASE | re.DOTALL,
)
_SELECT = re.compile(
    r"^\s*SELECT\s+(?:JSON\s+|DISTINCT\s+)?(.*?)\s+FROM\b", re.IGNORECASE | re.DOTALL
)
_PLACE = re.compile(
    rf"(?:({_NAME})\s*(=|<=|>=|<|>|\bIN\b|\bCONTAINS\b)\s*|\b(LIMIT|TTL|TIMESTAMP)\s+)?({_MARKER})",
    re.IGNORECASE,
)
_WHERE = re.compile(r"\bWHERE\b", re.IGNORECASE)
_CONDITION = re.compile(r"\bIF\b", re.IGNORECASE)
_SPECIAL = {"limit": "int", "ttl": "int", "timestamp": "bigint"}


def guess(text: str, types: Mapping[str, str]) -> Statement:
    """The metadata of a statement that nobody declared.

    A column has the type that `types` gives for its name; else `int` for id, k, key, pk, ck, n, i
    and what ends with `_id`, and `text` for the rest. The partition key is the first marker of an
    INSERT's values or of a WHERE. A conditional statement has no result columns, as in Cassandra;
    `SELECT *` has all of `types`.
    """
    text = _LITERAL.sub("''", text)
    table = _TABLE.search(text)
    keyspace = _plain(table[1]) if table and table[1] else "ks"
    bind, partition_key = _bind(text, types)
    name = _plain(table[2]) if table else "t"
    return Statement(bind, _result(text, types), partition_key, keyspace, name)


def _type(name: str, types: Mapping[str, str]) -> str:
    return types.get(name) or ("int" if name in _INT_NAMES or name.endswith("_id") else "text")


def _plain(name: str) -> str:
    return name[1:-1] if name.startswith('"') else name.lower()


def _bind(text: str, types: Mapping[str, str]) -> tuple[Columns, tuple[int, ...]]:
    bind: list[tuple[str, str]] = []
    insert = _INSERT.search(text)
    if insert:
        columns = [_plain(name.strip()) for name in insert[1].split(",")]
        for column, value in zip(columns, map(str.strip, insert[2].split(","))):
            if re.fullmatch(_MARKER, value):
                bind.append((value[1:] or column, _type(column, types)))
        text = text[: insert.start(2)] + text[insert.end(2) :]
    places = [_place(match, types) for match in _PLACE.finditer(text)]
    if insert:
        return (*bind, *places), (0,) if bind else ()
    where = _WHERE.search(text)
    before = where.end() if where else len(text)
    first = sum(1 for match in _PLACE.finditer(text) if match.start() < before)
    keyed = first < len(places) and places[first][0] != "[limit]"
    return tuple(places), (first,) if keyed else ()


def _place(match: re.Match[str], types: Mapping[str, str]) -> tuple[str, str]:
    column, operator, special, marker = match.groups()
    if special:
        return marker[1:] or f"[{special.lower()}]", _SPECIAL[special.lower()]
    if not column:
        return marker[1:] or "value", _type(marker[1:] or "value", types)
    name = _plain(column)
    kind = _type(name, types)
    if operator.upper() == "IN":
        return marker[1:] or f"in({name})", f"list<{kind}>"
    return marker[1:] or name, kind


def _result(text: str, types: Mapping[str, str]) -> Columns:
    select = _SELECT.search(text)
    if not select or _CONDITION.search(text):
        return ()
    if select[1] == "*":
        return tuple(types.items())
    columns = []
    for expression in select[1].split(","):
        source, _, alias = re.sub(r"\s+as\s+", "\0", expression.strip(), flags=re.I).partition("\0")
        kind = "bigint" if source.lower().startswith("count(") else _type(_plain(source), types)
        name = "count" if kind == "bigint" and source.endswith(")") else _plain(source)
        columns.append((_plain(alias) if alias else name, kind))
    return tuple(columns)


class Registry:
    """How a test has declared its statements; immutable."""

    def __init__(self, declared: Declared | None, types: Mapping[str, str] | None) -> None:
        self._declared = declared
        self._types = dict(types or {})

    def statement(self, text: str) -> Statement:
        """The declared statement, or a guessed one."""
        declared = self._declared
        if declared is None:
            found = None
        elif callable(declared):
            found = declared(text)
        else:
            found = declared.get(text)
        return found or guess(text, self._types)
