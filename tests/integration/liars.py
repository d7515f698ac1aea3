"""Tasks that reach into their worker's sockets and lie to the parent; imported by workers, so it imports little."""

import array
import os
import pickle
import socket
import sys
import time
from pathlib import Path
from typing import Any

from engine._wire.frames import (
    CONTROL,
    CONTROL_BYTES,
    ERROR,
    HELLO,
    LOG,
    MAGIC,
    PART,
    PLAIN,
    PRINT,
    PROGRESS,
    RESULT,
    SEGMENT,
    SKIPPED,
    VALUE,
    VALUES,
)

LIES: dict[str, Any] = {}


def lie(function: Any) -> Any:
    LIES[function.__name__] = function
    return function


def runner() -> Any:
    """Find the worker's main loop among the callers."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        found = frame.f_locals.get("self")
        if type(found).__name__ == "PacketRunner":
            return found
    raise LookupError("this is no worker")


def number() -> int:
    return int(runner()._stream.current)


def stream() -> Any:
    return runner()._outlet._sock


def control() -> Any:
    return runner()._voice._control


def result(
    *, magic: int = MAGIC, kind: int = VALUE, flags: int = PLAIN, segments: int = 0, of: int = 0, payload: bytes = b"",
    size: int | None = None, bulk: int = 0, start: float = 1.0, end: float = 2.0,
) -> bytes:  # fmt: skip
    size = len(payload) if size is None else size
    return RESULT.pack(magic, kind, flags, segments, of or number(), start, end, size, bulk) + payload


def tell(name: str, path: str, seconds: float = 60.0) -> None:
    """Tell one lie, say so in a file, and wait to be replaced."""
    LIES[name]()
    Path(path).touch()
    time.sleep(seconds)


ONE = pickle.dumps(1, 5)


def late(answer: bytes) -> bytes:
    """Return ``answer`` when the chunk that runs has taken too long, and was told to stop."""
    time.sleep(0.1)
    return answer


#: What item 100 of a map may say of the chunk that it is in.
ITEM_LIES = {
    "more_values_than_items": lambda: result(kind=VALUES, flags=PART | PLAIN, payload=pickle.dumps([1] * 10_000, 5)),
    "values_that_are_none": lambda: result(kind=VALUES, flags=PART | PLAIN, payload=pickle.dumps(7, 5)),
    "values_that_run_code": lambda: result(kind=VALUES, flags=PART | PLAIN, payload=pickle.dumps([os.getpid], 5)),
    "pickles_that_are_none": lambda: result(kind=VALUES, flags=PART | PLAIN, payload=pickle.dumps([b"x"] * 9000, 5)),
    "an_early_end": lambda: result(kind=VALUES),
    "an_early_end_once_it_was_told_to_stop": lambda: late(result(kind=VALUES)),
    "a_value_as_the_end": lambda: result(kind=VALUE, payload=ONE),
    "an_item_of_another_task": lambda: result(kind=VALUE, flags=PART | PLAIN, of=number() + 1, payload=ONE),
}


def lie_as_an_item(item: int, name: str, runs: str) -> int:
    """Tell a lie if it is item 100, and wait to be replaced; note the run in ``runs``."""
    if item == 100:
        with open(runs, "a") as file:
            file.write("x")
        stream().sendall(ITEM_LIES[name]())
        time.sleep(60)
    return item


# -- on the stream


@lie
def item_of_no_chunk() -> None:
    stream().sendall(result(flags=PLAIN | PART, payload=ONE))


@lie
def end_of_no_chunk() -> None:
    stream().sendall(result(kind=VALUES))


@lie
def garbage() -> None:
    stream().sendall(b"\0" * 4096)


@lie
def noise() -> None:
    stream().sendall(os.urandom(200_000))


@lie
def wrong_magic() -> None:
    stream().sendall(result(magic=1, payload=ONE))


@lie
def wrong_kind() -> None:
    stream().sendall(result(kind=77, payload=ONE))


@lie
def skipped_unasked() -> None:
    stream().sendall(result(kind=SKIPPED))


@lie
def many_segments() -> None:
    stream().sendall(result(segments=2**32 - 1))


@lie
def ten_gigabytes() -> None:
    stream().sendall(result(size=10 << 30))


@lie
def ten_gigabytes_outside() -> None:
    stream().sendall(result(segments=1, bulk=10 << 30) + SEGMENT.pack(0, 10 << 30))


@lie
def negative_size() -> None:
    stream().sendall(result(size=2**64 - 1))


@lie
def negative_bulk() -> None:
    stream().sendall(result(segments=1, bulk=2**64 - 8) + SEGMENT.pack(0, 2**64 - 8))


@lie
def long_report() -> None:
    stream().sendall(result(kind=ERROR, size=1 << 30))


@lie
def sums_that_do_not_add_up() -> None:
    stream().sendall(result(segments=2, bulk=10) + SEGMENT.pack(0, 10) + SEGMENT.pack(1, 10))


@lie
def times_that_cannot_be() -> None:
    stream().sendall(result(payload=ONE, start=float("nan")))


@lie
def end_before_start() -> None:
    stream().sendall(result(payload=ONE, start=9.0, end=8.0))


@lie
def unknown_number() -> None:
    stream().sendall(result(of=1 << 40, payload=ONE))


@lie
def truth_after_a_lie() -> None:
    stream().sendall(result(of=1 << 40, payload=ONE) + result(payload=ONE))


@lie
def number_to_come() -> None:
    stream().sendall(result(of=number() + 1, payload=ONE))


@lie
def closed_stream() -> None:
    os.close(stream().fileno())


@lie
def shut_stream() -> None:
    stream().shutdown(socket.SHUT_WR)


# -- on the control socket


def _say(kind: int, body: bytes = b"", of: int = 0) -> None:
    control().send(CONTROL.pack(kind, of) + body)


@lie
def short_control() -> None:
    control().send(b"\x07")


@lie
def unknown_control() -> None:
    _say(99)


@lie
def second_hello() -> None:
    _say(HELLO)


@lie
def long_control() -> None:
    _say(PRINT, b"\x01" + b"x" * (CONTROL_BYTES + 8192))


@lie
def descriptor() -> None:
    ends = os.pipe()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", ends))]
    with socket.socket(fileno=os.dup(control().fileno())) as sock:
        sock.sendmsg([CONTROL.pack(PRINT, 0) + b"\x01with gifts\n"], rights)


@lie
def strange_progress() -> None:
    _say(PROGRESS, b'{"done": 1}')


@lie
def shut_control() -> None:
    control().shutdown(socket.SHUT_RDWR)  # a close would wait for the thread that listens there


# -- what breaks no rule


def answer_twice(path: str) -> int:
    """Answer this task before its end, which is then a second answer."""
    stream().sendall(result(payload=ONE))
    while not Path(path).exists():
        time.sleep(0.001)
    return 2


def answer_twice_and_wait(first: str, second: str) -> int:
    """Answer this task, and once more when ``first`` exists; return when ``second`` does."""
    stream().sendall(result(payload=ONE))
    while not Path(first).exists():
        time.sleep(0.001)
    stream().sendall(result(payload=ONE))
    while not Path(second).exists():
        time.sleep(0.001)
    return 2


def bad_report(pickled: bytes) -> None:
    stream().sendall(result(kind=ERROR, payload=pickled))
    time.sleep(60)


def false_mark(pickled: bytes) -> None:
    """Mark as harmless what is not."""
    stream().sendall(result(payload=pickled, flags=PLAIN))
    time.sleep(60)


def nonsense_on_control() -> str:
    """Say things that are well-formed and mean nothing."""
    _say(PROGRESS, b"[" * 40_000)
    _say(PROGRESS, b"not json")
    _say(PROGRESS, b'[null, {}, "\\ud800"]', of=1 << 60)
    _say(PRINT)
    _say(LOG, b'{"name": 5, "levelno": "high", "msg": {}}')
    _say(LOG, b"[]")
    return "said"


def flood(seconds: float) -> int:
    """Print as fast as the socket takes it."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        _say(PRINT, b"\x01" + b"x" * 1000 + b"\n")
        count += 1
    return count


