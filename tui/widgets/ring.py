"""Draws nodes on a ring and the links between them as text, with braille dots or, in ASCII, with letters.

Positions depend on the number of nodes and on the size only, so a node stays where it is while its state
changes. Where there are many nodes or few columns, the ring becomes two columns of names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from tui.symbols import Glyphs, clip
from tui.widgets.canvas import DOTS

LABEL = 16
"""Cells for the name of a node, and for its note below it."""

MOST_LABEL = 24
"""The same where a ring has room for longer names."""

LEAST_RADIUS = 11
"""Cells from the middle of a ring to its nodes that are left when names get more room."""

LEAST_WIDTH = 4 + 2 * LABEL
LEAST_HEIGHT = 5

LEAST_CENTRE = 12
"""Cells between the names of the nodes that a text in the middle needs."""

RING_WIDTH = 58
"""Narrower pictures have two columns of names."""

RING_NODES = 8
"""With more nodes, names on a ring would touch each other."""

RING_ROWS = 11
"""Lower pictures have two columns of names."""

MOST_OVAL = 0.75
"""Rows over columns of a ring with room to spare; that of a circle is about 0.55, the shape of a cell."""

DOTTED = 4
"""Dots from one drawn dot of a dotted line to the next."""

PATHS = 512
"""Lines between two places that are remembered: they change only with the hub, the size and the rate."""

MARGIN = 4
"""Dots between a node and the end of its lines."""


class RingNode(NamedTuple):
    """One node."""

    name: str
    mark: str
    """One character."""
    style: str
    note: str
    """Its state, in a few words."""
    is_starred: bool


class RingLink(NamedTuple):
    """A link between two nodes."""

    start: int
    end: int
    """Indexes of the nodes; what moves on the link moves from *start* to *end*."""
    style: str
    weight: int = 1
    """Dots across: 1 to 3."""
    is_dotted: bool = False
    moved: float | None = None
    """The share of the way, from 0 to 1, of a model on this link; None if there is none."""


class RingPicture(NamedTuple):
    """What a ring shows."""

    nodes: tuple[RingNode, ...]
    links: tuple[RingLink, ...]
    centre: tuple[Text, ...]
    """Lines in the middle."""


class _RingPlace(NamedTuple):
    """The cell of a node's mark, and the side on which its name is."""

    column: int
    row: int
    side: Literal["left", "right"]


def draw_ring(picture: RingPicture, width: int, height: int, glyphs: Glyphs) -> list[Text]:
    """Return *height* lines of *width* cells; none where the picture has no room.

    The last nodes are left out if there are more than two for each line.
    """
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return []
    nodes = picture.nodes[: 2 * height]
    is_ring = width >= RING_WIDTH and height >= RING_ROWS and len(nodes) <= RING_NODES
    label = _label_cells(nodes, width) if is_ring else LABEL
    places = _on_ring(len(nodes), width, height, label) if is_ring else _in_columns(len(nodes), width, height)
    canvas = _RingCanvas(width, height, glyphs)
    links = [link for link in picture.links if max(link.start, link.end) < len(nodes)]
    for link in sorted(links, key=lambda link: link.moved is not None):  # what moves is never hidden
        canvas.link(places[link.start], places[link.end], link, is_bowed=not is_ring)
    for place, node in zip(places, nodes, strict=True):
        canvas.node(place, node, label, has_two_lines=is_ring)
    top = (height - len(picture.centre)) // 2
    for row, text in enumerate(picture.centre[:height], max(0, top)):
        canvas.centre(row, text)
    return canvas.texts()


