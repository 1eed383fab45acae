"""The jars of Cassandra: fetched from Maven Central once, then found on disk without network."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from ._errors import NodeError

VERSION_VARIABLE = "CASSCONC_CASSANDRA_VERSION"
_DEFAULT_VERSION = "5.0.6"
_MANIFEST = "cassconc.json"  # the name and the size of each jar of a complete folder

_log = logging.getLogger("cassconc.testing.node")


def cassandra_version() -> str:
    """The version to run: CASSCONC_CASSANDRA_VERSION, or 5.0.6; ValueError where malformed."""
    version = os.environ.get(VERSION_VARIABLE) or _DEFAULT_VERSION
    if not re.fullmatch(r"\d+(\.\d+)+[\w.-]*", version):
        raise ValueError(f"{VERSION_VARIABLE} must be a version such as 5.0.6, not {version!r}")
    return version


def find_jars() -> Path:
    """The folder with all jars of that version, fetched first where it is not there yet.

    Any number of processes may ask at once: a folder takes its final name only when it is
    complete. Raises NodeError where the jars cannot be fetched.
    """
    version = cassandra_version()
    cache = Path(os.environ.get("JGO_CACHE_DIR") or Path.home() / ".cache" / "jgo")
    folder = cache.absolute() / "cassconc" / f"cassandra-{version}"
    if not _is_complete(folder):
        _fetch(version, folder)
    return folder


def _is_complete(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / _MANIFEST).read_text())
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def _fetch(version: str, folder: Path) -> None:
    try:
        import jgo  # noqa: F401
    except ImportError:
        raise NodeError(
            f"Fetching the jars of Cassandra {version} needs jgo: "
            f"run `pip install 'cassconc[node]'`."
        ) from None
    _log.info("fetching the jars of Cassandra %s from Maven Central", version)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as scratch:
            complete = _gather(_resolve(version, Path(scratch, "m2")), Path(scratch, "jars"))
            _put_in_place(complete, folder, Path(scratch, "old"))
    except Exception as error:  # whatever jgo, requests, XML and zip files may raise
        _log.debug("the cause", exc_info=True)  # pages of it, in which the sentence would drown
        raise NodeError(
            f"The first start fetches the jars of Cassandra {version} from Maven Central, which "
            f"failed: check the network and start again ({type(error).__name__}: {error})."
        ) from None


def _resolve(version: str, repository: Path) -> list[Path]:
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext
    from jgo.parse import Coordinate

    # A repository of our own, since jgo trusts the half of a file that an interrupt left behind;
    # what the user's repository has already is read from there.
    settings = GlobalSettings.load()
    context = MavenContext(
        repo_cache=repository,
        local_repos=[settings.repo_cache],
        remote_repos={"central": MAVEN_CENTRAL_URL, **settings.repositories},
    )
    cassandra = Coordinate("org.apache.cassandra", "cassandra-all", version, scope="compile")
    found, needed = context.resolver.resolve([context.create_dependency(cassandra)])
    # One by one: eight threads took three times as long, each request building its own TLS context.
    return [
        Path(dependency.artifact.resolve())
        for dependency in (*found, *needed)
        if dependency.scope in ("compile", "runtime")
    ]


def _gather(jars: Iterable[Path], folder: Path) -> Path:
    folder.mkdir()
    sizes = {}
    for jar in jars:
        if not zipfile.is_zipfile(jar):
            raise ValueError(f"{jar} is damaged: delete it and start again")
        shutil.copyfile(jar, folder / jar.name)
        sizes[jar.name] = jar.stat().st_size
    (folder / _MANIFEST).write_text(json.dumps(sizes))
    return folder


def _put_in_place(complete: Path, folder: Path, old: Path) -> None:
    """Leaves alone what another process has put there in the meantime."""
    try:
        if not _is_complete(folder):
            if folder.exists():
                folder.rename(old)
            complete.rename(folder)
    except OSError:
        if not _is_complete(folder):
            raise