def descriptor_on_the_stream() -> str:
    ends = os.pipe()
    with socket.socket(fileno=os.dup(stream().fileno())) as sock:
        sock.sendmsg([result(payload=ONE)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", ends))])
    time.sleep(60)
    return "never"


def half_and_the_rest(path: str, go: str, size: int) -> None:
    """Answer with ``size`` bytes: half of them, then our pid into ``path``, and the rest when ``go`` is there."""
    payload = pickle.dumps(bytes(size), 5)
    whole = memoryview(result(payload=payload, flags=0))
    stream().sendall(whole[: len(whole) // 2])
    with open(path + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(path + ".new", path)
    while not Path(go).exists():
        time.sleep(0.001)
    stream().sendall(whole[len(whole) // 2 :])
    time.sleep(60)


def cut_short(size: int) -> None:
    """Send a part of a small answer: of its header where ``size`` is 0, else of its payload."""
    stream().sendall(result(size=size)[: None if size else 20] + bytes(size // 2))
    time.sleep(60)


def one_and_noise() -> None:
    stream().sendall(result(payload=ONE) + b"noise" * 100)
    time.sleep(60)


def initializer_with_gifts(fds: int) -> None:
    """Send descriptors before the hello, where the parent takes one."""
    from engine._worker import main

    frame: Any = sys._getframe()
    while frame.f_code is not main.main.__code__:
        frame = frame.f_back
    sock = frame.f_locals["control_socket"]
    with socket.socket(fileno=os.dup(sock.fileno())) as ours:
        for _ in range(fds):
            ends = os.pipe()
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", ends))]
            ours.sendmsg([CONTROL.pack(PRINT, 0) + b"\x01gift\n"], rights)


def hello_with_a_pipe() -> None:
    """Say hello with a descriptor that is no pidfd, and is readable: the parent must not take it for a death."""
    from engine._worker import main

    def say_hello(sock: Any) -> None:
        ends = os.pipe()
        os.write(ends[1], b"x")
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [ends[0]]))]
        sock.sendmsg([CONTROL.pack(HELLO, os.getpid())], rights)

    main._say_hello = say_hello  # type: ignore[assignment]  # its parameter has another name


def read_nothing_more() -> None:
    """Have the worker never read the stream again."""
    running = runner()
    running._stream._next = lambda: time.sleep(60)