def _label_cells(nodes: Sequence[RingNode], width: int) -> int:
    """Return the cells for names: as many as the longest needs and a ring of *width* cells has room for."""
    longest = max((cell_len(node.name) for node in nodes), default=0)
    return max(LABEL, min(longest, MOST_LABEL, width // 2 - LEAST_RADIUS - 2))


def _on_ring(count: int, width: int, height: int, label: int) -> list[_RingPlace]:
    """Return places on an ellipse, clockwise from the left; beside it are *label* cells for names."""
    middle_x, middle_y = (width - 1) / 2, (height - 2) / 2
    radius_x = middle_x - label - 2
    radius_y = min(middle_y - 0.5, radius_x * MOST_OVAL)
    places = []
    for number in range(count):
        angle = math.pi * (1 + 2 * number / count)
        x, y = middle_x + radius_x * math.cos(angle), middle_y + radius_y * math.sin(angle)
        places.append(_RingPlace(round(x), round(y), "left" if x < middle_x - 1 else "right"))
    return places


def _in_columns(count: int, width: int, height: int) -> list[_RingPlace]:
    """Return places in two columns, down the right one and up the left one, like a ring."""
    left = (count + 1) // 2
    right = count - left
    return [
        *(_RingPlace(LABEL + 1, _spread(left - 1 - row, left, height), "left") for row in range(left)),
        *(_RingPlace(width - LABEL - 2, _spread(row, right, height), "right") for row in range(right)),
    ]


def _spread(number: int, count: int, height: int) -> int:
    """Return the row of one of *count* lines that are spread over *height* rows."""
    return min(height - 1, int((number + 0.5) * height / count))


_Pieces = list[tuple[str, str]]
"""Texts with their styles."""


class _RingCanvas:
    """Cells that hold dots or a character."""

    def __init__(self, width: int, height: int, glyphs: Glyphs) -> None:
        self._width, self._height, self._glyphs = width, height, glyphs
        self._bits = [[0] * width for _ in range(height)]
        self._signs: list[list[str]] = [[""] * width for _ in range(height)]
        self._styles: list[list[str]] = [[""] * width for _ in range(height)]

    def link(self, start: _RingPlace, end: _RingPlace, link: RingLink, *, is_bowed: bool) -> None:
        """Draw a link as a line of dots, and what moves on it as a full cell."""
        bow = self._bow(start, end) if is_bowed else 0
        is_flat = abs(2 * (end.column - start.column)) >= abs(4 * (end.row - start.row))
        for beside in range(link.weight):
            at = (beside + 1) // 2 * (-1 if beside % 2 else 1)
            right, down = (0, at) if is_flat else (at, 0)
            self._dots(_cells(start, end, bow, right, down, is_dotted=link.is_dotted), link.style)
        path = _path(start, end, bow)
        if link.moved is not None and path:
            x, y = path[round(min(1.0, max(0.0, link.moved)) * (len(path) - 1))]
            self._put(x // 2, y // 4, self._glyphs.packet, "move")

    def _bow(self, start: _RingPlace, end: _RingPlace) -> int:
        """Return how far the line between two nodes of one column swings out, past those between them."""
        if start.column != end.column:
            return 0
        room = self._width - 2 * LABEL - 4  # dots, from one column of names to the middle
        out = min(2 * abs(end.row - start.row), max(0, room))
        return out if start.side == "left" else -out

    def node(self, place: _RingPlace, node: RingNode, room: int, *, has_two_lines: bool) -> None:
        """Draw the mark of a node, and beside it its name and note in *room* cells."""
        star = self._glyphs.star if node.is_starred else ""
        name = clip(node.name, room - (2 if star else 0))
        self._put(place.column, place.row, node.mark, node.style)
        pieces = [(star, "lead"), (" ", ""), (name, "bold")] if star else [(name, "bold")]
        if has_two_lines:
            self._beside(place, pieces)
            self._beside(place._replace(row=place.row + 1), [(clip(node.note, room), node.style)])
            return
        left = room - _cell_len(pieces) - 1
        note = next((text for text in (node.note, node.note.split(" ")[0]) if cell_len(text) <= left), "")
        self._beside(place, [*pieces, (" ", ""), (note, node.style)] if note else pieces)

    def _beside(self, place: _RingPlace, pieces: _Pieces) -> None:
        """Write *pieces* beside a node, the first one nearest to it."""
        if place.side == "right":
            column = place.column + 2
        else:
            column, pieces = place.column - 1 - _cell_len(pieces), pieces[::-1]
        for text, style in pieces:
            column = self._text(column, place.row, text, style)

    def centre(self, row: int, text: Text) -> None:
        """Write *text* in the middle of a row, with a blank cell on both sides."""
        line = text.copy()
        line.truncate(self._width - 2 * LABEL - 6, overflow="ellipsis")
        if self._width >= LEAST_WIDTH + LEAST_CENTRE:
            column = (self._width - line.cell_len) // 2 - 1
            for offset, character in enumerate(f" {line.plain} ", -1):
                spans = (span for span in reversed(line.spans) if span.start <= offset < span.end)
                style = next((str(span.style) for span in spans), str(line.style))
                column = self._text(column, row, character, style)

    def _text(self, column: int, row: int, text: str, style: str) -> int:
        """Write *text* and return the next column; a character of two cells leaves the second one empty."""
        for character in text:
            self._put(column, row, character, style)
            column += 1
            for _ in range(cell_len(character) - 1):
                self._put(column, row, "\0", "")
                column += 1
        return column

    def _put(self, column: int, row: int, sign: str, style: str) -> None:
        if 0 <= column < self._width and 0 <= row < self._height:
            self._signs[row][column], self._styles[row][column] = sign, style

    def _dots(self, cells: Iterable[tuple[int, int, int]], style: str) -> None:
        """Draw the dots of *cells*, as `_cells` returns them."""
        width, height, bits, styles = self._width, self._height, self._bits, self._styles
        for row, column, mine in cells:
            if 0 <= column < width and 0 <= row < height:
                bits[row][column] |= mine
                styles[row][column] = style

    def texts(self) -> list[Text]:
        """Return the rows; neighbouring cells of one style are one piece."""
        return [self._row(row) for row in range(self._height)]

    def _row(self, row: int) -> Text:
        line = Text()
        piece, style = "", ""
        for sign, bits, mine in zip(self._signs[row], self._bits[row], self._styles[row], strict=True):
            if sign == " " or not (sign or bits):
                piece += " "
                continue
            if sign == "\0":
                continue
            if mine != style:
                line.append(piece, style=style or None)
                piece, style = "", mine
            piece += sign or (self._glyphs.dot if self._glyphs.is_ascii else chr(0x2800 + bits))
        line.append(piece, style=style or None)
        return line


def _cell_len(pieces: _Pieces) -> int:
    return sum(cell_len(text) for text, _ in pieces)


@lru_cache(PATHS)
def _path(start: _RingPlace, end: _RingPlace, bow: int) -> tuple[tuple[int, int], ...]:
    """Return the dots of the line between two nodes; its middle is *bow* dots to the right.

    The cells of the nodes themselves stay free.
    """
    x, y = 2 * start.column, 4 * start.row + 2
    across, down = 2 * end.column - x, 4 * end.row + 2 - y
    steps = max(abs(across) + 2 * abs(bow), abs(down), 1)
    parts = (step / steps for step in range(steps + 1))
    dots = (
        (round(x + across * part + 4 * bow * part * (1 - part)), round(y + down * part)) for part in parts
    )
    return tuple(dict.fromkeys(dots))[MARGIN:-MARGIN]


@lru_cache(PATHS)
def _cells(
    start: _RingPlace, end: _RingPlace, bow: int, right: int, down: int, *, is_dotted: bool
) -> tuple[tuple[int, int, int], ...]:
    """Return row, column and dots of the cells of a line, moved by *right* and *down* dots."""
    cells: dict[tuple[int, int], int] = {}
    for x, y in _path(start, end, bow)[:: DOTTED if is_dotted else 1]:
        cell = (y + down) // 4, (x + right) // 2
        cells[cell] = cells.get(cell, 0) | DOTS[(y + down) % 4][(x + right) % 2]
    return tuple([(row, column, dots) for (row, column), dots in cells.items()])
