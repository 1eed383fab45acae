"""Every error of the protocol that reaches a caller: its kind, its exception, its fields."""

from __future__ import annotations

from typing import Any

from cassandra import (
    AlreadyExists,
    FunctionFailure,
    InvalidRequest,
    ReadFailure,
    ReadTimeout,
    Unauthorized,
    Unavailable,
    WriteFailure,
    WriteTimeout,
    protocol,
)

from tests.protocol.errors import ErrorKind

REPLICAS = {"consistency": 4, "received_responses": 1, "required_responses": 2}
ERRORS: list[tuple[ErrorKind, type[BaseException], dict[str, Any]]] = [
    ("server_error", protocol.ServerError, {}),
    ("overloaded", protocol.OverloadedErrorMessage, {}),
    ("is_bootstrapping", protocol.IsBootstrappingErrorMessage, {}),
    ("truncate_error", protocol.TruncateError, {}),
    ("unavailable", Unavailable,
     {"consistency": 4, "required_replicas": 3, "alive_replicas": 2}),
    ("write_timeout", WriteTimeout, {**REPLICAS, "write_type": "CAS"}),
    ("read_timeout", ReadTimeout, {**REPLICAS, "data_retrieved": True}),
    ("write_failure", WriteFailure, {**REPLICAS, "write_type": "BATCH", "failures": 2}),
    ("read_failure", ReadFailure, {**REPLICAS, "data_retrieved": True, "failures": 1}),
    ("function_failure", FunctionFailure,
     {"keyspace": "k", "function": "fun", "arg_types": ["int", "text"]}),
    ("cdc_write_failure", protocol.CDCWriteException, {}),
    ("cas_write_unknown", protocol.ErrorMessage, REPLICAS),
    ("syntax_error", protocol.SyntaxException, {}),
    ("unauthorized", Unauthorized, {}),
    ("invalid", InvalidRequest, {}),
    ("config_error", protocol.ConfigurationException, {}),
    ("already_exists", AlreadyExists, {"keyspace": "k", "table": "t"}),
    ("bad_credentials", protocol.BadCredentials, {}),
    ("protocol_error", protocol.ProtocolException, {}),
]  # fmt: skip
