"""A table in which nothing is cut and no word is broken: as a list where the terminal is too narrow for its columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import final

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

Cell = str | tuple[str, ...]
"""Words, or entries that have spaces within and are kept whole."""
PIECE = re.compile(r"\S+?(?:(?<=\w)[-/_](?=\w)|\s+|$)")
"""A word, or a part of a name up to where a line may end."""
GAP = 2


@final
@dataclass(frozen=True)
class NarrowTable:
    """A blank line, the title and the rows.

    Columns of figures are as wide as their figures need, and only their headings wrap; the columns at the places
    `loose` hold words, which wrap between words and in names after a hyphen. Where a first cell is empty, the row
    belongs to the one above it. Where even the least widths do not fit, every row is a list of its cells.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    loose: Sequence[int] = (0,)
    left: Sequence[int] = (0,)
    """Columns that are not set flush right."""
    styles: Sequence[str] = ()
    """One a row, or none."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """As rich asks for it."""
        del console
        yield ""
        yield Text(self.title, style="bold")
        widths = self._widths(options.max_width)
        if widths is None:
            yield from self._list()
        else:
            yield self._table(widths)

    def _widths(self, room: int) -> list[int] | None:
        """One a column, taken from the widest ones where all do not fit; None where the least do not."""
        cells = [[row[place] for row in self.rows] for place in range(len(self.columns))]
        widths = [
            max([_heading_width(heading), *(cell_len("".join(_cut(cell)).rstrip()) for cell in column)])
            for heading, column in zip(self.columns, cells, strict=True)
        ]
        least = list(widths)
        for place in self.loose:
            widths[place] = max(widths[place], len(self.columns[place]))
            pieces = [cell_len(piece.rstrip()) for cell in cells[place] for piece in _cut(cell)]
            least[place] = max([_heading_width(self.columns[place]), *pieces])
        excess = sum(widths) + GAP * (len(widths) - 1) - room
        for _ in range(excess):
            able = [place for place in self.loose if widths[place] > least[place]]
            if not able:
                return None
            widths[max(able, key=lambda place: widths[place])] -= 1
        return widths

    def _table(self, widths: Sequence[int]) -> Table:
        table = Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False, show_edge=False)
        for place, (heading, width) in enumerate(zip(self.columns, widths, strict=True)):
            table.add_column(heading, justify="left" if place in self.left else "right", width=width)
        has_sections = any(not row[0] for row in self.rows)
        for number, row in enumerate(self.rows):
            if has_sections and number and row[0]:
                table.add_section()
            cells = (_flow(_cut(cell), width) for cell, width in zip(row, widths, strict=True))
            table.add_row(*cells, style=self.styles[number] if self.styles else "")
        return table

    def _list(self) -> Iterator[RenderableType]:
        for row in self.rows:
            for place, (heading, cell) in enumerate(zip(self.columns, row, strict=True)):
                if cell:
                    yield Padding(_Flowing((f"{heading}: ", *_cut(cell))), (0, 0, 0, GAP if place else 0))


@final
@dataclass(frozen=True)
class _Flowing:
    """Pieces in lines as wide as there is room."""

    pieces: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """As rich asks for it."""
        del console
        yield _flow(self.pieces, options.max_width)


def _cut(cell: Cell) -> tuple[str, ...]:
    """The pieces of which none is broken over two lines, each with the spaces after it."""
    return tuple(PIECE.findall(cell)) if isinstance(cell, str) else tuple(f"{entry}  " for entry in cell)


def _flow(pieces: Sequence[str], width: int) -> Text:
    """The pieces in lines; one that is wider than a line is chopped, since there is no better place."""
    lines = [""]
    for piece in pieces:
        if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        *whole, rest = chop_cells(lines[-1] + piece, width) if cell_len(piece.rstrip()) > width else [lines[-1] + piece]
        lines[-1:] = [*whole, rest]
    return Text("\n".join(line.rstrip() for line in lines))


def _heading_width(heading: str) -> int:
    """The least width at which a heading takes two lines and no word of it is cut."""
    longest = max(map(len, heading.split()), default=0)
    return next(width for width in range(longest, len(heading) + 1) if len(wrap(heading, max(width, 1))) <= 2)
