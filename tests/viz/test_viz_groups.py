"""Groups and their scores, the foreground split, artefacts, and the basis shared by scenes: against scikit-learn, plain
versions and cases whose answer is known."""

import math

import numpy as np
import pytest
import torch
from blobs import blobs, rotated
from torch.testing import assert_close

from fit3d_lite import viz
from fit3d_lite.viz.foreground import otsu

# ---- one basis for several scenes, for a part of the patches, for later directions


def test_scenes_of_different_grids_share_one_basis():
    whole = blobs(views=4, h=6, w=6)
    large, small = whole[:3], whole[3:, :, :3, :4]
    together = viz.pca_colors([large, small])
    assert [c.shape for c in together] == [(3, 6, 6, 3), (1, 3, 4, 3)]
    basis = viz.pca_basis([large, small])
    assert_close(together[0], basis.colors(large), atol=1e-5, rtol=0)
    assert_close(together[1], basis.colors(small), atol=1e-5, rtol=0)
    models = viz.pca_colors({"a": [large, small], "b": [rotated(large), rotated(small)]})
    assert_close(models["a"][1], models["b"][1], atol=1e-4, rtol=0)


def test_a_basis_of_scenes_is_that_of_scikit_learn_on_all_their_patches():
    from sklearn.decomposition import PCA

    scenes = [blobs(views=2), blobs(views=1, h=3, seed=2)]
    rows = np.concatenate([s.movedim(1, -1).reshape(-1, 12).double().numpy() for s in scenes])
    reference = PCA(5).fit(rows)
    for skip in (0, 2):
        basis = viz.pca_basis(scenes, skip=skip)
        agreement = (basis.axes.T @ torch.from_numpy(reference.components_[skip : skip + 3]).T).abs()
        assert_close(agreement, torch.eye(3).double(), atol=1e-6, rtol=0)
        assert basis.explained == pytest.approx(reference.explained_variance_ratio_[skip : skip + 3].sum(), rel=1e-6)


def test_a_mask_fits_on_its_patches_alone_and_greys_the_others():
    feats = blobs(views=2, h=8, w=8)
    mask = torch.zeros(2, 8, 8, dtype=torch.bool)
    mask[:, 2:6, 1:7] = True
    inside = feats[:, :, 2:6, 1:7]
    wild = torch.where(mask[:, None], feats, 100 * feats.flip(1))  # what lies outside must not matter
    colors = viz.pca_colors(wild, mask=mask)
    assert_close(colors[:, 2:6, 1:7], viz.pca_colors(inside), atol=1e-5, rtol=0)
    assert (colors[~mask] == 0.85).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda f: viz.pca_colors(f, mask=torch.ones(3, 6, 6, dtype=torch.bool)), r"\[3, 6, 8\], not torch.bool of \[3, 6, 6\]"),
        (lambda f: viz.pca_colors(f, mask=torch.ones(3, 6, 8)), "not torch.float32"),
        (lambda f: viz.pca_colors(f, mask=torch.zeros(3, 6, 8, dtype=torch.bool)), "keeps 0 of 144 patches"),
        (lambda f: viz.pca_colors(f, per_image=True, mask=torch.ones(3, 6, 8, dtype=torch.bool)), "choose one"),
        (lambda f: viz.pca_colors([f, f[:, :7]]), "one C, these have 7 and 12"),
        (lambda f: viz.pca_colors([]), "the list is empty"),
        (lambda f: viz.pca_basis(f, skip=10), "C = 12 channels and at least 13"),
        (lambda f: viz.pca_colors({"a": [f, f], "b": [f]}), "'b' has 3 pictures and 'a' has 3 and 3"),
    ],
)
def test_what_no_basis_can_be_fitted_on_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call(blobs())


# ---- foreground


