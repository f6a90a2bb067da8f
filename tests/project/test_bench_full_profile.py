"""The estimate for a T4 reads the lessons' own settings, so a lesson that is rewritten must not leave it behind."""

from bench import full_profile
from fit3d_lite.finetuning.recipes import RECIPES


def test_every_lesson_is_estimated_and_lesson_03_by_the_recipe_as_it_is(monkeypatch):
    for name in ("tracing", "kmeans_seconds", "tsne_seconds", "photo_seconds", "pairs", "patch_pairs", "forward", "step_bytes"):
        monkeypatch.setattr(full_profile, name, lambda *_, **__: 1)  # what is timed, drawn or counted
    rows = full_profile.rows()
    assert {row[0] for row in rows} == {f"{number:02}" for number in range(8)} and len({len(row) for row in rows}) == 1
    photos = full_profile.settings(3).rooms * full_profile.settings(3).views
    steps = RECIPES["lite"].epochs * photos // RECIPES["lite"].batch
    found = {row[1]: row[2] for row in rows if row[0] == "03"}
    assert found["run"].startswith(f"{steps} steps") and found["controls"].startswith(f"{2 * steps} steps")
