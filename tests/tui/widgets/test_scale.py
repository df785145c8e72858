from __future__ import annotations

import math

import pytest

from tui.widgets.scale import (
    LABEL_WIDTH,
    Points,
    View,
    XKind,
    bounds,
    number,
    round_number,
    scaled,
    spans_a_decade,
    with_ticks,
    x_ticks,
)


def curve(*values: float | None) -> Points:
    return tuple((float(x), y) for x, y in enumerate(values))


def view_of(*values: float | None, **options: bool | float) -> View:
    view = bounds([curve(*values)], **options)  # type: ignore[arg-type]
    assert view is not None
    return view


def test_an_axis_of_accuracies_stays_within_0_and_1_and_others_have_room_on_both_sides() -> None:
    assert view_of(0.01, 0.99)[2:] == (0.0, 1.0)
    loss, r2 = view_of(0.1, 2.4), view_of(-0.8, 0.9)
    assert loss.y_high > 2.4
    assert loss.y_low == 0.0
    assert r2.y_low < -0.8, "R2 may be negative"


def test_the_begin_of_a_long_curve_widens_only_a_logarithmic_axis() -> None:
    long = [0.1 if x < 3 else 0.9 + x / 1000 for x in range(40)]
    assert view_of(*long).y_low > 0.85
    assert view_of(*long[:10]).y_low < 0.1
    logs = scaled(curve(*long), is_log=True)
    view = bounds([logs], is_log=True)
    assert view is not None
    assert view.y_low == -1.0


def test_zoom_shows_the_last_part_and_a_band_does_not_widen_the_horizontal_axis() -> None:
    values = curve(*(x / 10 for x in range(9)), None)
    view = bounds([values], [curve(*[2.0] * 10), curve(*[3.0] * 10)], zoom=4)
    assert view is not None
    assert (view.x_low, view.x_high) == (6.0, 8.0)
    assert view.y_high > 3.0
    assert bounds([curve(None), ()]) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.7e308, -1e13, 1e13, None])
def test_what_no_axis_can_show_is_a_gap(value: float | None) -> None:
    for is_log in (False, True):
        assert [y is None for _, y in scaled(curve(0.5, value), is_log=is_log)] == [False, True]


def test_only_positive_values_are_on_a_logarithmic_scale() -> None:
    assert scaled(curve(100.0, 0.0, -1.0, 0.01), is_log=True) == curve(2.0, None, None, -2.0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [((2.0, 0.2), True), ((2.0, 0.21), False), ((2.0, 0.0), False), ((2.0, None, 0.1), True), ((), False)],
)
def test_a_loss_that_fell_to_a_tenth_spans_a_decade(values: tuple[float, ...], expected: bool) -> None:
    assert spans_a_decade(curve(*values)) is expected


@pytest.mark.parametrize(
    ("low", "high", "rows", "expected"),
    [
        (0.55, 1.0, 11, "0.5 0.75 1"),
        (0.12, 0.98, 7, "0 0.5 1"),
        (0.45, 1.0, 7, "0.4 0.6 0.8 1"),
        (0.51, 1.0, 7, "0.5 0.75 1"),
        (0.95, 0.99, 12, "0.95 0.96 0.97 0.98 0.99"),
        (0.0, 2.4, 9, "0 1 2 3"),
        (3.0, 3.0001, 3, "3 3.0001"),
        (-0.8, 0.95, 9, "-1 -0.5 0 0.5 1"),
        (-0.6, 0.73, 2, "-1 0 1"),
    ],
)
def test_an_axis_has_round_values(low: float, high: float, rows: int, expected: str) -> None:
    view, ticks = with_ticks(View(0.0, 1.0, low, high), rows)
    assert " ".join(tick.label for tick in ticks) == expected
    assert view.y_low <= low + 1e-12
    assert view.y_high >= high - 1e-12


@pytest.mark.parametrize("values", [(0.0, 1e-19), (1.0, 1.0 + 2e-16), (-1e-30, 0.0), (2e9, 2e9 + 3e-7)])
def test_an_axis_of_nearly_equal_values_has_a_height(values: tuple[float, float]) -> None:
    view, ticks = with_ticks(view_of(*values), 9)
    assert view.y_low < view.y_high
    assert len(ticks) >= 2


@pytest.mark.parametrize(
    ("low", "high", "rows", "expected"),
    [
        (0.11, 1.9, 11, "0.1 0.2 0.5 1 2"),
        (0.11, 1.9, 6, "0.1 1"),
        (0.0012, 30.0, 12, "0.001 0.01 0.1 1 10"),
        (1e-9, 1e9, 12, "1e-09 0.0001 10 1e+06"),
        (0.3, 0.31, 6, "0.2 0.5"),
        (0.02, 0.45, 5, "0.02 0.5"),
    ],
)
def test_a_logarithmic_axis_has_powers_of_ten_and_2_and_5_times_them(
    low: float, high: float, rows: int, expected: str
) -> None:
    view, ticks = with_ticks(View(0.0, 1.0, math.log10(low), math.log10(high)), rows, is_log=True)
    assert " ".join(tick.label for tick in ticks) == expected
    assert view.y_low <= math.log10(low)
    assert view.y_high >= math.log10(high)
    assert all(math.isclose(10**tick.value, float(tick.label)) for tick in ticks)


@pytest.mark.parametrize(
    ("low", "high", "columns", "kind", "expected"),
    [
        (1, 42, 43, "round", "1 10 20 30 40 42"),
        (1, 3, 60, "round", "1 2 3"),
        (1, 12, 30, "round", "1 5 10 12"),
        (7.5, 9.5, 30, "round", "8 9"),
        (5, 5, 30, "round", "5"),
        (0, 514, 40, "time", "0s 2m 4m 6m 8m 9m"),
        (0, 90, 40, "time", "0s 20s 40s 60s 80s 90s"),
        (0, 40_000, 40, "time", "0s 2h 4h 6h 8h 10h 11h"),
    ],
)
def test_the_horizontal_axis_has_round_values_between_its_ends(
    low: float, high: float, columns: int, kind: XKind, expected: str
) -> None:
    ticks = x_ticks(View(low, high, 0.0, 1.0), columns, kind)
    assert " ".join(tick.label for tick in ticks) == expected


def test_labels_of_the_axis_have_room() -> None:
    for power in range(-12, 13):
        for factor in (1, 2, 2.5, 5, -2.5):
            assert len(round_number(factor * 10.0**power)) <= LABEL_WIDTH


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0.000"), (0.9612, "0.961"), (9.9996, "10.0"), (12.34, "12.3"), (99.96, "100"),
        (99_999.4, "99999"), (2.3e9, "2e+09"), (-0.123, "-0.12"), (-9.996, "-10.0"), (-1234.5, "-1234"),
        (-12_345.0, "-1e4"), (-1e12, "-1e12"), (0.0004, "4e-4"), (1e-5, "1e-5"), (1e-12, "1e-12"), (1e-100, "0.000"),
        (-0.003, "-3e-3"), (-1e-12, "-0.00"),
    ],
)  # fmt: skip
def test_values_take_five_characters_at_most(value: float, expected: str) -> None:
    assert number(value) == expected
    assert len(expected) <= 5
