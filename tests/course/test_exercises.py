"""Exercises accept what is right and name what is wrong; quizzes are whole; the printed solutions of all lessons hold."""

import ast

import pytest
import torch

from fit3d_lite.course.exercises import exercise, judge, lesson
from fit3d_lite.course.lessons.records import Exercise
from fit3d_lite.course.quiz import quiz
from tools import exercises as tool
from tools.notebooks import read

DOUBLE = Exercise(
    "twice the number", lambda x: 2 * x,
    {"that is the square": lambda x: x * x, "x is a tensor: it has no .real_part": lambda x: x.real_part},
    "add it to itself", lambda: {"two": (torch.tensor(2.0),), "three": (torch.tensor(3.0),), "none": (torch.zeros(0),)},
)  # fmt: skip


def test_the_teachers_notebooks_have_each_stub_filled_in_and_nothing_else_changed(tmp_path):
    filled = 0
    for path in tool.write_solutions(tmp_path):
        mine, theirs = (read(p)["cells"] for p in (path, tool.lessons()[path.name[:2]]))
        changed = [(a["source"], b["source"]) for a, b in zip(mine, theirs, strict=True) if a != b]
        assert all(ast.parse(a) and "f3d.exercise(" in a and "f3d.exercise(" in b for a, b in changed), path.name
        filled += len(changed)
    assert filled == sum(len(tool.printed(p)) for p in tool.lessons().values())


def test_a_right_function_is_accepted_on_all_cases():
    assert judge(DOUBLE, lambda x: x + x) == ("solved", "")


@pytest.mark.parametrize("empty", [None, ..., lambda x: ..., lambda x: None])
def test_what_is_not_written_is_open_and_not_wrong(empty):
    assert judge(DOUBLE, empty)[0] == "open"


def test_a_typical_mistake_is_named_with_the_case_that_shows_it():
    state, said = judge(DOUBLE, lambda x: x**2)
    assert state == "wrong" and 'case "three"' in said and "yours gives 9, right is 6" in said
    assert "Likely: that is the square" in said


def test_a_mistake_that_ends_in_an_error_is_known_by_the_error():
    assert "it has no .real_part" in judge(DOUBLE, lambda x: x.imag_part)[1]


def test_any_other_mistake_gets_the_hint():
    assert "Hint: add it to itself" in judge(DOUBLE, lambda x: x + 7)[1]


@pytest.mark.parametrize("odd", [lambda x: "two", lambda x: x[None], lambda x: float("nan"), lambda: 1, 4.0, lambda x: x / 0])
def test_answers_of_any_kind_are_refused_without_stopping(odd):
    assert judge(DOUBLE, odd)[0] == "wrong"


def test_a_student_function_cannot_change_what_the_next_case_is_tried_on():
    assert judge(DOUBLE, lambda x: x.mul_(2))[0] == "solved"


def test_where_the_right_answer_is_nan_only_nan_is_right():
    asked = Exercise("0 / 0", lambda x: x / x, {}, "", lambda: {"zero": (torch.zeros(2),), "one": (torch.ones(2),)})
    assert judge(asked, lambda x: x / x)[0] == "solved"
    assert judge(asked, lambda x: torch.nan_to_num(x / x))[0] == "wrong"


def test_an_unknown_exercise_is_named(capsys):
    with pytest.raises(ValueError, match="there is no lesson '99'"):
        exercise("99.1", None)
    with pytest.raises(ValueError, match="there is no exercise '01.77'; lesson 01 has 1"):
        exercise("01.77", None)
    exercise("01.1", None)
    assert "○ not solved yet" in capsys.readouterr().out


PRINTED = [(name, *rest, tool.imports_of(path)) for path in tool.lessons().values() for name, rest in tool.printed(path).items()]


@pytest.mark.parametrize(("name", "cell", "solution", "imports"), PRINTED, ids=[name for name, *_ in PRINTED])
def test_the_printed_solution_is_accepted_and_each_typical_wrong_answer_refused_by_its_name(name, cell, solution, imports):
    assert tool.faults(name, cell, solution, imports) == []


@pytest.mark.parametrize("name", tool.lessons())
def test_a_lesson_has_a_short_and_a_long_exercise_and_asks_all_it_knows(name):
    known = lesson(name).EXERCISES
    assert {f"{name}.{number}" for number in known} == set(tool.printed(tool.lessons()[name]))
    assert max(asked.minutes for asked in known.values()) >= 10 and min(asked.minutes for asked in known.values()) < 10


@pytest.mark.parametrize("name", tool.lessons())
def test_a_quiz_has_five_questions_with_four_answers_each_explained(name):
    asked = lesson(name).QUIZ
    assert len(asked) == 5
    for question in asked:
        assert len(question.wrong) == 3 and question.right not in question.wrong and question.why and all(question.wrong.values())
    markup = quiz(name)._repr_html_()
    assert markup.count("<details") == 20 and markup.count('data-right="1"') == 5
    assert f'f3d.quiz("{name}")' in tool.lessons()[name].read_text(encoding="utf-8").replace('\\"', '"')
