"""The parts of the benchmarks that only compute: ratios, targets, the page, the profile."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

for needed in ("psutil", "tabulate", "tqdm", "benchmarks"):
    pytest.importorskip(needed)

from benchmarks import bench, profile_request, report, rounds, scaling, targets  # noqa: E402
from benchmarks.competitors import Rows  # noqa: E402
from benchmarks.experiment import Settings  # noqa: E402
from benchmarks.latency import percentile  # noqa: E402
from benchmarks.rounds import Sample, Spread  # noqa: E402


def sample(rate: float, cpu: float = 1.0) -> Sample:
    """A second in which so many requests were made."""
    return Sample(int(rate), 1.0, cpu, 0.25, [3, 2, 1], 0.01)


def run(measures: Mapping[str, float], **results: Any) -> dict[str, Any]:
    """The results of a run that measured so much."""
    spreads = {key: Spread.of([value]).asdict() for key, value in measures.items()}
    facts = {
        "date": "2026-01-02T03:04:05+00:00",
        "command": "python benchmarks/bench.py",
        "commit": "abc",
        "system": "Linux",
        "processor": "one",
        "cores": 2,
        "memory": 2**34,
        "load": [0.5, 0.5, 0.5],
        "python": "CPython 3.11.7",
        "driver": "3.30.1",
        "driver_event_loop": "LibevConnection",
        "driver_compiled": True,
        "cassandra": None,
        "libraries": {"acsylla": "1.2.0"},
    }
    return {
        "facts": facts,
        "settings": Settings().asdict(),
        "results": {"measured": {"measures": spreads}, **results},
    }


def inserts(**rates: list[float]) -> dict[str, Any]:
    """The result of an experiment with such rates in its rounds."""
    samples = {name: [sample(rate) for rate in taken] for name, taken in rates.items()}
    return {"statement": "INSERT", "competitors": rounds.summary(samples), "measures": {}}


def test_ratios_are_taken_round_by_round() -> None:
    """The median is that of the ratios: a slow round of both sides does not count for one."""
    samples = {
        "ours": [sample(100), sample(10), sample(300)],
        "theirs": [sample(50), sample(5), sample(100)],
    }
    assert rounds.rate_ratio(samples, "ours", "theirs") == Spread(2, 2, 3)


def test_ratios_need_as_many_rounds_on_both_sides() -> None:
    """A round that one side lacks is an error, not a ratio with another round."""
    with pytest.raises(ValueError, match="zip"):
        rounds.ratios([1, 2], [1])


def test_the_first_round_is_discarded_and_each_round_begins_with_another() -> None:
    """Every competitor runs once a round; no one always runs first."""
    ran: list[str] = []

    def run_of(name: str) -> rounds.Run:
        return lambda: len(ran.append(name) or ran)

    samples = rounds.interleaved({name: run_of(name) for name in "abc"}, 3)
    assert ["".join(ran[at : at + 3]) for at in range(0, 12, 3)] == ["abc", "bca", "cab", "abc"]
    assert [each.count for each in samples["a"]] == [6, 8, 10]


def test_a_competitor_that_loses_results_is_an_error() -> None:
    """Nobody is fast by doing less."""
    with pytest.raises(RuntimeError, match="cheat: 9 results instead of 10"):
        rounds.interleaved({"cheat": lambda: 9}, 1, check=10)


def test_garbage_is_counted_by_generation_and_the_callback_goes() -> None:
    """Collections within the block count, and nothing is left in gc.callbacks."""
    import gc

    before = list(gc.callbacks)
    with rounds.GarbageWatch() as garbage:
        gc.collect(0)
        gc.collect()
    assert garbage.collections[0] >= 1
    assert garbage.collections[2] >= 1
    assert gc.callbacks == before


def test_flatness_compares_medians_within_rounds() -> None:
    """A round that is slow for all points leaves the curve flat."""
    cpu = {"10": [50.0, 100.0, 50.0], "100": [55.0, 110.0, 55.0]}
    assert scaling.flatness(cpu, "10").median == pytest.approx(0.1)


@pytest.mark.parametrize(("percent", "value"), [(50.0, 51), (99.0, 100), (99.9, 100)])
def test_percentiles_are_values_that_were_measured(percent: float, value: float) -> None:
    """No interpolation between two measured latencies."""
    assert percentile([float(each) for each in range(100, 0, -1)], percent) == value


def test_rows_can_be_iterated_again() -> None:
    """Every round gets all rows, from the start."""
    rows = Rows(range(2), "ab")
    assert list(rows) == list(rows) == [(0, "a"), (1, "b")]


@pytest.mark.parametrize(
    ("key", "value", "verdict"),
    [
        ("stub-inserts/list", 1.6, "aim reached"),
        ("stub-inserts/list", 1.35, "reached"),
        ("stub-inserts/list", 1.34, "MISSED"),
        ("import", 15, "reached"),
        ("import", 15.1, "MISSED"),
        ("import", 5, "aim reached"),
        ("flatness/input", 0.15, "reached"),
    ],
)
def test_a_bound_is_a_lower_or_an_upper_one(key: str, value: float, verdict: str) -> None:
    """Ratios of throughput must be at least, times and sizes at most, the bound itself included."""
    target = next(each for each in targets.TARGETS if each.key == key)
    assert target.verdict(value) == verdict


def test_every_target_has_a_line_measured_or_not() -> None:
    """A target that was not measured is said to be so, and none is left out."""
    lines = targets.target_lines(run({"import": 20})["results"])
    assert len(lines) == len(targets.TARGETS)
    assert lines[-1] == [
        "import cassconc", "after import cassandra.cluster", "at most 15 ms", "5 ms",
        "20 ms", "", "MISSED",
    ]  # fmt: skip
    assert {line[-1] for line in lines[:-1]} == {"not measured"}


def test_targets_have_keys_of_their_own() -> None:
    """Two lines never show the same measure."""
    keys = [target.key for target in targets.TARGETS]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.345, "x", "1.34x"),
        (0.123, "%", "12.3 %"),
        (4255, "bytes", "4,255 bytes"),
        (0.966, "MB", "0.97 MB"),
        (42.46, "ms", "42.5 ms"),
        (0, "", "0"),
    ],
)
def test_numbers_are_written_in_about_three_digits(value: float, unit: str, text: str) -> None:
    """What is shown is no more exact than what was measured."""
    assert targets.number(value, unit) == text


def test_the_page_has_a_column_for_each_run_and_marks_misses() -> None:
    """All runs are on the page, missed targets in bold and in a list."""
    page = report.page([run({"import": 4}), run({"import": 16})], [])
    line = next(line for line in page.splitlines() if line.startswith("| import cassconc"))
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[-2:] == ["4 ms", "**16 ms, missed**"]
    assert "- import cassconc, against after import cassandra.cluster: 16 ms." in page


def test_the_page_says_where_others_are_faster() -> None:
    """By the median of the ratios within rounds; those that are slower are not named."""
    result = inserts(**{"cassconc map": [10, 100], "chain": [20, 210], "list": [5, 5]})
    lines = report.slower({"stub-inserts": result})
    assert lines == ["Prepared inserts, stub server: chain serves 2.05 times our requests."]


def test_the_page_is_the_same_for_the_same_results(tmp_path: Path) -> None:
    """It can be built again at any time, from JSON, without a run."""
    measured = run({}, **{"stub-inserts": inserts(**{"cassconc map": [10], "list": [5]})})
    again = json.loads(json.dumps(measured))
    assert report.page([measured], ["memory"]) == report.page([again], ["memory"])


def test_plots_are_the_same_for_the_same_results(tmp_path: Path) -> None:
    """A committed plot changes only when its numbers do."""
    plots = pytest.importorskip("benchmarks.plots")
    results = {
        "latency": {"microseconds": {"cassconc submit": {"50.0": 1.0, "99.0": 2.0}}},
        "peak-memory": {"curves": {"list": [[10, 0.0], [100, 3.0]]}},
    }
    drawn = plots.draw(results, tmp_path / "one"), plots.draw(results, tmp_path / "two")
    assert drawn == (["memory", "latency"], ["memory", "latency"])
    for name in drawn[0]:
        one, two = (tmp_path / each / f"{name}.svg" for each in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    ("stack", "owner"),
    [
        ("main (w.py:1);send (cassconc/_adapter.py:9);put (queue.py:1)", "cassconc _adapter"),
        ("x (/a/b/cassconc/_gate.py:1);0x7f (cassandra/cluster.cpython-311-x86_64-linux-gnu.so)",
         "driver cluster"),
        ("0x7f (cassandra/pool.cpython-311.so);ended (cassconc/_gate.py:7)", "cassconc _gate"),
        ("run (cassandra/io/libevreactor.py:104);send (libc.so.6)", "driver io/libevreactor"),
        ("x (cassconc/_gate.py:1);gc_collect_main (libpython3.11.so.1.0)", "garbage"),
        ("ours_map (benchmarks/competitors.py:48);next", "benchmark"),
        ("thread_run (libpython3.11.so.1.0)", "Python"),
    ],
)  # fmt: skip
def test_a_look_counts_for_the_innermost_frame_of_either_side(stack: str, owner: str) -> None:
    """What Python's library does is put down to who called it; the collector is neither's."""
    assert profile_request.owner(stack) == owner


def test_waiting_threads_do_not_count() -> None:
    """Shares are of those at work; waiting costs nothing."""
    raw = (
        "a (cassconc/_gate.py:1) 3\n"
        "a (cassandra/pool.py:1) 1\n"
        "wait (threading.py:1);PyThread_acquire_lock_timed (libpython);futex 96\n"
    )
    shares = profile_request.shares(profile_request.looks(raw))
    assert shares == {"cassconc _gate": 0.75, "driver pool": 0.25}
    assert profile_request.sides(shares) == {"cassconc": 0.75, "driver": 0.25}
    with pytest.raises(ValueError, match="no thread"):
        profile_request.shares({})


def test_the_command_line_chooses_and_overrides() -> None:
    """--quick sets all numbers, an option of its own has the last word, --no-node leaves out."""
    chosen, settings, output = bench.parse(["--quick", "--rounds", "9", "--no-node"])
    assert (settings.rounds, settings.statements) == (9, Settings.quick().statements)
    assert "stub-inserts" in chosen
    assert not [name for name in chosen if name.startswith("node-")]
    assert output.name == "quick.json"
    assert bench.parse(["--only", "import"])[0] == ["import"]


@pytest.mark.parametrize("text", ["0", "-1", "x"])
def test_numbers_on_the_command_line_are_positive(text: str) -> None:
    """What cannot be is refused at once, by argparse."""
    with pytest.raises(SystemExit):
        bench.parse(["--rounds", text])
