"""Figures as measured: each competitor's median, and how many times as good as it the engine is."""

import statistics
from dataclasses import dataclass, field
from typing import Any

from stress._turn import Turn
from stress._workloads import Figure, Goal, Size

__all__ = ["NOT_ASKED", "NOT_INSTALLED", "Reading", "number"]

NOT_ASKED = "not asked for"
NOT_INSTALLED = "not installed"


@dataclass(slots=True)
class Reading:
    """One figure, with the values of every turn so far."""

    figure: Figure
    size: Size
    values: dict[str, list[float]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)  #: why a competitor has no value

    def note(self, peer: str, turn: Turn) -> None:
        """Note what one turn of ``peer`` gave."""
        if turn.value is not None:
            self.values.setdefault(peer, []).append(turn.value)
        else:
            self.reasons[peer] = turn.reason

    def median(self, peer: str) -> float | None:
        """Give the median over the rounds; None if there is no value."""
        values = self.values.get(peer)
        return statistics.median(values) if values else None

    @property
    def ours(self) -> float | None:
        """Give the engine's median."""
        return self.median(self.figure.ours)

    @property
    def ratios(self) -> dict[str, float]:
        """Give how many times as good as each competitor the engine is, the best competitor first."""
        found = {}
        for peer in self.figure.peers:
            ours, theirs = self.ours, self.median(peer)
            ratio = None if ours is None or theirs is None else self.figure.ratio(ours, theirs)
            if ratio is not None:
                found[peer] = ratio
        return dict(sorted(found.items(), key=lambda item: item[1]))

    @property
    def verdicts(self) -> list[tuple[str, bool | None]]:
        """Give each promise in words, and whether it is kept; None where that was not to be seen."""
        return [(goal.words(self.figure.unit), self._is_kept(goal)) for goal in self.figure.goals]

    def _is_kept(self, goal: Goal) -> bool | None:
        ours = self.ours
        kept = None if ours is None else goal.is_kept(ours, self.ratios)
        is_partial = any(self.reasons.get(peer) in (NOT_ASKED, NOT_INSTALLED) for peer in goal.against)
        return None if kept and is_partial else kept  # the best of them may be among those that were not there

    @property
    def shown(self) -> list[str]:
        """Give the competitors that were asked for: the engine, those with a ratio from the best on, the others."""
        others = [peer for peer in self.figure.peers if peer not in self.ratios]
        return [self.figure.ours, *self.ratios, *[p for p in others if self.reasons.get(p) != NOT_ASKED]]

    @property
    def title(self) -> str:
        """Give what is measured, in words."""
        return self.figure.words(self.size)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for the JSON line."""
        ratios = self.ratios
        return {
            "title": self.title,
            "unit": self.figure.unit,
            "is_rate": self.figure.is_rate,
            "engine": self.ours,
            "values": self.values,
            "ratios": ratios,
            "reasons": self.reasons,
            "goals": [{"target": words, "kept": kept} for words, kept in self.verdicts],
        }


def number(value: float | None) -> str:
    """Return ``value`` with about three digits that count."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
