"""All cards as one table: nothing is lost on the way, controls are marked, LaTeX's own letters do no harm."""

import csv
import io

import pytest

from fit3d_lite.course import card, card_tables, setup


@pytest.fixture
def run():
    made = setup("quick")
    card("Depth & labels", [
        {"name": "mIoU, 3D-aware − original", "value": 0.0912345, "spread": 0.01, "quick": (0.05, 0.12), "paper": "+2.57 %"},
        {"name": "mIoU, wrong poses − original", "value": -0.15, "quick": (-0.1, 0.0), "unit": "100_%"},
    ])  # fmt: skip
    card("Notes", [{"name": "backbone", "value": "small"}])
    return made


def test_a_csv_line_for_every_row_with_all_digits(run):
    lines = list(csv.DictReader(io.StringIO(card_tables(run.artifacts).csv)))
    assert [line["measure"] for line in lines] == ["mIoU, 3D-aware − original", "mIoU, wrong poses − original", "backbone"]
    assert float(lines[0]["value"]) == 0.0912345 and (lines[0]["low"], lines[0]["spread"]) == ("0.05", "0.01")
    assert lines[1]["spread"] == "" and lines[1]["verdict"] == "LOOK"
    assert [line["control"] for line in lines] == ["False", "True", "False"]


def test_latex_has_plus_minus_controls_in_italics_and_escaped_letters(run):
    latex = card_tables(run.artifacts).latex
    assert r"\textbf{Depth \& labels}" in latex and r"mIoU, 3D-aware $-$ original & 0.0912 $\pm$ 0.01 & +2.57 \% \\" in latex
    assert r"\textit{mIoU, wrong poses $-$ original} & -0.150 100\_\%$^\dagger$ & " in latex
    body = [line for line in latex.splitlines() if "&" in line and "multicolumn" not in line]
    assert all(line.replace(r"\&", "").count("&") == 2 and line.endswith(r"\\") for line in body)


def test_a_card_shown_again_takes_the_place_of_the_last(run):
    card("Notes", [{"name": "backbone", "value": "dinov2_small"}])
    rows = [row for row in card_tables(run.artifacts).rows if row["card"] == "Notes"]
    assert [row["value"] for row in rows] == ["dinov2_small"]


def test_claims_count_single_runs_controls_and_what_is_out_of_range(run):
    said = card_tables(run.artifacts).claims
    assert said.startswith("Numbers: 2, from result cards: 2, profile quick. Without a spread: 1;")
    assert "Controls, in italics: 1." in said and "Without an expected range: 0." in said
    assert said.endswith("unexplained: mIoU, wrong poses − original (Depth & labels).")


def test_files_are_written_and_a_folder_without_cards_is_refused(run, tmp_path):
    paths = card_tables(run.artifacts).save(tmp_path / "paper")
    assert [path.name for path in paths] == ["results.csv", "results.tex"] and all(path.stat().st_size for path in paths)
    with pytest.raises(FileNotFoundError, match="no result card is kept in"):
        card_tables(tmp_path)


def test_before_setup_a_card_is_shown_and_nothing_is_written(tmp_path, capsys):
    card("Alone", [{"name": "a", "value": 1}], profile="quick")
    assert "Alone" in capsys.readouterr().out and not list(tmp_path.rglob("*.json"))
