"""What ``--json`` prints, for people."""

__all__ = ["SCHEMA"]

#: What --json prints; ``engine jobs --help`` shows it.
SCHEMA = """\
--json prints one JSON object a line: list, cancel and requeue one for each job,
the others exactly one. New keys may come; those that are there stay. Times are
UTC in seconds since 1970, durations are seconds, what is not there is null.
  list     id, queue, name, args, state ("pending", "running", "completed",
           "failed", "cancelled"), gate (what a pending one waits for: "ready",
           "later", "locked" or "alone"), attempt, claims, crashes,
           max_crashes, suspect, cancel_requested, priority, lock,
           queueing_lock, created_at, due_at, started_at, completed_at,
           expires_at, holder, lease_until, result, progress, parent, schedule,
           error; args, result and progress are values, or the text in the row
           where that is no JSON
  show     the same and failures: a list of {at, attempt, claim, kind, error,
           traceback, worker}, oldest first
  cancel   id, outcome ("now", "asked", "too late" or "unknown")
  requeue  id, requeued (true or false), reason (null, "unknown" or "not ended")
  stats    name, queues (a list of {queue, paused, ready, later, locked,
           suspects, running, completed, failed, cancelled, oldest_ready}),
           holders (a list of {id, name, pid, running, lease, lease_left,
           started_at}), counters ({fenced, rescued, lost_holders, ...}),
           schedules (a list of {name, last_at}: the last period of each)
  pause, resume   queues, paused
  prune    deleted
  backup   target, bytes
"""
