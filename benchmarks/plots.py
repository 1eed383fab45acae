"""The plots of the page on performance, as SVG files that come out the same each time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, StrMethodFormatter

STYLE: Any = {
    "svg.hashsalt": "cassconc",
    "svg.fonttype": "none",
    "figure.figsize": (7, 4),
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def _save(path: Path) -> None:
    pyplot.legend(frameon=False, fontsize="small")
    pyplot.tight_layout()
    pyplot.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close()
    # matplotlib ends lines with spaces
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n")


def _plain(axis: Axis, ticks: Sequence[float] | None = None) -> None:
    """Write the numbers of a logarithmic axis as numbers, at these ticks or where they fit."""
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_formatter(NullFormatter())
    if ticks is not None:
        axis.set_major_locator(FixedLocator(ticks))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))


def _width(name: str) -> float:
    return 2.5 if name.startswith("cassconc") else 1.2


def throughput(curves: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Plot the requests per second against concurrency."""
    for name, points in curves.items():
        xs = [int(concurrency) for concurrency in points]
        rates = [point["rate"] for point in points.values()]
        medians = [rate["median"] for rate in rates]
        below = [rate["median"] - rate["low"] for rate in rates]
        above = [rate["high"] - rate["median"] for rate in rates]
        pyplot.errorbar(
            xs, medians, [below, above], label=name, marker="o", capsize=3, lw=_width(name)
        )
    pyplot.xscale("log")
    _plain(pyplot.gca().xaxis, sorted({int(each) for points in curves.values() for each in points}))
    pyplot.ylim(bottom=0)
    pyplot.gca().yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    pyplot.xlabel("concurrency")
    pyplot.ylabel("requests per second")
    _save(path)


def memory(curves: Mapping[str, list[list[float]]], path: Path) -> None:
    """Plot the peak of resident memory, beyond that of the connected client, against input."""
    for name, points in curves.items():
        xs = [length for length, _ in points]
        megabytes = [max(more, 0.1) for _, more in points]
        pyplot.plot(xs, megabytes, label=name, marker="o", lw=_width(name))
    pyplot.xscale("log")
    pyplot.yscale("log")
    _plain(pyplot.gca().xaxis, sorted({each for points in curves.values() for each, _ in points}))
    _plain(pyplot.gca().yaxis)
    pyplot.xlabel("inserts")
    pyplot.ylabel("peak of resident memory, MB more")
    _save(path)


def latency(microseconds: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Plot the percentiles of latency, evenly spaced."""
    axes: Axes = pyplot.gca()
    for name, points in microseconds.items():
        axes.plot(
            range(len(points)), list(points.values()), label=name, marker="o", lw=_width(name)
        )
        axes.set_xticks(range(len(points)), [f"{float(each):g}" for each in points])
    pyplot.yscale("log")
    _plain(axes.yaxis)
    pyplot.xlabel("percentile")
    pyplot.ylabel("microseconds")
    _save(path)


def draw(results: Mapping[str, Any], folder: Path) -> list[str]:
    """Draw what was measured, and return the names of the plots."""
    wanted: dict[str, tuple[Callable[[Any, Path], None], str, str]] = {
        "throughput": (throughput, "concurrency", "curves"),
        "memory": (memory, "peak-memory", "curves"),
        "latency": (latency, "latency", "microseconds"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    with pyplot.rc_context(STYLE):
        for name, (plot, experiment, key) in wanted.items():
            if experiment in results:
                plot(results[experiment][key], folder / f"{name}.svg")
                drawn.append(name)
    return drawn
