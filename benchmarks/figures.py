"""How figures are summed up and shown: the median with its range, in a table of 80 columns."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH = 80
_WHAT = 42
_MEDIAN = 9
_UNIT = 7


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: what was measured, its value in each round, and their unit."""

    what: str
    values: Sequence[float]
    unit: str
    digits: int = 0

    @property
    def median(self) -> float:
        """The middle of the values."""
        return statistics.median(self.values)

    def shown(self) -> str:
        """The line as printed."""
        spread = f"{self._number(min(self.values))} to {self._number(max(self.values))}" if len(self.values) > 1 else ""
        return f"{self.what:<{_WHAT}}{self._number(self.median):>{_MEDIAN}} {self.unit:<{_UNIT}} {spread}".rstrip()

    def _number(self, value: float) -> str:
        return f"{value:,.{self.digits}f}"


@dataclass(frozen=True, slots=True)
class Note:
    """One line of the table in words."""

    words: str

    def shown(self) -> str:
        """The line as printed."""
        return self.words


Line: TypeAlias = Figure | Note


def heading(title: str) -> str:
    """The line above a benchmark's figures."""
    return f"{title:<{_WHAT}}{'median':>{_MEDIAN}} {'':<{_UNIT}} min to max"


def ratios(ours: Iterable[float], theirs: Iterable[float]) -> list[float]:
    """Ours as a share of theirs, round by round."""
    return [our / their for our, their in zip(ours, theirs, strict=True)]


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
