"""Pictures of features: what is compared shares one meaning of colors, and bad input is refused with its numbers."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from blobs import blobs, drawn, rotated
from torch.testing import assert_close

from fit3d_lite import viz
from fit3d_lite.viz.palette import color_map, palette, seen

# ---- PCA colors


def test_principal_directions_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    feats = blobs()
    x = feats.movedim(1, -1).reshape(-1, 12).double().numpy()
    reference = PCA(3).fit(x)
    basis = viz.pca_basis(feats)
    agreement = (basis.axes.T @ torch.from_numpy(reference.components_).T).abs()
    assert_close(agreement, torch.eye(3).double(), atol=1e-6, rtol=0)
    assert basis.explained == pytest.approx(reference.explained_variance_ratio_.sum(), rel=1e-6)


def test_a_model_that_only_turned_its_features_gets_the_same_colors():
    feats = blobs()
    colors = viz.pca_colors({"original": feats, "turned": 3 * rotated(feats) - 2})
    assert_close(colors["original"], colors["turned"], atol=1e-4, rtol=0)


def test_a_color_keeps_its_meaning_when_another_direction_becomes_the_strongest():
    g = torch.Generator().manual_seed(0)
    meanings = torch.randn(2, 3, 16, 16, generator=g).exp()
    meanings = torch.cat([meanings, torch.zeros(2, 2, 16, 16)], 1)
    strengths = torch.tensor([[3.0, 2.0, 1.0, 0, 0], [2.0, 2.5, 3.0, 0, 0]])[:, None, :, None, None]
    colors = viz.pca_colors({"first": meanings * strengths[0], "other": rotated(meanings * strengths[1])})
    pairs = zip(*(c.reshape(-1, 3).T for c in colors.values()), strict=True)
    assert min(torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs) > 0.8


def test_models_of_other_width_and_grid_are_aligned_by_what_they_see():
    feats = blobs(h=8, w=8)
    wide = torch.cat([rotated(feats), torch.zeros(3, 5, 8, 8)], 1).repeat_interleave(2, 2).repeat_interleave(2, 3)
    colors = viz.pca_colors({"first": feats, "finer": wide})
    assert colors["finer"].shape == (3, 16, 16, 3)
    assert_close(colors["finer"][:, ::2, ::2], colors["first"], atol=1e-4, rtol=0)


def test_the_basis_is_shared_by_all_pictures_unless_asked_otherwise():
    feats = blobs(views=2)
    feats[1] = feats[0] + torch.randn(12, 1, 1, generator=torch.Generator().manual_seed(3))  # the same, moved
    shared, single = viz.pca_colors(feats), viz.pca_colors(feats, per_image=True)
    assert_close(single[0], single[1], atol=1e-3, rtol=0)  # each fitted by itself: the move is hidden
    assert (shared[0] - shared[1]).abs().mean() > 0.05


@pytest.mark.parametrize("seed", range(5))
def test_colors_do_not_depend_on_the_order_of_the_pictures(seed):
    feats = blobs(views=4, seed=seed)
    order = [2, 0, 3, 1]
    assert_close(viz.pca_colors(feats[order]), viz.pca_colors(feats)[order], atol=1e-5, rtol=0)
    assert_close(viz.pca_colors(-feats), viz.pca_colors(feats), atol=1e-5, rtol=0)  # nor on a sign of the channels


def test_constant_features_are_grey():
    for per_image in (False, True):
        colors = viz.pca_colors({"flat": torch.full((2, 5, 3, 3), 7.0), "not": blobs(2, 5, 3, 3)}, per_image)
        assert_close(colors["flat"], colors["flat"][:1, :1, :1].expand(2, 3, 3, 3), atol=1e-6, rtol=0)
    assert_close(viz.pca_colors(torch.full((1, 5, 2, 2), 7.0)), torch.full((1, 2, 2, 3), 0.5))


def test_one_extreme_patch_does_not_darken_the_picture():
    feats = blobs(h=20, w=20)
    wild = feats.clone()
    wild[0, :, 0, 0] = 60 * (feats[0, :, 0, 0] - feats.mean())
    # Its direction may take one axis; the spread of the others stays.
    assert viz.pca_colors(wild).std() > 0.5 * viz.pca_colors(feats).std()


def test_a_basis_fitted_once_colors_later_pictures_alike():
    feats = blobs()
    basis = viz.pca_basis(feats)
    assert_close(basis.colors(feats[1:2]), basis.colors(feats)[1:2])
    with pytest.raises(ValueError, match="12 channels, these features have 7"):
        basis.colors(torch.zeros(1, 7, 2, 2))


@pytest.mark.parametrize(
    ("feats", "said"),
    [
        (torch.zeros(4, 3, 3), r"\[4, 3, 3\]; for one picture write feats\[None\]"),
        (torch.zeros(1, 2, 3, 3), "C = 2 channels and at least 3"),
        (torch.full((1, 4, 2, 2), torch.nan), "16 values of 16 that are not finite"),
        ({}, "the dict is empty"),
        ({"a": torch.zeros(2, 4, 3, 3), "b": torch.zeros(3, 4, 3, 3)}, "'b' has 3 pictures and 'a' has 2"),
    ],
)
def test_bad_features_are_refused_with_their_numbers(feats, said):
    with pytest.raises(ValueError, match=said):
        viz.pca_colors(feats)


# ---- clusters and similarity


def test_clusters_find_the_groups_and_number_them_by_size():
    directions = torch.eye(4)[[0] * 9 + [1] * 5 + [2] * 2].T.reshape(1, 4, 4, 4)
    lengths = torch.linspace(0.1, 50, 16).reshape(1, 1, 4, 4)  # cosine: length must not matter
    labels = viz.kmeans(directions * lengths, 3)
    assert labels.flatten().tolist() == [0] * 9 + [1] * 5 + [2] * 2


def test_a_cluster_keeps_its_number_when_it_is_no_longer_the_largest():
    def model(sizes):
        return torch.eye(4)[[g for g, n in enumerate(sizes) for _ in range(n)]].T.reshape(1, 4, 4, 4)

    labels = viz.kmeans({"original": model([6, 5, 5]), "other": rotated(model([5, 6, 5]))}, 3)
    assert (labels["original"] != labels["other"]).sum() == 1  # the one patch that changed its group


def test_matching_recovers_a_permutation():
    g = torch.Generator().manual_seed(0)
    reference = torch.randint(0, 9, (2, 12, 12), generator=g)
    shuffled = torch.randperm(9, generator=g)[reference]
    assert torch.equal(viz.match_clusters(shuffled, reference), reference)
    hit, noise = torch.rand(2, 12, 12, generator=g) < 0.3, torch.randint(0, 9, (2, 12, 12), generator=g)
    noisy = torch.where(hit, noise, shuffled)
    assert (viz.match_clusters(noisy, reference) == reference).float().mean() > 0.65


def test_matching_keeps_clusters_apart_when_there_are_more_of_them():
    reference = torch.tensor([[[0, 0, 1, 1]]])
    assert viz.match_clusters(torch.tensor([[[2, 0, 1, 1]]]), reference).unique().numel() == 3
    with pytest.raises(ValueError, match=r"\[1, 1, 4\] and \[1, 1, 2\]"):
        viz.match_clusters(reference, reference[..., :2])


def test_similarity_is_the_cosine():
    feats = blobs(views=2)
    sim = viz.similarity(feats, 1, 2, 3)
    assert_close(sim[0, 4, 5], torch.cosine_similarity(feats[1, :, 2, 3], feats[0, :, 4, 5], dim=0))
    assert sim[1, 2, 3] == pytest.approx(1)
    with pytest.raises(ValueError, match="row 6.*rows 0 to 5"):
        viz.similarity(feats, 0, 6, 0)


def test_more_clusters_than_patches_are_refused():
    with pytest.raises(ValueError, match="50 clusters of 1×6×8 = 48 patches"):
        viz.kmeans(blobs(views=1), 50)


# ---- colors


def test_palette_is_told_apart_by_every_kind_of_color_vision():
    def worst(colors):
        lab = seen(np.asarray(colors, dtype=float))
        return (np.linalg.norm(lab[:, :, None] - lab[:, None], axis=-1) + 1e9 * np.eye(len(colors))).min()

    import matplotlib

    # A difference of 2.3 in CIELAB is just noticeable side by side; matplotlib's tab20 falls to 1.2.
    assert worst(palette(24)) > 12 > 10 * worst(matplotlib.colormaps["tab20"].colors) - 1
    assert torch.equal(palette(24)[:10], palette(10))
    with pytest.raises(ValueError, match="palette of 65"):
        palette(65)


def test_colors_of_labels_depths_and_numbers():
    labels = viz.color_labels(torch.tensor([[0, 3], [255, 0]]))
    assert torch.equal(labels[0, 0], palette(1)[0]) and labels[1, 0].tolist() == pytest.approx([0.85] * 3)
    depth = viz.color_depth(torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    assert depth[0, 0].tolist() == pytest.approx([0.85] * 3) and depth[0, 1].sum() > depth[1, 1].sum()  # near is bright
    assert torch.equal(color_map(torch.tensor([[-5.0, 9.0]]), 0, 1), color_map(torch.tensor([[0.0, 1.0]])))
    with pytest.raises(ValueError, match="none of 4 depths is known"):
        viz.color_depth(torch.zeros(2, 2))


# ---- figures


def test_compare_draws_every_map_beside_its_photo():
    images, colors = torch.rand(2, 3, 32, 32), torch.rand(2, 4, 4, 3)
    numbers, labels = torch.rand(2, 4, 4), torch.randint(0, 5, (2, 8, 8))
    figure = viz.compare(images, {"colors": colors, "numbers": numbers, "labels": labels}, marks=[(1, 2, 3)])
    assert [ax.get_title() for ax in figure.axes[:4]] == ["photo", "colors", "numbers", "labels"]
    assert drawn(figure).std() > 10
    wide = viz.compare(torch.rand(5, 3, 8, 8), {"a": torch.rand(5, 4, 4)}, [str(n) for n in range(5)])
    assert [ax.get_title() for ax in wide.axes[:5]] == list("01234")  # many views run across


def test_figures_refuse_what_does_not_fit():
    images = torch.rand(2, 3, 32, 32)
    with pytest.raises(ValueError, match=r"'a' is \[3, 4, 4\] beside 2 photos"):
        viz.compare(images, {"a": torch.rand(3, 4, 4)})
    with pytest.raises(ValueError, match="1 titles for 2 photos"):
        viz.show_images(images, ["one"])
    with pytest.raises(ValueError, match="row 9, col 0.*4×4"):
        viz.compare(images, {"a": torch.rand(2, 4, 4)}, marks=[(0, 9, 0)])
    with pytest.raises(ValueError, match="label 7 occurs, and there are names for 2"):
        viz.show_labels(images, torch.full((2, 32, 32), 7), ("wall", "floor"))


def test_depth_and_labels_have_scale_and_legend():
    images = torch.rand(2, 3, 16, 16)
    labels = torch.zeros(2, 16, 16, dtype=torch.long)
    labels[0, :8] = 1
    legend = viz.show_labels(images, labels, ("wall", "floor")).legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["wall", "floor"]
    figure = viz.show_depth(images, torch.rand(2, 16, 16) + 1)
    assert figure.axes[-1].get_ylabel() == "metres" and drawn(figure).std() > 10


def test_importing_viz_loads_no_plotting_library():
    heavy = {"matplotlib", "sklearn", "scipy", "ipywidgets", "PIL", "IPython"}
    rooms = [Path(viz.__file__).parent, Path(viz.__file__).parents[1] / "widgets"]
    files = [file for room in rooms for file in room.glob("*.py")]
    assert {"pca", "points", "pictures"} < {file.stem for file in files}
    for file in files:
        tree = ast.parse(file.read_text())
        found = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {node.module or "" for node in found if isinstance(node, ast.ImportFrom)}
        names |= {alias.name for node in found if isinstance(node, ast.Import) for alias in node.names}
        assert not heavy & {name.split(".")[0] for name in names}, file
