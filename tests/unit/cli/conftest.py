"""A file of jobs, and the command line on it."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from engine.cli import main
from engine.jobs import Book, Failure, Moment, SQLiteStore
from engine.jobs._records import Claim, Claimed, End, Ending, NewHolder, NewJob

T = TypeVar("T")


class File:
    """A file of jobs that a test fills through the verbs of its book."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = SQLiteStore(path)
        self.store.open()

    def do(self, operation: Callable[[Book, Moment], T]) -> T:
        return self.store.write(operation).result(10)

    def add(self, number: int = 1, **said: Any) -> list[int]:
        job = NewJob(**{"queue": "default", "name": "app.send", "args": '{"to": "x"}', **said})
        return self.do(lambda book, now: book.enqueue([job] * number, now))

    def claim(self, limit: int = 100, queues: Sequence[str] = ("default",), lease: float = 30.0) -> list[Claimed]:
        """Claim as the worker ``host:12:w``."""
        new = NewHolder(name="host:12:w", pid=12, pid_started=1.0, namespace="", lease=lease)

        def claim(book: Book, now: Moment) -> list[Claimed]:
            wanted = Claim(holder=book.hold(new, now), queues=dict.fromkeys(queues, limit), limit=limit)
            return list(book.claim(wanted, now).jobs)

        return self.do(claim)

    def complete(self, jobs: Sequence[Claimed], result: str = '{"a": 1}') -> None:
        endings = [Ending(job.id, job.token, End.COMPLETED, result=result) for job in jobs]
        self.do(lambda book, now: book.end(endings, now))

    def fail(self, jobs: Sequence[Claimed], error: str = "ValueError: no", traceback: str = "", **said: Any) -> None:
        def fail(book: Book, now: Moment) -> None:
            book.end([self._failed(job, now, error, traceback, **said) for job in jobs], now)

        self.do(fail)

    def _failed(
        self, job: Claimed, now: Moment, error: str, traceback: str, end: End = End.FAILED, delay: float = 0.0
    ) -> Ending:  # fmt: skip
        failure = Failure(now.wall, job.attempt, job.token, "error", error, traceback, "host:12:w")
        return Ending(job.id, job.token, end, failure=failure, delay=delay)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    file = File(tmp_path / "jobs.db")
    yield file
    file.store.close()


class Run:
    """What one run of ``engine jobs`` gave."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def objects(self) -> list[Any]:
        """Read each line as JSON."""
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def jobs(file: File, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Give ``engine jobs ACTION FILE ...``, 80 columns wide."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(action: str, *arguments: object) -> Run:
        code = main(["jobs", action, str(file.path), *map(str, arguments)])
        return Run(code, *capsys.readouterr())

    return run
