"""The life of a worker process: get ready, say hello, serve, leave."""

import _socket
import array
import faulthandler
import os
import signal

from .._wire.frames import CONTROL, HELLO
from .._wire.page import StartPage
from . import logs
from .control import SocketControl
from .gauge import Gauge
from .inbox import ParentGone, Stream
from .interrupts import Interrupts
from .lifeline import hang_on
from .outlet import StreamOutlet
from .packet_socket import PacketSocket
from .packets import PacketRunner
from .parts import Parts
from .prepare import adopt, initialize
from .voice import Voice, take_over

__all__ = ["main"]


def main(lifeline: int, tasks: int, stream: int, control: int, page: int) -> None:
    """Serve tasks on the inherited descriptors until the parent closes ``tasks``."""
    hang_on(lifeline)
    for fd in (lifeline, tasks, stream, control, page):
        os.set_inheritable(fd, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGURG})  # the parent may block any
    faulthandler.enable(2)
    control_socket = _socket.socket(fileno=control)
    inbox = Stream(result_socket := _socket.socket(fileno=stream))
    setup = inbox.read_setup()
    adopt(setup)
    voice = Voice(control_socket)
    interrupts = Interrupts()
    printers = take_over(voice)
    logs.install(voice, setup["levels"])
    parts = Parts(result_socket, voice)
    SocketControl(control_socket, interrupts, voice, parts.flush).start()
    if not initialize(setup, voice):
        return
    voice.has_spoken = False
    outlet = StreamOutlet(result_socket, interrupts, voice, printers, parts)
    start_page = StartPage(page)
    task_socket = _socket.socket(fileno=tasks)
    runner = PacketRunner(PacketSocket(task_socket), inbox, outlet, start_page, voice, interrupts, parts)
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