def on_a_ground(swap=1.0, large=False):
    """A square of one kind of patch on a ground of another, with noise."""
    g = torch.Generator().manual_seed(0)
    inside = torch.zeros(2, 10, 10, dtype=torch.bool)
    inside[0, 3:8, 2:6], inside[1, 4:7, 4:8] = True, True
    if large:
        inside[:, 1:-1, 1:-1] = True
    feats = 0.1 * torch.randn(2, 6, 10, 10, generator=g)
    feats[:, 3] += swap * torch.where(inside, 2.0, -1.0)
    return feats, inside


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("swap", [1.0, -1.0])
def test_the_foreground_is_what_does_not_touch_the_border_whatever_the_sign_of_the_axis(swap, large):
    feats, inside = on_a_ground(swap, large)
    assert torch.equal(viz.foreground(feats, "otsu").mask, inside)
    split = viz.foreground(feats)
    assert torch.equal(split.mask, inside) and split.threshold == 0
    assert f"{64 if large else 16} % of 200 patches" in repr(split)


def test_otsu_is_the_best_of_all_cuts():
    g = torch.Generator().manual_seed(1)
    values = torch.cat([torch.randn(40, generator=g), 3 + 0.5 * torch.randn(25, generator=g), torch.zeros(5)]).double()

    def within(cut):
        parts = values[values <= cut], values[values > cut]
        return sum(((p - p.mean()) ** 2).sum() for p in parts)

    every = values.sort().values
    best = min(within((a + b) / 2) for a, b in zip(every[:-1], every[1:], strict=True) if b > a)
    assert within(otsu(values)) == pytest.approx(best.item())


def test_a_split_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="all 18 patches are alike"):
        viz.foreground(torch.full((2, 4, 3, 3), 2.0))
    with pytest.raises(ValueError, match="not 'median'"):
        viz.foreground(blobs(), "median")


# ---- merging


def test_merged_groups_are_those_of_scikit_learn_numbered_by_size():
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.metrics import adjusted_rand_score

    feats = blobs(views=2)
    x = torch.nn.functional.normalize(feats, dim=1).movedim(1, -1).reshape(-1, 12).numpy()
    for linkage in ("ward", "average"):
        mine = viz.agglomerative(feats, 5, linkage=linkage)
        reference = AgglomerativeClustering(5, linkage=linkage).fit(x).labels_
        assert adjusted_rand_score(reference, mine.flatten()) == 1
        assert (torch.bincount(mine.flatten()).diff() <= 0).all()


def test_patches_that_were_not_drawn_join_the_nearest_group():
    g = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 3, (2, 12, 12), generator=g)
    feats = torch.eye(5)[truth].movedim(-1, 1) + 0.02 * torch.randn(2, 5, 12, 12, generator=g)
    few = viz.agglomerative(feats, 3, at_most=30)
    assert torch.equal(viz.match_clusters(few, truth), truth)
    level = torch.tensor([0.0, 1.0, 3.0])[truth][:, None] + 0.1 * torch.randn(2, 1, 12, 12, generator=g)
    assert torch.equal(viz.match_clusters(viz.agglomerative(level, 3, cosine=False, at_most=30), truth), truth)
    both = viz.agglomerative({"a": feats, "b": rotated(feats)}, 3)
    assert torch.equal(both["a"], both["b"])


def test_merging_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="not 'median'"):
        viz.agglomerative(blobs(), 3, linkage="median")
    with pytest.raises(ValueError, match="7 patches cannot be merged into 9"):
        viz.agglomerative(blobs(), 9, at_most=7)
    with pytest.raises(ValueError, match="200 clusters of 3×6×8 = 144 patches"):
        viz.agglomerative(blobs(), 200)


# ---- scores


