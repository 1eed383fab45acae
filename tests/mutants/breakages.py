"""The breakages: each breaks one promise in one place, and names the tests that must fail then."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROMISES = range(1, 24)


def guarding_files(promise: int) -> list[str]:
    """Return the files with the tests of a promise, relative to the repository."""
    paths = ROOT.glob(f"tests/promises/test_{promise:02}_*.py")
    return sorted(path.relative_to(ROOT).as_posix() for path in paths)


def _file_of(promise: int, test: str) -> str:
    name = test.partition("[")[0]
    for path in guarding_files(promise):
        if f"\ndef {name}(" in (ROOT / path).read_text():
            return path
    raise ValueError(f"no file of promise {promise} has a test {name}")


@dataclass(frozen=True)
class Breakage:
    """A change to the code that breaks a promise.

    Attributes:
        promise: Its number.
        module: The file in `cassconc` that is changed.
        old: What is replaced there, which must be there once.
        new: What comes in its place.
        broken: What the code does then.
        tests: The tests that must fail then, by their names in the files of the promise.
    """

    promise: int
    module: str
    old: str
    new: str
    broken: str
    tests: tuple[str, ...]

    @property
    def test_ids(self) -> list[str]:
        """The tests as pytest names them; raises `ValueError` if there is no such test."""
        return [f"{_file_of(self.promise, test)}::{test}" for test in self.tests]

    def changed(self, text: str) -> str:
        """Return the text of the module with the breakage; raises `ValueError` if it is stale."""
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.module} has {count} places, not one, with: {self.old!r}")
        return text.replace(self.old, self.new)


BREAKAGES = [
    # Nothing is lost, nothing hangs
    Breakage(
        1,
        "_watch.py",
        "is_shutdown = is_session_shutdown(self._session)",
        "is_shutdown = False",
        "nobody looks whether the session was shut down",
        ("test_what_a_shut_down_session_forgets_ends[None]",),
    ),
    Breakage(
        1,
        "_adapter.py",
        "        except Exception as error:\n            sink.ended(call, attempt, None, error)\n",
        "        except Exception:\n            pass\n",
        "an answer of which no result can be made ends nothing",
        ("test_an_answer_that_makes_no_result_ends_the_call",),
    ),
    Breakage(
        1,
        "_adapter.py",
        "        except BaseException as error:\n            if isinstance",
        "        except Exception as error:\n            if isinstance",
        "a call whose send was interrupted stays in flight for ever",
        ("test_an_interrupt_while_a_call_is_sent_harms_no_other_call",),
    ),
    Breakage(
        1,
        "_futures.py",
        "        for signal in self.signals:\n            signal.set()\n",
        "",
        "who waits in `result` is not told of the end",
        ("test_who_waits_in_result_is_told",),
    ),
    Breakage(
        1,
        "_lines.py",
        "self._in_flight.discard(call)\n        self._unsent.pop(call, None)\n        if (",
        "self._unsent.pop(call, None)\n        if (",
        "a call that has ended keeps its place, and those that wait are never sent",
        ("test_of_two_outcomes_at_once_one_ends_the_call_and_one_call_follows[answer]",),
    ),
    Breakage(
        2,
        "_consumer.py",
        "self._error = error\n",
        "self._error = None\n",
        "an error of the input is taken for its end",
        ("test_any_of_several_inputs_may_raise",),
    ),
    Breakage(
        2,
        "_consumer.py",
        "            if self._size == math.inf:\n                self._raise_error()\n",
        "",
        "without `buffersize`, `map` itself raises nothing, and what was queued is sent",
        ("test_without_buffersize_map_raises_at_the_call",),
    ),
    Breakage(
        2,
        "_calls.py",
        "    if len(given) != 2:\n        raise no_pair(item, position)\n    return given\n",
        "    return given[:2] if len(given) > 1 else (given[0] if given else '', None)\n",
        "a malformed item is sent as far as it goes",
        ("test_an_item_that_is_no_pair_is_raised_at_its_place",),
    ),
    Breakage(
        3,
        "_process.py",
        "    helper_threads.serve(lambda: all(gate.is_idle() for gate, _ in gates))\n",
        "",
        "the interpreter exits without waiting for submitted work",
        ("test_exit_waits_for_what_is_in_flight_and_what_waits",),
    ),
    Breakage(
        3,
        "_process.py",
        "        if closes:\n            gate.close(_exiting)\n",
        "        pass\n",
        "`submit` is accepted when the main thread has ended",
        ("test_from_the_end_of_the_main_thread_submit_is_refused[executor.submit(int)]",),
    ),
    Breakage(
        3,
        "_executor.py",
        "                self._gate.wait()\n",
        "",
        "`shutdown` does not wait",
        ("test_shutdown_returns_after_the_futures_and_their_callbacks",),
    ),
    Breakage(
        3,
        "_lines.py",
        "        held = self._held + call.calls_back\n        # a state",
        "        held = self._held\n        # a state",
        "`shutdown` waits for the futures, but not for their done-callbacks",
        ("test_shutdown_returns_after_the_futures_and_their_callbacks",),
    ),
    Breakage(
        3,
        "_gate.py",
        "inside = called_back_gate() is self",
        "inside = False",
        "`shutdown` in a done-callback waits for that callback",
        ("test_shutdown_in_a_callback_does_not_wait_for_that_callback",),
    ),
    Breakage(
        3,
        "_process.py",
        "    for gate in list(_gates):\n        gate.abandon(",
        "    for gate in list(_gates)[:0]:\n        gate.abandon(",
        "a forked child may use the executor of its parent",
        ("test_a_forked_child_is_refused_by_name[False-executor.submit(int)]",),
    ),
    Breakage(
        4,
        "_window.py",
        "        weakref.finalize(self, _report, gate, title, self._failures)\n",
        "",
        "nothing is logged",
        ("test_each_map_has_its_own_line",),
    ),
    Breakage(
        4,
        "_window.py",
        "            if kind in self._failures:\n                self._failures[kind] -= 1\n",
        "            pass\n",
        "failures that the consumer got are logged as well",
        ("test_what_was_raised_or_yielded_is_not_logged",),
    ),
    # No deadlock by construction
    Breakage(
        5,
        "_futures.py",
        "            helper_threads.run(self._call_back)\n        self.unfinished = False",
        "            self._call_back()\n        self.unfinished = False",
        "done-callbacks run on the thread that brings the answer",
        ("test_callbacks_of_all_outcomes",),
    ),
    Breakage(
        5,
        "_retrier.py",
        "helper_threads.run(functools.partial(on_retry, event))",
        "on_retry(event)",
        "the hook of a retry runs on the thread that brings the failure",
        ("test_the_hook_of_retries",),
    ),
    Breakage(
        5,
        "_window.py",
        "helper_threads.run(functools.partial(run_held, gate, log))",
        "run_held(gate, log)",
        "log handlers run on the thread that brings the last answer of a `map`",
        ("test_log_handlers",),
    ),
    Breakage(
        6,
        "_futures.py",
        "                callback = self._done_callbacks.popleft()\n"
        "            self._run(callback)\n",
        "                self._run(self._done_callbacks.popleft())\n",
        "done-callbacks run under the lock of the gate",
        ("test_in_callbacks_hooks_and_at_time_limits",),
    ),
    Breakage(
        6,
        "_adapter.py",
        "            response = context.run(execute, statement, parameters, **arguments)\n",
        "            with call.gate.lock:\n"
        "                response = context.run(execute, statement, parameters, **arguments)\n",
        "`execute_async` is called under the lock of the gate",
        ("test_in_callbacks_hooks_and_at_time_limits",),
    ),
    Breakage(
        6,
        "_lines.py",
        "        self._dropped.append(call)",
        "        call.let_go()",
        "what a dropped call has held dies under the lock of the gate",
        ("test_when_what_an_aborted_map_has_held_dies[failure-None]",),
    ),
    Breakage(
        7,
        "_futures.py",
        "self._done_callbacks.popleft()",
        "self._done_callbacks.pop()",
        "the callback that was added last runs first",
        ("test_a_callback_that_is_added_by_a_callback_comes_after_those_that_were_there",),
    ),
    Breakage(
        7,
        "_futures.py",
        '        except BaseException:\n            log_failure("a done-callback',
        '        except Exception:\n            log_failure("a done-callback',
        "after a callback that raised `SystemExit` the next one does not run",
        ("test_what_a_callback_raises_is_logged_and_the_next_one_runs[False-SystemExit]",),
    ),
    Breakage(
        7,
        "_threads.py",
        "        if (self._leader, self._progress) == seen:\n",
        "        if False:\n",
        "a callback that blocks holds up those of other futures",
        ("test_callbacks_may_wait_for_each_other",),
    ),
    Breakage(
        8,
        "_dispatcher.py",
        "if len(backlog) > 1:",
        "if False:",
        "what is admitted by an answer inside `execute_async` is sent by a deeper call",
        ("test_what_waits_is_sent_without_recursion[1-succeed]",),
    ),
    Breakage(
        8,
        "_dispatcher.py",
        "        if waits:\n",
        "        if False:\n",
        "a driver thread sends although it may have to wait for a free stream",
        ("test_where_no_stream_is_free_another_thread_sends",),
    ),
    Breakage(
        8,
        "_driver/sessions.py",
        "_SPARE_STREAMS = 1024",
        "_SPARE_STREAMS = 0",
        "a driver thread takes the last free streams, which others may take before",
        ("test_streams_are_left_for_those_who_send_at_the_same_time",),
    ),
    Breakage(
        8,
        "_dispatcher.py",
        "            self._leave()\n        return counts",
        "            self._send(admitted)\n        return counts",
        "the thread that keeps the time limits sends",
        ("test_the_thread_of_the_clock_sends_nothing",),
    ),
    # Order and abort
    Breakage(
        9,
        "_maps.py",
        "kind = Ordered if ordered else Unordered",
        "kind = Unordered",
        "`map` yields in the order of completion",
        ("test_results_come_in_the_order_of_the_input",),
    ),
    Breakage(
        9,
        "_orders.py",
        "        call = self._ended.popleft()",
        "        call = self._ended.pop()",
        "`map(ordered=False)` yields what has ended last",
        ("test_unordered_results_come_in_the_order_of_completion",),
    ),
    Breakage(
        9,
        "concurrent.py",
        "                results[position] = result",
        "                results[-1] = result",
        "the list of a drop-in is in the order of completion",
        ("test_the_drop_ins_keep_the_order_of_the_input",),
    ),
    Breakage(
        10,
        "_window.py",
        "        self.last = position\n        return True",
        "        return True",
        "a failure ends nothing: all that waits is sent",
        ("test_nothing_later_is_sent",),
    ),
    Breakage(
        10,
        "_window.py",
        "        if position >= self.last:\n",
        "        if self.last != math.inf:\n",
        "the failure that came first counts, not the lowest in the input",
        ("test_a_failure_before_the_failed_call_ends_what_is_between_them",),
    ),
    Breakage(
        10,
        "_window.py",
        "        self.last = position\n",
        "        self.last = -1\n",
        "a failure also ends what comes earlier in the input",
        ("test_an_earlier_call_that_waits_for_its_retry_goes_on",),
    ),
    Breakage(
        10,
        "_consumer.py",
        "            if window.last != math.inf or window.closed:\n",
        "            if window.closed:\n",
        "input is taken after a failure",
        ("test_no_more_input_is_taken",),
    ),
    Breakage(
        10,
        "_adapter.py",
        "if not call.gate.wants(call):",
        "if False:",
        "what has its turn, and was not sent when a call failed, is sent",
        (
            "test_an_item_whose_parameters_are_copied_when_a_call_fails_is_not_sent",
            "test_a_failure_stops_what_waits_for_a_helper_thread_to_send_it",
        ),
    ),
    Breakage(
        10,
        "_window.py",
        "return not self.return_exceptions and self._end_at(position)",
        "return self._end_at(position)",
        "a failure ends a `map` with `return_exceptions=True`",
        ("test_with_return_exceptions_nothing_stops[None-True]",),
    ),
    Breakage(
        11,
        "_consumer.py",
        "        try:\n            consumer.close()\n"
        "        except BaseException:  # an interrupt; nothing is done twice\n"
        "            consumer.close()\n            raise\n",
        "",
        "closing or dropping an iterator ends nothing",
        ("test_leaving_the_loop_aborts",),
    ),
    Breakage(
        11,
        "_lines.py",
        "(call.position <= window.last and not window.closed)",
        "call.position <= window.last",
        "what waits is sent although the iterator was closed",
        ("test_dropping_a_map_with_thousands_waiting",),
    ),
    Breakage(
        11,
        "_consumer.py",
        "                # in this order: who ends a call looks at what is awaited afterwards\n",
        "                if self._clock.monotonic() >= self._deadline:\n"
        "                    raise TimeoutError\n",
        "`timeout` is looked at before the result that has come meanwhile",
        ("test_a_result_that_comes_as_the_time_is_up_is_yielded",),
    ),
    Breakage(
        11,
        "_maps.py",
        "        consumer.fill()\n",
        "        consumer.fill()\n"
        "        if timeout is not None:\n"
        "            consumer._deadline = self._clock.monotonic() + timeout\n",
        "`timeout` counts from when the input was taken",
        ("test_timeout_counts_from_the_call",),
    ),
    Breakage(
        12,
        "_gate.py",
        "call._state is not (RUNNING if claimed else PENDING):",
        "call.done():",
        "`cancel` works on what was sent",
        ("test_what_was_sent_cannot_be_cancelled",),
    ),
    Breakage(
        12,
        "_gate.py",
        "self._admit()\n            call.tell_waiters()\n",
        "self._admit()\n",
        "`cancel` does not tell `wait` and `as_completed`",
        ("test_threads_that_wait_already_are_told[as_completed]",),
    ),
    Breakage(
        13,
        "_lines.py",
        "        if call._state is not RUNNING or (\n"
        "            attempt is not None and (call.attempt != attempt or "
        "call not in self._in_flight)\n"
        "        ):\n            return TOO_LATE\n",
        "",
        "the last outcome counts",
        ("test_two_answers",),
    ),
    Breakage(
        13,
        "_lines.py",
        "(call.attempt != attempt or call not in self._in_flight)",
        "call not in self._in_flight",
        "what an earlier attempt still says ends the later one",
        ("test_an_attempt_is_answered_again_while_its_retry_is_in_flight",),
    ),
    Breakage(
        13,
        "_gate.py",
        "            if call.attempt != attempt or call not in self._in_flight:\n"
        "                return False",
        "            if call not in self._in_flight:\n                return False",
        "the response of an earlier attempt that was slow to be sent takes the place of the later",
        ("test_a_first_attempt_whose_execute_async_returns_after_the_retry_was_sent",),
    ),
    # Bounds
    Breakage(
        14,
        "_gate.py",
        "            if len(self._in_flight) < self.concurrency:\n"
        "                self._let_in(call)\n"
        "                if len(self._in_flight) <= self.concurrency:\n",
        "            if len(self._in_flight) <= self.concurrency:\n"
        "                self._let_in(call)\n"
        "                if True:\n",
        "one call too many is admitted",
        ("test_no_more_are_in_flight_than_allowed",),
    ),
    Breakage(
        14,
        "_gate.py",
        "            self._waiting.append(call)\n        return False\n",
        "            self._waiting.appendleft(call)\n        return False\n",
        "who comes last is served first",
        ("test_calls_are_sent_in_the_order_in_which_they_came",),
    ),
    Breakage(
        14,
        "_dispatcher.py",
        "self.pages = Gate(math.inf)  # later pages are not counted",
        "self.pages = gate",
        "later pages are counted",
        ("test_later_pages_of_the_driver_do_not_count",),
    ),
    Breakage(
        15,
        "_consumer.py",
        "self._take(self._size + 1, _A_WHILE)",
        "self._take(self._size + 2, _A_WHILE)",
        "one call too many is taken ahead of the consumer",
        ("test_while_the_consumer_waits_and_after_each_result",),
    ),
    Breakage(
        15,
        "_consumer.py",
        "        popped, self._popped = self._popped, None\n",
        "        popped = self._popped\n",
        "a result is kept after it was yielded",
        ("test_a_result_that_was_yielded_is_not_kept",),
    ),
    Breakage(
        16,
        "_maps.py",
        "        consumer.fill()\n",
        "",
        "`map` takes nothing until somebody iterates",
        ("test_all_of_it_runs_when_nobody_iterates",),
    ),
    Breakage(
        16,
        "_window.py",
        "            self.note_error(exception)\n        self.ended",
        "            with self.gate.lock:\n"
        "                self.settled(call, exception)\n        self.ended",
        "a `map` of callables takes no more input after a failure",
        ("test_a_map_of_callables_is_that_of_the_standard",),
    ),
    Breakage(
        16,
        "_consumer.py",
        "            if not self._calls:\n                self._raise_error()\n",
        "            if self._error is not None:\n                self._raise_error()\n"
        "            if not self._calls:\n",
        "after `shutdown`, `next` drops what was taken",
        ("test_after_shutdown_what_was_taken_is_yielded",),
    ),
    Breakage(
        17,
        "_watch.py",
        "call.deadline = limit, now + limit",
        "call.deadline = limit, math.inf",
        "there are no time limits",
        ("test_the_limit_is_that_of_the_profile[10.0]",),
    ),
    Breakage(
        17,
        "_adapter.py",
        "        if self._has_timeout:\n",
        "        if False:\n",
        "the option `timeout` is not looked at",
        ("test_the_limit_is_that_of_the_option",),
    ),
    Breakage(
        17,
        "_driver/requests.py",
        "            if callback.func.__self__ is not response:\n                return\n",
        "",
        "a time-out takes the stream of another request",
        ("test_the_stream_of_another_request_is_not_taken",),
    ),
    Breakage(
        17,
        "_results.py",
        "        page = self._fetch(self.paging_state)\n",
        "        return super().fetch_next_page()\n",
        "a later page is fetched by the first page's response future, which has no time limit left",
        ("test_each_page_has_the_full_limit_from_its_own_send",),
    ),
    # Arguments and errors that help
    Breakage(
        18,
        "_driver/requests.py",
        "list(statement._statements_and_parameters)",
        "statement._statements_and_parameters",
        "a batch that is cleared while it waits is sent without what it held",
        ("test_a_batch_may_be_cleared_and_filled_again",),
    ),
    Breakage(
        18,
        "_driver/requests.py",
        "    taken = copy.copy(statement)\n",
        "    taken = statement\n",
        "a bound statement that is bound again while it waits is sent with the new values",
        ("test_a_bound_statement_may_be_bound_again",),
    ),
    Breakage(
        18,
        "_calls.py",
        "copy.deepcopy(value) if isinstance(value, CHANGEABLE) else value",
        "value",
        "a collection that is changed while it waits is sent changed",
        ("test_values_may_be_changed",),
    ),
    Breakage(
        19,
        "_calls.py",
        "matches = len(given) == len(columns)",
        "matches = len(given) <= len(columns)",
        "parameters may be missing, and the driver leaves those columns as they are",
        ("test_the_number_of_parameters_matches_exactly",),
    ),
    Breakage(
        19,
        "_calls.py",
        "matches = set(given) == {",
        "matches = set(given) >= {",
        "names that no marker has are accepted",
        ("test_the_names_of_parameters_match_exactly",),
    ),
    Breakage(
        19,
        "_calls.py",
        "(str, bytes, bytearray, memoryview, set, frozenset)",
        "(set, frozenset)",
        "a text is taken for a sequence of parameters",
        ("test_what_is_no_sequence_is_refused",),
    ),
    Breakage(
        19,
        "_calls.py",
        "    if given and isinstance(statement, (BoundStatement, BatchStatement)):\n",
        "    if given and isinstance(statement, BatchStatement):\n",
        "parameters of a bound statement are ignored",
        ("test_what_is_bound_takes_no_parameters",),
    ),
    Breakage(
        20,
        "_errors.py",
        "            error = _copy(error)\n",
        "            pass\n",
        "calls of a lost connection share one exception",
        ("test_the_type_and_what_it_tells_stay",),
    ),
    Breakage(
        20,
        "_errors.py",
        '        ("__cause__", error),\n',
        "",
        "a copy does not lead to the exception of the driver",
        ("test_a_copy_has_the_original_as_its_cause",),
    ),
    Breakage(
        20,
        "_errors.py",
        '        add_note(error, f"call {number}{text_of(sent)}")\n',
        "        text_of(sent)\n",
        "an exception does not tell which call it was",
        ("test_each_exception_tells_its_own_call",),
    ),
    Breakage(
        20,
        "_calls.py",
        "        return number + text_of(self.statement)",
        "        return number + text_of(self.statement) + repr(self.parameters)",
        "the `repr` of a call shows its parameters",
        ("test_values_are_not_shown_by_failures",),
    ),
    Breakage(
        20,
        "_calls.py",
        "if isinstance(given, dict) else len(given)",
        "if isinstance(given, dict) else given",
        "the message about parameters that do not match shows them",
        ("test_values_are_not_shown_when_a_call_is_refused",),
    ),
    Breakage(
        21,
        "_adapter.py",
        "context.run(execute, statement, parameters, **arguments)",
        "execute(statement, parameters, **arguments)",
        "a call is sent in the context of whoever sends it",
        ("test_a_call_that_waits_keeps_its_context",),
    ),
    Breakage(
        21,
        "_adapter.py",
        "                context = context.copy()  # the next attempt is to find it as it was\n",
        "",
        "a retry finds in its context what the attempt before it has set",
        ("test_a_retry_is_sent_in_the_context_of_its_call",),
    ),
    Breakage(
        22,
        "_driver/results.py",
        "        self.coordinator_host = host\n",
        "        self.coordinator_host = None\n",
        "a result has forgotten its coordinator",
        ("test_a_result_shows_what_the_drivers_would[coordinator_host]",),
    ),
    Breakage(
        22,
        "_driver/results.py",
        "            query = _EMPTY_BATCH  # that it was one is all that was_applied asks\n",
        "            query = None\n",
        "`was_applied` of a batch does not know that it was one",
        ("test_a_result_shows_what_the_drivers_would[was_applied]",),
    ),
    Breakage(
        22,
        "_driver/results.py",
        '        raise AttributeError(f"{name!r} of a response future is not kept when its call '
        'has ended")\n',
        "        return None\n",
        "what a slim result does not keep is `None`",
        ("test_what_is_not_kept_says_so_by_name",),
    ),
    Breakage(
        22,
        "_rows.py",
        "            _classes.clear()\n",
        "            pass\n",
        "the classes of rows are remembered without bound",
        ("test_row_classes_are_not_kept_for_ever",),
    ),
    # Cost
    Breakage(
        23,
        "_adapter.py",
        '            self.arguments["timeout"] = None\n',
        "            pass\n",
        "the driver starts a timer for each request",
        ("test_the_driver_starts_no_timer",),
    ),
    Breakage(
        23,
        "_watch.py",
        "            self._look_at(min(call.deadline, now + _POLL), end)\n",
        "            pass\n"
        "        self._clock.call_at(call.deadline, functools.partial(self._look, end))\n",
        "each request makes an appointment with the clock",
        ("test_one_appointment_for_all",),
    ),
    Breakage(
        23,
        "_consumer.py",
        "self._clock.pause(_PAUSE)",
        "pass",
        "the consumer is woken for each burst of answers, however much waits",
        ("test_a_burst_of_answers_wakes_the_consumer_once",),
    ),
    Breakage(
        23,
        "_consumer.py",
        " and self._window.gate.has_waiting(_STRETCH):",
        ":",
        "the consumer pauses although the driver waits for it",
        ("test_no_pause_while_few_wait",),
    ),
    Breakage(
        23,
        "_consumer.py",
        "if len(self._calls) >= _STRETCH and self",
        "if self",
        "a consumer pauses because other maps have much to do",
        ("test_no_pause_of_a_map_with_few_calls_of_its_own",),
    ),
    Breakage(
        23,
        "_adapter.py",
        "        if slim is not None:\n",
        "        if False:\n",
        "a result keeps the response future alive",
        ("test_a_result_does_not_keep_its_response",),
    ),
    Breakage(
        23,
        "_futures.py",
        "        self.request = self.response = self.window = self.tries = None\n",
        "        self.response = self.window = self.tries = None\n",
        "a future that has ended keeps statement and parameters",
        ("test_what_was_sent_is_gone",),
    ),
    Breakage(
        23,
        "__init__.py",
        'logging.getLogger("cassconc").addHandler(logging.NullHandler())\n',
        'logging.getLogger("cassconc").addHandler(logging.NullHandler())\n'
        'getattr(__import__("gc"), "disable")()\n',
        "importing switches the garbage collector off",
        ("test_importing_changes_nothing",),
    ),
]
