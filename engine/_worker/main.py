"""The life of a worker process: get ready, say hello, serve, leave."""

import _socket
import array
import faulthandler
import os
import pickle
import signal
import sys
from typing import Any

from .._wire.frames import CONTROL, HELLO, REFUSED
from .._wire.page import StartPage
from . import logs
from .control import Control
from .failures import describe
from .gauge import Gauge
from .inbox import ParentGone, Stream
from .interrupts import Interrupts
from .lifeline import hang_on
from .outlet import Outlet
from .runner import Runner
from .voice import Voice, take_over

__all__ = ["main"]


def main(lifeline: int, tasks: int, stream: int, control: int, page: int) -> None:
    """Serve tasks on the inherited descriptors until the parent closes ``tasks``."""
    hang_on(lifeline)
    for fd in (lifeline, tasks, stream, control, page):
        os.set_inheritable(fd, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    faulthandler.enable(2)
    control_socket = _socket.socket(fileno=control)
    inbox = Stream(result_socket := _socket.socket(fileno=stream))
    setup = inbox.read_setup()
    _adopt(setup)
    voice = Voice(control_socket)
    interrupts = Interrupts()
    printers = take_over(voice)
    logs.install(voice, setup["levels"])
    Control(control_socket, interrupts, voice).start()
    if not _initialize(setup, control_socket):
        return
    voice.has_spoken = False
    outlet = Outlet(result_socket, interrupts, voice, printers)
    start_page = StartPage(page)
    task_socket = _socket.socket(fileno=tasks)
    runner = Runner(task_socket, inbox, outlet, start_page, voice, interrupts)
    os.close(page)
    limit = setup["memory_limit"]
    gauge = Gauge(limit, start_page) if limit is not None else None
    _say_hello(control_socket)
    try:
        runner.serve(setup["max_tasks"], gauge)
    except (ParentGone, BrokenPipeError, ConnectionResetError):  # nobody is left to tell
        pass
    finally:
        for each in (task_socket, result_socket):  # closed by the end of the process, and not with a ResourceWarning
            each.detach()


def _adopt(setup: dict[str, Any]) -> None:
    """Look like the parent: same path, arguments and directory."""
    sys.path[:] = setup["path"]
    sys.argv[:] = setup["argv"]
    try:
        os.chdir(setup["cwd"])
    except OSError:  # it was removed; the parent has the same problem
        pass


def _initialize(setup: dict[str, Any], control: _socket.socket) -> bool:
    """Run the initializer. False: it failed, and the parent was told why."""
    if setup["initializer"] is None:
        return True
    try:
        initializer, initargs = pickle.loads(setup["initializer"])
        initializer(*initargs)
    except BaseException as error:  # whatever it raises, SystemExit too, the parent should hear of it
        name, text, trace = describe(error)
        control.send(CONTROL.pack(REFUSED, 0) + pickle.dumps((name, text[:4000], trace[-16000:])))
        return False
    return True


def _say_hello(control: _socket.socket) -> None:
    """Tell the parent that tasks may come, with a descriptor that knows when this process has ended."""
    pid = os.getpid()
    hello = [CONTROL.pack(HELLO, pid)]
    try:
        fd = os.pidfd_open(pid)
    except OSError:  # an old kernel, or a sandbox without it: the parent goes by its own
        control.sendmsg(hello)
        return
    control.sendmsg(hello, [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [fd]))])
    os.close(fd)