def test_scores_are_those_of_the_formulas_on_a_table_that_can_be_read():
    clusters = torch.tensor([[[0, 0, 0, 1, 1, 1, 2, 2]]])
    labels = torch.tensor([[[0, 0, 1, 1, 1, 255, 2, 2]]])
    table = viz.contingency(clusters, labels)
    assert table.tolist() == [[2, 1, 0], [0, 2, 0], [0, 0, 2]]
    score = viz.cluster_scores(clusters, labels)
    assert score.patches == 7 and score.mean("purity") == pytest.approx(6 / 7)
    p = table.double() / 7
    rows, cols = p.sum(1), p.sum(0)
    mutual = (p * (p / rows[:, None] / cols).log()).nan_to_num().sum()
    entropy = [-(q * q.log()).sum() for q in (rows, cols)]
    assert score.mean("NMI") == pytest.approx((2 * mutual / sum(entropy)).item())
    pairs = [math.comb(int(n), 2) for n in table.flatten()], [math.comb(int(n), 2) for n in table.sum(1)]
    both, mine, theirs = sum(pairs[0]), sum(pairs[1]), sum(math.comb(int(n), 2) for n in table.sum(0))
    chance = mine * theirs / math.comb(7, 2)
    assert score.mean("ARI") == pytest.approx((both - chance) / ((mine + theirs) / 2 - chance))


def test_perfect_groups_score_one_and_groups_by_lot_score_zero_where_chance_is_taken_off():
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 6, (2, 20, 20), generator=g)
    perfect = viz.cluster_scores(torch.randperm(6, generator=g)[labels], labels)
    assert all(perfect.mean(s) == pytest.approx(1) for s in ("NMI", "AMI", "ARI", "purity"))
    lot = viz.cluster_scores([torch.randint(0, k, (2, 20, 20), generator=g) for k in (5, 400)], labels)
    assert all(abs(x) < 0.02 for x in lot.runs["AMI"] + lot.runs["ARI"])
    assert all(lot.runs[s][1] > lot.runs[s][0] + 0.2 for s in ("NMI", "purity"))  # they reward many groups


def test_several_runs_have_a_mean_and_a_spread_and_print_as_a_row():
    labels = torch.tensor([[[0, 0, 1, 1]]])
    runs = [labels, torch.tensor([[[0, 1, 1, 1]]])]
    score = viz.cluster_scores(runs, labels, "original")
    assert score.runs["purity"] == [1.0, 0.75]
    assert score.mean("purity") == 0.875 and score.spread("purity") == pytest.approx(0.25 / 2**0.5)
    assert str(score).startswith("original") and "purity 0.875 ± 0.177" in str(score) and "2 runs" in str(score)
    assert math.isnan(viz.cluster_scores(labels, labels).spread())
    assert (score + score).runs["purity"] == [1.0, 0.75, 1.0, 0.75]
    other = viz.cluster_scores(runs, [labels, runs[1]])
    assert other.runs["ARI"] == [1.0, 1.0]  # each run with its own truth


@pytest.mark.parametrize(
    ("clusters", "labels", "said"),
    [
        (torch.zeros(1, 2, 2).long(), torch.zeros(1, 4, 4).long(), r"\[1, 2, 2\] and the labels \[1, 4, 4\].*resized"),
        (torch.zeros(1, 2, 2), torch.zeros(1, 2, 2).long(), "clusters must be whole numbers from 0, not torch.float32"),
        (torch.zeros(1, 2, 2).long(), torch.full((1, 2, 2), 255), "all 4 patches have the label 255"),
        ([], torch.zeros(1, 2, 2).long(), "0 runs"),
        ([torch.zeros(1, 2, 2).long()], [torch.zeros(1, 2, 2).long()] * 2, "1 runs of clusters with 2 label maps"),
    ],
)
def test_scores_refuse_what_cannot_be_compared(clusters, labels, said):
    with pytest.raises(ValueError, match=said):
        viz.cluster_scores(clusters, labels)
    with pytest.raises(ValueError, match="no score 'F1'"):
        viz.cluster_scores(torch.zeros(1, 1, 2).long(), torch.zeros(1, 1, 2).long()).mean("F1")


def test_controls_hold_the_mean_color_and_the_place_of_a_patch():
    images = torch.rand(2, 3, 8, 12)
    controls = viz.control_features(images, 4, 3)
    assert_close(controls["color"][1, :, 2, 1], images[1, :, 4:6, 4:8].mean((1, 2)))
    assert controls["position"].shape == (2, 2, 4, 3)
    assert controls["position"][1, :, 2, 1].tolist() == pytest.approx([2.5 / 4, 1.5 / 3])


