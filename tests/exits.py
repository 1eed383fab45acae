"""Programs of their own, with a scripted session."""

from __future__ import annotations

from typing import List

from tests.programs import run_program


def run_python(
    code: str, *, first: str = "", preamble: bool = True, limit: float = 20.0
) -> List[str]:
    """Run a program of its own and return the lines that it printed.

    Fails when it has not ended by itself after `limit` seconds, or ends with anything but 0.

    Args:
        code: The program.
        first: What comes before all else.
        preamble: Whether the names of `_PREAMBLE` are there.
        limit: In seconds.
    """
    program = "\n".join([first, _PREAMBLE if preamble else "", code])
    ended = run_program(program, limit=limit)
    assert ended.code == 0, f"it ended with {ended.code}: {ended.lines}"
    return ended.lines


_PREAMBLE = """
import os, sys, threading, time
from cassconc import *
from cassconc.testing import *

def wait_for_exit():
    '''Wait until the main thread has come to its end: executors refuse work from then on.'''
    last = CassandraExecutor(ScriptedSession())  # whoever was made last is closed last
    for _ in range(10_000):
        try:
            last.starmap("SELECT 1", [])
        except RuntimeError:
            return
        time.sleep(0.001)
    print("the main thread does not end")

def after_main(code):
    '''Run code on a daemon thread when the main thread has come to its end.'''
    def run():
        wait_for_exit()
        code()
    threading.Thread(target=run, daemon=True).start()

def said(code):
    '''Run code and print what it raises.'''
    try:
        code()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}")
    else:
        print("accepted")

"""
