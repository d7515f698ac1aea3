"""Times per lane, summed up from pictures of tasks."""

from engine import Lane, TaskInfo, TaskState
from engine.cli.lane_times import LaneTimes


def info(number: int, state: TaskState, started: float | None, completed: float | None) -> TaskInfo:
    return TaskInfo(number, "f", Lane.PROCESS, state, 1, 10.0, started, completed, None)


def test_run_and_wait_times_are_summed_and_no_task_counts_twice() -> None:
    times = LaneTimes()
    done = info(1, TaskState.COMPLETED, 11.0, 14.0)
    times.absorb([done, info(2, TaskState.RUNNING, 12.0, None)])
    times.absorb([done, info(2, TaskState.FAILED, 12.0, 13.0), info(3, TaskState.CANCELLED, None, 15.0)])
    times.absorb([info(3, TaskState.CANCELLED, None, 15.0)])
    process = times.lanes[Lane.PROCESS]
    assert (process.tasks, process.failed) == (3, 2)
    assert (process.run_seconds, process.wait_seconds) == (4.0, 8.0)
    assert times.lanes[Lane.THREAD].tasks == 0
