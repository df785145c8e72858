from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from tests.support import recordings
from tests.support.drawn import plain
from tui.symbols import glyphs
from tui.views.ring import ring
from tui.widgets.ring import LEAST_HEIGHT, LEAST_WIDTH, RingLink, RingNode, RingPicture, draw_ring

UNICODE, ASCII = glyphs(ascii_only=False), glyphs(ascii_only=True)


DRAWN = """
                               ● ★ node-1
                           ⢀⡠⠂ ⠄ train 71%
                         ⡠⠔⠁   ⠄   ⠉⠳⣤⡀
                      ⢀⠤⠊      ⠠      ◆⠳⣄⡀
                    ⡠⠒⠁        ⠠        ⠈⠙⠶⡄
           node-0 ●      Round 7 of 20       ● node-2
        train 71%              ⠠               train 71%
                               ⠠
                                ⠄
                                ⠄
                                ● node-3
                                  train 71%"""


def nodes(count: int) -> tuple[RingNode, ...]:
    return tuple(RingNode(f"node-{one}", "●", "train", "train 71%", one == 1) for one in range(count))


def test_four_nodes_stand_on_a_ring_around_the_text_in_the_middle() -> None:
    links = (
        RingLink(0, 1, "band"),
        RingLink(2, 1, "move", 2, moved=0.5),
        RingLink(3, 1, "bad", is_dotted=True),
    )
    assert plain(draw_ring(RingPicture(nodes(4), links, (Text("Round 7 of 20"),)), 64, 12, UNICODE)) == DRAWN


def test_a_small_picture_has_two_columns_of_names() -> None:
    lines = draw_ring(RingPicture(nodes(4), (), ()), 48, 6, UNICODE)
    found = [
        (line.plain.index(name), name) for line in lines for name in line.plain.split() if "node-" in name
    ]
    assert [name for column, name in found if column < 24] == ["node-1", "node-0"]
    assert [name for column, name in found if column > 24] == ["node-2", "node-3"]
    text = plain(lines)
    assert "train node-1 ★ ●" in text
    assert "● node-2 train 71%" in text


def test_nodes_without_a_line_are_left_out() -> None:
    text = "\n".join(line.plain for line in draw_ring(RingPicture(nodes(50), (), ()), 80, 10, UNICODE))
    assert text.count("node-") == 20


@pytest.mark.parametrize("part", [0.0, 0.25, 1.0, -5.0, 7.0])
def test_what_moves_is_somewhere_on_its_link(part: float) -> None:
    picture = RingPicture(nodes(2), (RingLink(0, 1, "move", moved=part),), ())
    (row,) = {line.plain for line in draw_ring(picture, 60, 5, UNICODE) if "◆" in line.plain}
    left, right = row.index("●"), row.rindex("●")
    share = (row.index("◆") - left) / (right - left)
    assert abs(share - min(1.0, max(0.0, part))) < 0.2


def test_a_link_in_a_column_passes_beside_the_node_between_and_what_moves_is_on_top() -> None:
    links = (RingLink(0, 2, "move", moved=0.5), RingLink(1, 2, "bad", 3, is_dotted=True))
    lines = draw_ring(RingPicture(nodes(5), links, ()), 50, 9, UNICODE)
    (between,) = [line.plain for line in lines if "node-1" in line.plain]
    assert between.index("●") < between.index("◆")
    packet = next(line for line in lines if "◆" in line.plain)
    assert "move" in [span.style for span in packet.spans if "◆" in packet.plain[span.start : span.end]]


@pytest.mark.parametrize(
    ("width", "shown"),
    [(58, "shelf-pi5.local…"), (66, "shelf-pi5.local:9000"), (110, "shelf-pi5.local:9000")],
)
def test_a_long_name_gets_the_room_that_a_ring_has(width: int, shown: str) -> None:
    (first, second) = nodes(2)
    named = (first, second._replace(name="shelf-pi5.local:9000", is_starred=False))
    text = "\n".join(line.plain for line in draw_ring(RingPicture(named, (), ()), width, 14, UNICODE))
    assert f"{shown}\n" in text.replace(" ", "\n")


@given(st.integers(-3, 220), st.integers(-3, 60), st.integers(0, 60), st.booleans())
def test_a_picture_of_any_size_fills_it_and_no_more(
    width: int, height: int, count: int, is_ascii: bool
) -> None:
    picture = RingPicture(
        nodes(count), tuple(RingLink(0, one, "good", 3) for one in range(1, count)), (Text("日本語"),)
    )
    drawn = draw_ring(picture, width, height, ASCII if is_ascii else UNICODE)
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        assert drawn == []
    else:
        assert [line.cell_len for line in drawn] == [width] * height


def test_links_lead_to_the_aggregator_and_a_lost_node_hangs_on_a_broken_one() -> None:
    state = recordings.state_of(recordings.running())
    picture = ring(state, state.time, UNICODE)
    names = [node.name for node in picture.nodes]
    assert names[0] == recordings.ME
    assert [node.name for node in picture.nodes if node.is_starred] == ["macbook-1"]
    ends = {names[link.start]: names[link.end] for link in picture.links}
    assert ends == {name: "macbook-1" for name in names if name != "macbook-1"}
    broken = [names[link.start] for link in picture.links if link.is_dotted]
    assert broken == ["attic-nuc"]
    (moving,) = [link for link in picture.links if link.moved is not None]
    assert names[moving.start] == recordings.ME
    assert moving.moved == pytest.approx(0.62, abs=0.01)


def test_in_a_partition_the_other_side_is_grey_and_the_middle_says_what_is_needed() -> None:
    state = recordings.state_of(recordings.no_quorum())
    picture = ring(state, state.time, ASCII)
    assert {node.style for node in picture.nodes if node.mark == ASCII.hollow and "lost" in node.note} == {
        "quiet"
    }
    assert [line.plain for line in picture.centre] == ["NO QUORUM", "2 of 5 here, 3 needed"]


def test_before_the_run_the_linked_nodes_are_there() -> None:
    state = recordings.state_of(recordings.waiting())
    picture = ring(state, state.time, UNICODE)
    assert {node.name for node in picture.nodes} == set(state.peers)
    assert [line.plain for line in picture.centre] == ["2 of 3 here"]