# ---- artefacts


def test_lengths_that_stand_out_are_marked_and_ordinary_ones_are_not():
    g = torch.Generator().manual_seed(0)
    feats = torch.nn.functional.normalize(torch.randn(3, 8, 16, 16, generator=g), dim=1)
    feats = feats * (1 + 0.1 * torch.randn(3, 1, 16, 16, generator=g))
    assert not viz.outlier_tokens(viz.token_norms(feats)).any()
    feats[1, :, 2, 5] *= 8
    marked = viz.outlier_tokens(viz.token_norms(feats))
    assert marked.sum() == 1 and marked[1, 2, 5]
    assert_close(viz.token_norms(feats)[1, 2, 5], feats[1, :, 2, 5].norm())
    with pytest.raises(ValueError, match="above 0, not -1"):
        viz.outlier_tokens(torch.rand(1, 2, 2), -1)


def test_the_share_of_the_place_is_one_for_a_pattern_zero_for_noise_and_right_between():
    g = torch.Generator().manual_seed(0)
    pattern, noise = torch.randn(4, 40, 40, generator=g), torch.randn(8, 4, 40, 40, generator=g)
    assert viz.position_share(pattern.expand(8, 4, 40, 40)) == pytest.approx(1)
    assert viz.position_share(noise) < 0.01  # the plain ratio would be 1/8 here
    assert viz.position_share(pattern + 2 * noise) == pytest.approx(1 / 5, abs=0.01)
    with pytest.raises(ValueError, match="one photo cannot part"):
        viz.position_share(noise[:1])


def test_grain_is_the_cosine_to_the_mean_of_the_neighbors():
    feats = blobs(views=2, h=5, w=5)
    x = feats - feats.mean((0, 2, 3), keepdim=True)
    noise = viz.local_noise(feats)
    for r, c in ((0, 0), (2, 3), (4, 2)):
        near = [x[1, :, i, j] for i in range(max(0, r - 1), min(5, r + 2)) for j in range(max(0, c - 1), min(5, c + 2))
                if (i, j) != (r, c)]  # fmt: skip
        expected = 1 - torch.cosine_similarity(x[1, :, r, c], torch.stack(near).mean(0), dim=0)
        assert_close(noise[1, r, c], expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="1×5"):
        viz.local_noise(feats[:, :, :1])


def test_found_again_is_the_part_of_patches_whose_most_similar_patch_elsewhere_shows_the_same():
    g = torch.Generator().manual_seed(3)
    feats, labels = torch.randn(3, 5, 4, 6, generator=g), torch.randint(0, 3, (3, 4, 6), generator=g)
    feats[1, :, 2, 2] *= 50  # a long feature is no better an answer
    labels[0, 0], labels[2, 1, 3] = 255, 255
    rates = []
    for a in range(3):
        for b in range(3):
            asked = [(r, c) for r in range(4) for c in range(6) if a != b and labels[a, r, c] != 255]
            hits = 0
            for r, c in asked:
                alike = torch.cosine_similarity(feats[b], feats[a, :, r, c][:, None, None], dim=0)
                best = alike.masked_fill(labels[b] == 255, -2).argmax()
                hits += bool(labels[b].flatten()[best] == labels[a, r, c])
            rates += [hits / len(asked)] if asked else []
    assert viz.found_again(feats, labels) == pytest.approx(sum(rates) / 6)


def test_found_again_leaves_out_views_without_labels_and_refuses_other_grids():
    feats, labels = torch.rand(3, 4, 2, 2), torch.zeros(3, 2, 2).long()
    labels[2] = 255
    assert viz.found_again(feats, labels) == 1
    assert math.isnan(viz.found_again(feats, torch.full((3, 2, 2), 255)))
    with pytest.raises(ValueError, match=r"need labels \[3, 2, 2\] and two views at least, not \[3, 4, 4\]"):
        viz.found_again(feats, torch.zeros(3, 4, 4).long())
    with pytest.raises(ValueError, match="two views at least"):
        viz.found_again(feats[:1], labels[:1])
