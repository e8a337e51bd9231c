"""A paper's claims, each with how it is tested here, our number and a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass

from strflab.report.tables import html_table, markdown_table

VERDICTS = {True: "holds", False: "does not hold", None: "cannot be tested here"}
MARKS = {True: "✓", False: "✗", None: "–"}


@dataclass(frozen=True)
class Claim:
    """One statement of a paper, how it is tested here, what came out.

    Parameters
    ----------
    statement : str
        The paper's claim, in our words.
    test : str
        What is measured, and what it must be for the claim to hold.
    paper : str
        The paper's own value, empty when it gives none.
    ours : str
        Our value, with its interval.
    holds : bool or None
        None when it cannot be tested here.
    why : str
        Why it cannot be tested, or a remark on the outcome.
    """

    statement: str
    test: str
    paper: str
    ours: str
    holds: bool | None
    why: str

    @property
    def verdict(self) -> str:
        """One of "holds", "does not hold", "cannot be tested here"."""
        return VERDICTS[self.holds]


class Claims:
    """A table of a paper's claims, each with our number and a verdict; displays itself in a notebook.

    Parameters
    ----------
    head : str
        Over the column of claims: who makes them.

    Examples
    --------
    >>> claims = Claims()
    >>> claims.add("STRFs predict song", test="mean r > 0.3", value=0.44, interval=(0.41, 0.47), holds=True)
    >>> claims.verdicts()
    STRFs predict song: holds
    """

    def __init__(self, head: str = "The paper says") -> None:
        self.head = head
        self.rows: list[Claim] = []

    def add(
        self,
        statement: str,
        *,
        test: str,
        holds: bool | None,
        value: float | str | None = None,
        interval: tuple[float, float] | None = None,
        paper: float | str | None = None,
        unit: str = "",
        digits: int = 2,
        why: str = "",
    ) -> None:
        """Add a row.

        Parameters
        ----------
        statement : str
            The paper's claim, in our words.
        test : str
            What is measured, and what it must be for the claim to hold.
        holds : bool or None
            The outcome; None when the claim cannot be tested here, and then `why` must say why.
        value : float or str, optional
            Our number.
        interval : tuple of two floats, optional
            Its confidence interval.
        paper : float or str, optional
            The paper's own number.
        unit : str
            Unit of the numbers.
        digits : int
            Decimals shown.
        why : str
            Why the claim cannot be tested, or a remark.

        Raises
        ------
        ValueError
            When a claim without a verdict gives no reason, a NaN has a verdict, or a statement comes twice.
        """
        if any(row.statement == statement for row in self.rows):
            raise ValueError(f"statement {statement!r} is in the table already")
        if holds is None and not why:
            raise ValueError(f"why is empty; {statement!r} has no verdict, so it must say why")
        if holds is not None and isinstance(value, float) and math.isnan(value):
            raise ValueError(f"value is NaN; {statement!r} cannot be judged by it: give holds=None and why")
        ours = _number(value, digits, unit)
        if interval is not None:
            low, high = interval
            ours = f"{ours} [{_number(low, digits)},\N{NO-BREAK SPACE}{_number(high, digits)}]"
        outcome = None if holds is None else bool(holds)
        self.rows.append(Claim(statement, test, _number(paper, digits, unit), ours, outcome, why))

    def verdicts(self) -> None:
        """Print a line a claim, without numbers: what a rerun of any profile must print again."""
        for row in self.rows:
            print(f"{row.statement}: {row.verdict}")

    @property
    def summary(self) -> str:
        """How many claims hold, do not, or cannot be tested, in a sentence."""
        counts = [(sum(row.holds is key for row in self.rows), text) for key, text in VERDICTS.items()]
        plural = {"holds": "hold", "does not hold": "do not hold"}
        told = [f"{n} {text if n == 1 else plural.get(text, text)}" for n, text in counts if n]
        return f"Of {len(self.rows)} claims, {', '.join(told)}." if told else "No claims."

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        head = [self.head, "Tested here as", "Paper", "Ours", "Verdict"]
        rows = []
        for row in self.rows:
            verdict = f"**{MARKS[row.holds]} {row.verdict}**" + (f": {row.why}" if row.why else "")
            rows.append([row.statement, row.test, row.paper, row.ours, verdict])
        if not any(row.paper for row in self.rows):  # a column of dashes tells nothing
            head.pop(2)
            for cells in rows:
                cells.pop(2)
        return head, rows

    def _repr_html_(self) -> str:
        return html_table(*self._cells(), kind="claims")

    def _repr_markdown_(self) -> str:
        return markdown_table(*self._cells())

    def __repr__(self) -> str:
        return f"Claims: {self.summary}"


def _number(value: float | str | None, digits: int, unit: str = "") -> str:
    if value is None or isinstance(value, str):
        return value or ""
    text = f"{float(value):.{digits}f}".replace("-", "−")
    return f"{text} {unit}" if unit else text
