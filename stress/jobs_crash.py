"""Is every acknowledged job run to its end, and no stale run recorded, while whole engines are killed and held still?

    python -m stress jobs_crash [--jobs N] [--kills N] [--stops N] [--workers N] [--poison SHARE] [--seed S]

Expected: ``ok``, no fault of any kind, the file intact, exit code 0. Two processes enqueue into one file of SQLite
while four work on it. Engines are killed with SIGKILL at random moments and replaced, others are stopped for longer
than their lease and continued, enqueuers are killed around their commits. A hundredth of the jobs is poison: it raises,
returns what is no JSON, kills the worker process or the engine that runs it. Each execution leaves lines outside the
database, and a checker that knows no engine compares them with what was acknowledged and what the rows say.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from stress._campaign import arguments, carry_out
from stress._jobs_ledger import Fault, JobPromise, Row, check_jobs
from stress._jobs_programs import kind_of
from stress._jobs_tasks import CALM, KINDS, LEASE
from stress._ledger import Execution, read

LEASE_SLACK = 3.0  #: seconds that an engine is held still beyond its lease
STILL_SECONDS = 60.0  #: without any job ending, when nothing is done to them, that count as hung


@dataclass(frozen=True, slots=True)
class Settings:
    """How big a run is."""

    jobs: int
    kills: int
    stops: int
    workers: int
    poison: float
    seed: int


@dataclass
class Campaign:
    """One run: its processes, and what was done to them."""

    settings: Settings
    folder: str
    faults: list[Fault] = field(default_factory=list)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    enqueuers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)  #: by the first number of their share
    stopped: dict[int, tuple[subprocess.Popen[bytes], float, float]] = field(default_factory=dict)
    deaths: int = 0  #: of engines, killed by a job
    ended: list[int] = field(default_factory=list)  #: exit codes of engines and enqueuers that ended otherwise
    enqueuers_killed: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(f"{self.settings.seed} faults")
        self.file = os.path.join(self.folder, "jobs.db")
        self.ledger = os.path.join(self.folder, "ledger")
        self.permit = os.path.join(self.folder, "permit")
        self.ready = os.path.join(self.folder, "ready")
        os.mkdir(self.ready)
        self.keep_back(1.0)
        self.environment = {**os.environ, "STRESS_JOBS_FILE": self.file, "STRESS_JOBS_LEDGER": self.ledger}
        half = self.settings.jobs // 2
        self.shares = {1: half + 1, half + 1: self.settings.jobs + 1}

    def keep_back(self, share: float) -> None:
        """Let enqueuers go on until this share of their jobs is left."""
        with open(f"{self.permit}.new", "w") as file:
            file.write(str(int(share * (self.settings.jobs // 2)) - 1))
        os.replace(file.name, self.permit)

    # -- processes

    def start_worker(self) -> None:
        """Start one more engine."""
        self.workers.append(self._start("work", self.ready))

    def start_enqueuer(self, share: int) -> None:
        """Start who enqueues the share that begins with this number, from where the one before it was killed."""
        tried = self._notes(share)[0]
        first = max(tried, default=share - 1) + 1
        if first < self.shares[share]:
            given = [str(self.settings.seed), str(first), str(self.shares[share]), str(self.settings.poison)]
            self.enqueuers[share] = self._start("enqueue", *given, self._notes_file(share), self.permit)

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        with open(os.path.join(self.folder, "stderr"), "ab") as stderr:
            return subprocess.Popen(
                [sys.executable, "-m", "stress._jobs_programs", *command], env=self.environment,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
            )  # fmt: skip

    def _notes_file(self, share: int) -> str:
        return os.path.join(self.folder, f"notes-{share}")

    def _notes(self, share: int) -> tuple[set[int], set[int]]:
        """Return the numbers that were tried, and those that were acknowledged."""
        tried, acknowledged = set(), set()
        path = Path(self._notes_file(share))
        for line in path.read_text().splitlines() if path.exists() else ():
            word, *numbers = line.split()
            if word == "try":
                tried |= set(range(int(numbers[0]), int(numbers[1])))
            else:
                acknowledged.add(int(numbers[0]))
        return tried, acknowledged

    # -- faults

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """Kill one engine, and start another in its place."""
        self.faults.append(Fault(worker.pid, time.monotonic()))
        worker.kill()
        worker.wait()
        self.workers.remove(worker)
        self.start_worker()

    def stop(self, worker: subprocess.Popen[bytes]) -> None:
        """Hold one engine still for longer than its lease."""
        worker.send_signal(signal.SIGSTOP)
        now = time.monotonic()
        self.stopped[worker.pid] = worker, now, now + LEASE + LEASE_SLACK

    def continue_those_who_may(self, *, all_of_them: bool = False) -> None:
        """Let engines that were still for long enough go on."""
        for pid, (worker, since, until) in list(self.stopped.items()):
            if all_of_them or time.monotonic() >= until:
                worker.send_signal(signal.SIGCONT)
                self.faults.append(Fault(pid, since, time.monotonic()))
                del self.stopped[pid]

    def replace_the_dead(self) -> None:
        """Start an engine for each that a job has killed, and an enqueuer for each that was killed."""
        for worker in list(self.workers):
            if worker.poll() is not None:
                self.deaths += worker.returncode == -signal.SIGKILL
                if worker.returncode != -signal.SIGKILL:
                    self.ended.append(worker.returncode)
                self.workers.remove(worker)
                self.start_worker()
        for share, process in list(self.enqueuers.items()):
            if process.poll() is not None:
                if process.returncode not in (0, -signal.SIGKILL):
                    self.ended.append(process.returncode)
                del self.enqueuers[share]
                self.start_enqueuer(share)

    def strike(self, kills: int, stops: int) -> tuple[int, int]:
        """Do one thing to somebody; return how many kills and stops are left."""
        at_work = {int(name) for name in os.listdir(self.ready)}
        free = [worker for worker in self.workers if worker.pid in at_work and worker.pid not in self.stopped]
        if self.enqueuers and self.rng.random() < 0.05:
            process = self.rng.choice(list(self.enqueuers.values()))
            process.kill()
            process.wait()
            self.enqueuers_killed += 1
        elif stops and free and len(self.stopped) < 2 and self.rng.random() < stops / (kills + stops):
            self.stop(self.rng.choice(free))
            return kills, stops - 1
        elif kills and free:
            self.kill(self.rng.choice(free))
            return kills - 1, stops
        return kills, stops

    # -- the whole

    def run(self) -> dict[str, Any]:
        """Do it all; return what is to be printed."""
        began = time.monotonic()
        try:
            for share in self.shares:
                self.start_enqueuer(share)
            for _ in range(self.settings.workers):
                self.start_worker()
            self._rampage()
            is_drained = self._drain()
        finally:
            self._end_all()
        return self._judge(is_drained, time.monotonic() - began)

    def _rampage(self) -> None:
        kills, stops = self.settings.kills, self.settings.stops
        while kills or stops or self.stopped:
            time.sleep(self.rng.uniform(0.0, 0.5))
            self.replace_the_dead()
            self.continue_those_who_may()
            kills, stops = self.strike(kills, stops)
            self.keep_back((kills + stops) / (self.settings.kills + self.settings.stops))
        self.keep_back(0.0)

    def _drain(self) -> bool:
        """Let everything end, with nothing done to anybody; False when it stands still."""
        self.continue_those_who_may(all_of_them=True)
        seen, since = -1, time.monotonic()
        while time.monotonic() - since < STILL_SECONDS:
            self.replace_the_dead()
            time.sleep(0.5)
            counted = self._states()
            live = counted["pending"] + counted["running"]
            if not live and not self.enqueuers:
                return True
            if (ended := sum(counted.values()) - live) != seen:
                seen, since = ended, time.monotonic()
        return False

    def _states(self) -> Counter[str]:
        rows = self._query("SELECT state, count(*) AS count FROM jobs GROUP BY state")
        return Counter({row["state"]: row["count"] for row in rows})

    def _query(self, sql: str) -> list[dict[str, Any]]:
        connection = apsw.Connection(self.file, flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(10_000)
            cursor = connection.execute(sql)
            names = [column[0] for column in cursor.get_description()] if cursor.description else []
            return [dict(zip(names, row, strict=True)) for row in cursor]
        except apsw.ExecutionCompleteError:  # no row at all
            return []
        finally:
            connection.close()

    def _end_all(self) -> None:
        self.continue_those_who_may(all_of_them=True)
        for process in [*self.workers, *self.enqueuers.values()]:
            process.terminate()
        end = time.monotonic() + 20
        for process in [*self.workers, *self.enqueuers.values()]:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # -- the verdict

    def _judge(self, is_drained: bool, took: float) -> dict[str, Any]:
        promises = self._promises()
        executions = read(self.ledger)
        verdict = check_jobs(promises, self._rows(), executions, self.faults)
        faults: dict[str, Any] = {
            kind: [*[self._describe(number, executions) for number in numbers[:3]], f"{len(numbers)} in all"]
            for kind, numbers in verdict.faults.items()
        }
        if not is_drained:
            faults["hung"] = [*faults.get("hung", []), f"nothing ended for {STILL_SECONDS:g} s"]
        if self.ended:
            said = Path(self.folder, "stderr").read_text(errors="replace")
            faults["ended"] = [f"exit codes {self.ended[:10]}", said[-2000:]]
        if (integrity := self._query("PRAGMA integrity_check")) != [{"integrity_check": "ok"}]:
            faults["damaged"] = integrity
        states = self._states()
        return {
            "ok": not faults,
            "faults": faults,
            "jobs": len(promises), "acknowledged": sum(promise.acknowledged for promise in promises),
            "recovered": verdict.recovered, "unlucky": verdict.unlucky,
            "executed": verdict.executed, "explained": verdict.explained,
            "states": dict(states), "kills": sum(fault.end is None for fault in self.faults),
            "stops": sum(fault.end is not None for fault in self.faults), "died_by_poison": self.deaths,
            "enqueuers_killed": self.enqueuers_killed,
            "counters": {row["name"]: row["value"] for row in self._query("SELECT name, value FROM counters")},
            "seconds": round(took, 1), "jobs_per_second": round(len(promises) / took),
        }  # fmt: skip

    def _describe(self, number: int, executions: list[Execution]) -> str:
        """Tell what is known of one job: its lines, and what was done to the engines that ran it."""
        lines = [line for line in executions if line.number == number]
        engines = {int(line.token.partition(":")[2]) for line in lines}
        told = [(line.at, f"{line.step} {line.token}") for line in lines]
        told += [
            (fault.begin, f"fault of {fault.pid} until {fault.end}") for fault in self.faults if fault.pid in engines
        ]
        return f"job {number}: " + ", ".join(f"{at:.3f} {text}" for at, text in sorted(told))

    def _promises(self) -> list[JobPromise]:
        found = []
        for share in self.shares:
            tried, acknowledged = self._notes(share)
            for number in tried:
                kind, _ = kind_of(str(self.settings.seed), number, self.settings.poison)
                found.append(
                    JobPromise(
                        number, KINDS[kind][2], number in acknowledged, reruns=kind not in CALM or "once" in kind
                    )
                )
                if kind in CALM and number % 50 == 1:
                    found.append(JobPromise(-number, frozenset({"completed"}), is_follow_up=True))
        return found

    def _rows(self) -> list[Row]:
        found = []
        for row in self._query("SELECT name, args, state, token, result, lock FROM jobs"):
            result = json.loads(row["result"]) if row["result"] is not None else None
            token = result[1] if isinstance(result, list) else None
            number = json.loads(row["args"])["number"]
            found.append(Row(number, row["state"], row["token"], token, row["lock"], row["name"]))
        return found


def main(argv: list[str]) -> int:
    """Run the script; return 0 if every promise was kept."""
    parser = arguments("jobs_crash", __doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="jobs (default: 100000)")
    parser.add_argument("--kills", type=int, default=200, help="kill -9 of whole engines (default: 200)")
    parser.add_argument("--stops", type=int, default=50, help="engines held still past their lease (default: 50)")
    parser.add_argument("--workers", type=int, default=4, help="engines that work at a time (default: 4)")
    parser.add_argument("--poison", type=float, default=0.01, help="share of the jobs that is poison (default: 0.01)")
    options = parser.parse_args(argv)
    settings = Settings(options.jobs, options.kills, options.stops, options.workers, options.poison, options.seed)
    return carry_out(
        "jobs_crash", options.seed, lambda folder: Campaign(settings, folder).run(),
        counts="jobs", noun="jobs",
    )  # fmt: skip
