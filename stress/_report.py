"""The page of a comparison: ``docs/PERFORMANCE.md``, made by the script alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from stress._readings import Reading, number
from stress._workloads import FULL_SIZE

__all__ = ["FULL_ROUNDS", "PEERS_IN_WORDS", "page", "terminal_lines"]

FULL_ROUNDS = 5
PEERS_IN_WORDS = {
    "engine": "the process lane, default settings",
    "engine-thread": "the thread lane",
    "engine-loop": "the loop lane",
    "cf-fork": "`concurrent.futures.ProcessPoolExecutor`, workers forked",
    "cf-spawn": "`concurrent.futures.ProcessPoolExecutor`, workers spawned",
    "cf-thread": "`concurrent.futures.ThreadPoolExecutor`",
    "asyncio": "tasks of the event loop, nothing else",
    "socket": "two processes that send 128 bytes to and fro with asyncio: no function is run, nothing is pickled",
    "bare-loops": "no pool: a loop in each of some processes, over a part of the items that was dealt out beforehand",
    "loky": "`loky.ProcessPoolExecutor`",
    "joblib": "`joblib.Parallel`, its loky backend, arrays memory-mapped",
    "pebble": "`pebble.ProcessPool`, workers spawned",
    "mpire": "`mpire.WorkerPool`, workers forked and kept",
    "anyio": "`anyio.to_process.run_sync`",
    "anyio-thread": "`anyio.to_thread.run_sync`",
    "engine-jobs": '`engine.jobs` on SQLite, `synchronous="full"`, coroutines',
    "huey": "`huey.SqliteHuey(fsync=True)`, one worker thread",
    "dask": "`distributed.LocalCluster`, one thread in each worker",
}

_VERDICTS = {True: "kept", False: "**missed**", None: "not known"}
_HEAD = """# Performance

<!-- made by {command}; do not edit -->

This page is made by a script; nobody edits it. To make it again:

```console
$ {command}
```

In each of {rounds} rounds the engine and its competitors take turns, in another order each round and each in a fresh
process, so that a machine that is busy for a while is busy for all. The figures are medians over the rounds; a
competitor that took more than {slow:g} seconds for a turn took one turn of that figure. A ratio says how many times as
good as the competitor the engine is: as many tasks per second, or as short a time. Below 1 the competitor is ahead.
Everybody has {workers} workers. `pip install '.[versus]'` brings the competitors; a full run takes three quarters of an
hour.
"""


def page(readings: Sequence[Reading], facts: Mapping[str, Any]) -> str:
    """Return the whole page."""
    size = facts["size"]
    parts = [
        _HEAD.format(command=facts["command"], rounds=facts["rounds"], slow=facts["slow"], workers=size["workers"])
    ]
    parts.extend(_doubts(facts))
    if facts["chart"]:
        parts.append(f"![Ratios of all figures]({facts['chart']})\n")
    parts.append(_promises(readings))
    parts.extend(_details(reading) for reading in readings)
    parts.append(_competitors(readings))
    parts.append(_machine(facts))
    return "\n".join(parts)


def _doubts(facts: Mapping[str, Any]) -> list[str]:
    """Say what makes the figures worth less than those of a full run on a machine that does nothing else."""
    found, size = [], facts["size"]
    if facts["machine"]["load"] > facts["machine"]["cpus"] / 4:
        found.append(f"the machine did other work (load {facts['machine']['load']:g} before the run)")
    if facts["rounds"] < FULL_ROUNDS:
        found.append(f"fewer than {FULL_ROUNDS} rounds were made")
    if size["tasks"] < FULL_SIZE.tasks or size["megabytes"] < FULL_SIZE.megabytes:
        found.append(f"the work was cut to {size['tasks']:,} tasks and {size['megabytes']:g} MB")
    return [f"**Read these figures with care**: {'; '.join(found)}.\n"] if found else []


def _promises(readings: Sequence[Reading]) -> str:
    lines = ["## What is promised\n", "| figure | engine | promise | measured | |", "| --- | --- | --- | --- | --- |"]
    for reading in readings:
        for goal, (words, kept) in zip(reading.figure.goals, reading.verdicts, strict=True):
            met = [reading.ratios[peer] for peer in goal.against if peer in reading.ratios]
            measured = f"{number(min(met))} x" if met else _with_unit(reading, reading.ours)
            if goal.against and not met:
                measured = "-"
            ours = _with_unit(reading, reading.ours)
            lines.append(f"| {_link(reading)} | {ours} | {words} | {measured} | {_VERDICTS[kept]} |")
    return "\n".join(lines) + "\n"


def _link(reading: Reading) -> str:
    return f"[{reading.figure.name}](#{reading.figure.name})"


def _with_unit(reading: Reading, value: float | None) -> str:
    return "-" if value is None else f"{number(value)} {reading.figure.unit}"


def _details(reading: Reading) -> str:
    figure = reading.figure
    lines = [f"### {figure.name}\n", f"{reading.title}. {'More' if figure.is_rate else 'Less'} is better.\n"]
    lines += ["| ratio | | median | from | to |", "| ---: | --- | ---: | ---: | ---: |"]
    for peer in reading.shown:
        lines.append(_row(reading, peer))
    return "\n".join(lines) + "\n"


def _row(reading: Reading, peer: str) -> str:
    values = reading.values.get(peer)
    if not values:
        return f"| | {peer} | {_cell(reading.reasons.get(peer, 'not measured'))} | | |"
    ratio = f"{number(reading.ratios[peer])} x" if peer in reading.ratios else ""
    least, most = number(min(values)), number(max(values))
    return f"| {ratio} | {peer} | {_with_unit(reading, reading.median(peer))} | {least} | {most} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _competitors(readings: Sequence[Reading]) -> str:
    names = {name for reading in readings for name in (reading.figure.ours, *reading.figure.peers)}
    lines = [f"| {name} | {words} |" for name, words in PEERS_IN_WORDS.items() if name in names]
    return "\n".join(["## Who is who\n", "| name | what it is |", "| --- | --- |", *lines]) + "\n"


def _machine(facts: Mapping[str, Any]) -> str:
    found = {**facts["machine"], **facts["versions"]}
    lines = [f"| {name.replace('_', ' ')} | {_cell(str(value))} |" for name, value in found.items()]
    return "\n".join(["## Machine and versions\n", "| | |", "| --- | --- |", *lines]) + "\n"


def terminal_lines(reading: Reading) -> list[str]:
    """Return the lines of one figure for the terminal: the ratio comes first."""
    figure = reading.figure
    rounds = max([len(values) for values in reading.values.values()], default=0)
    better = "more" if figure.is_rate else "less"
    lines = [f"{figure.name}: {reading.title}; medians of {rounds}, {better} is better"]
    for peer in reading.shown:
        value = reading.median(peer)
        ratio = f"{number(reading.ratios[peer])} x" if peer in reading.ratios else ""
        said = reading.reasons.get(peer, "not measured") if value is None else f"{number(value):>12} {figure.unit}"
        lines.append(f"{ratio:>10}  {peer:14}{said}")
    words = {True: "kept", False: "MISSED", None: "not known"}
    lines += [f"{words[kept]:>10}  {target}" for target, kept in reading.verdicts]
    return lines
