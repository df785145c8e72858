from __future__ import annotations

from p2pfl.messages import ClassCount, Evaluation
from p2pfl.report.judgement import (
    class_lines,
    confusion_lines,
    judgement_fields,
    judgement_lines,
    matrix_lines,
)

EVALUATION = Evaluation(10, {"accuracy": 7.0, "loss": 5.0}, (ClassCount(4, 6, 5), ClassCount(3, 4, 5)))
MATRIX = ((4, 2), (1, 3))


def test_the_report_has_metrics_classes_and_the_matrix() -> None:
    lines = judgement_lines(EVALUATION, ("cat", "dog"), MATRIX)
    assert lines[:3] == ["accuracy  0.7000", "f1        0.6970", "loss      0.5000"]
    assert lines[4:7] == [
        "class  examples   right  recall  precision      f1",
        "cat           6       4  0.6667     0.8000  0.7273",
        "dog           4       3  0.7500     0.6000  0.6667",
    ]
    assert lines[8:] == [
        "true classes in rows, predicted ones in columns:",
        "     cat dog",
        "cat    4   2",
        "dog    1   3",
    ]


def test_numbers_have_metrics_only() -> None:
    assert judgement_lines(Evaluation(4, {"mae": 2.0}), (), ()) == ["mae  0.5000"]


def test_a_class_without_examples_has_no_recall() -> None:
    assert class_lines((ClassCount(0, 0, 0),), ["fox"])[1].split() == ["fox", "0", "0", "-", "-", "-"]


def test_zeros_are_dots_and_long_names_are_cut_above_the_columns() -> None:
    lines = matrix_lines(((3, 0), (0, 12)), ["aeroplane", "b"])
    assert lines[1:] == ["           aeropl  b", "aeroplane       3  .", "b               . 12"]


def test_the_most_frequent_confusions_of_many_classes_are_listed() -> None:
    matrix = [[0] * 30 for _ in range(30)]
    matrix[3][4], matrix[7][1], matrix[5][5] = 2, 9, 50
    names = [str(number) for number in range(30)]
    lines = ["most frequent confusions:", "     9  7 taken for 1", "     2  3 taken for 4"]
    assert confusion_lines(matrix, names) == lines
    assert judgement_lines(EVALUATION, names, matrix)[-3:] == lines
    assert confusion_lines(((1, 0), (0, 1)), ["a", "b"]) == ["no class was taken for another one"]


def test_hostile_names_are_harmless() -> None:
    lines = judgement_lines(EVALUATION, ("c\x1b[2Jat", "d" * 90), MATRIX)
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) <= 80


def test_json_has_the_same() -> None:
    fields = judgement_fields(EVALUATION, ("cat", "dog"), MATRIX)
    assert fields["metrics"]["accuracy"] == 0.7
    assert fields["classes"][1] == {"class": "dog", "examples": 4, "right": 3, "predicted": 5}
    assert (fields["examples"], fields["confusion"]) == (10, MATRIX)
