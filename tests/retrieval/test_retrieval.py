"""Reading as retrieval: the loss against its equation, lines taken apart, new characters by adding them, error rates."""

import string

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fit3d_lite.retrieval import (
    CHARACTERS,
    FACES,
    SPOILED,
    Encoder,
    Face,
    Index,
    Reader,
    cer,
    draw,
    lines,
    localize,
    page_lines,
    pictures,
    spoil,
    supervised_contrastive,
    tesseract,
    train_encoder,
    vary,
)
from fit3d_lite.retrieval.reader import edits


def test_the_loss_is_its_equation_in_double_precision():
    rng = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(9, 5, generator=rng, dtype=torch.float64), dim=1).requires_grad_()
    labels, tau, terms = [0, 1, 0, 2, 1, 0, 3, 3, 4], 0.2, []  # 2 and 4 stand alone
    for i in range(9):
        partners = [p for p in range(9) if p != i and labels[p] == labels[i]]
        if partners:
            below = sum((z[i] @ z[a] / tau).exp() for a in range(9) if a != i)
            terms.append(-sum(((z[i] @ z[p] / tau).exp() / below).log() for p in partners) / len(partners))
    right = sum(terms) / len(terms)
    found = supervised_contrastive(z, torch.tensor(labels), tau)
    torch.testing.assert_close(found, right)
    torch.testing.assert_close(*(torch.autograd.grad(loss, z)[0] for loss in (found, right)))
    assert torch.autograd.gradcheck(lambda z: supervised_contrastive(F.normalize(z, dim=1), torch.tensor(labels), tau), z)


def test_the_loss_refuses_a_batch_without_partners():
    with pytest.raises(ValueError, match="4 different labels"):
        supervised_contrastive(torch.eye(4), torch.arange(4))


def test_every_character_is_drawn_differently_in_every_face_and_keeps_its_place_on_the_line():
    faces = [face for kind in FACES.values() for face in kind]
    drawn = pictures(CHARACTERS, faces)
    assert drawn.shape == (len(faces), len(CHARACTERS), 32, 32) and drawn.min() >= 0 and drawn.max() <= 1
    apart = torch.stack([torch.cdist(face, face) for face in torch.tensor(drawn).flatten(2)])
    assert (apart + 9 * torch.eye(len(CHARACTERS))).min() > 0.2
    comma, apostrophe = (drawn[0, CHARACTERS.index(c)].sum(1).argmax() for c in ",'")
    assert comma > 20 > 12 > apostrophe
    assert len({face.name for face in faces}) == len(faces)


def test_an_unknown_font_is_named():
    with pytest.raises(OSError, match="no font .*nowhere.ttf"):
        draw("a", Face("nowhere.ttf"))


@pytest.mark.parametrize("face", [FACES["training"][0], FACES["training"][-1], FACES["held out"][-1], FACES["Fraktur"][0]])
def test_components_find_the_drawn_boxes_and_the_words_of_a_clean_line(face):
    text = "six joined words: (jig!) qy?"
    ink, boxes = draw(text, face)
    line = localize(spoil(ink, "clean", np.random.default_rng(0)))
    assert [end - first for first, end in line.words] == [len(word) for word in text.split()]
    np.testing.assert_allclose(line.boxes[:, [0, 2]], boxes[:, [0, 2]], atol=2)
    assert abs(len(line.ink) - len(ink)) <= 5  # the frame is found again
    each = np.stack([line.picture(i, i + 1) for i in range(len(boxes))])
    clean = pictures(text.replace(" ", ""), [face])[0]
    assert F.cosine_similarity(*(torch.tensor(x).flatten(1) for x in (each, clean))).mean() > 0.8


def test_a_line_is_levelled_and_its_words_found_again():
    ink, _ = draw("the quick brown fox jumps over it", FACES["training"][0])
    from scipy.ndimage import rotate

    line = localize(1 - 0.8 * rotate(ink, 3, order=1))
    assert len(line.words) == 7 and len(line.ink) < 1.25 * len(ink)


def test_touching_characters_are_one_component_the_known_failure():
    ink, _ = draw("mm", FACES["training"][0])
    ink[-19:-17] = np.maximum(ink[-19:-17], ink.max(0) > 0.5)  # a line through the feet
    touching = ink.copy()
    touching[30, 30:90] = 1
    assert len(localize(1 - touching).boxes) == 1


@pytest.mark.parametrize("photo, said", [
    (np.zeros((3, 20, 20)), "grey picture"), (np.full((20, 20), np.nan), "without nan"), (np.ones((40, 90)), "no ink"),
])  # fmt: skip
def test_what_is_no_line_is_refused(photo, said):
    with pytest.raises(ValueError, match=said):
        localize(photo)


def test_lines_repeat_with_their_seed_and_every_spoiling_is_another():
    face = FACES["training"][0]
    made = {how: lines(face, how, 2, seed=3) for how in SPOILED}
    assert len({tuple(texts) for _, texts in made.values()}) == 1
    np.testing.assert_array_equal(made["old print"][0][1], lines(face, "old print", 2, seed=3)[0][1])
    assert made["clean"][1] != lines(face, "clean", 2, seed=4)[1]
    clean = made["clean"][0][0]
    assert all(photo[0].shape != clean.shape or np.abs(photo[0] - clean).mean() > 0.02
               for how, (photo, _) in made.items() if how != "clean")  # fmt: skip
    with pytest.raises(ValueError, match="'damp'; .* noise, blur"):
        spoil(np.zeros((9, 9)), "damp", np.random.default_rng(0))


def test_variations_keep_the_shape_stay_in_range_and_repeat():
    clean = torch.tensor(pictures("aB7", FACES["training"][:1])[0])
    one, two = (vary(clean, torch.Generator().manual_seed(s)) for s in (0, 1))
    assert one.shape == clean.shape and one.min() >= 0 and one.max() <= 1 and not torch.equal(one, two)
    assert torch.equal(one, vary(clean, torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def learned():
    """An encoder that has seen twelve letters for a second."""
    before = torch.random.get_rng_state()
    losses = []
    shown = pictures("abdeghmnoprt", FACES["training"][:2])
    encoder = train_encoder(shown, 30, classes=12, report=lambda step, loss: losses.append(loss))
    assert torch.equal(before, torch.random.get_rng_state())  # nobody else's chance is touched
    return encoder, losses


def test_training_draws_characters_together(learned):
    encoder, losses = learned
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    letters = "abdeghmnoprt"
    index = Index(encoder.embed(pictures(letters, FACES["training"][:1])[0]), letters)
    other = pictures(letters, FACES["training"][1:2])[0]
    assert np.mean([a == b for a, b in zip(index.nearest(encoder.embed(other))[0], letters, strict=True)]) > 0.8
    np.testing.assert_allclose(np.linalg.norm(index.vectors, axis=1), 1, atol=1e-5)


def test_a_new_character_is_read_once_its_example_is_added_and_words_come_first(learned):
    encoder, _ = learned
    face, text = FACES["training"][0], "the bread & he"
    photo = spoil(draw(text, face)[0], "clean", np.random.default_rng(0))
    index = Index(encoder.embed(pictures("abdehrt", [face])[0]), "abdehrt")
    reader = Reader(encoder, index)
    assert "&" not in reader.read([photo])[0] and cer(reader.read([photo]), [text]) < 0.2
    index.add(encoder.embed(pictures("&", [face])[0]), "&")
    assert "&" in reader.read([photo, photo])[1]

    class Always:  # finds one word everywhere, with this cosine
        def nearest(self, vectors):
            return ["word"] * len(vectors), np.full(len(vectors), 0.8)

    assert Reader(encoder, index, encoder, Always(), near=0.7).read([photo]) == ["word word word word"]
    assert Reader(encoder, index, encoder, Always(), near=0.81).read([photo]) == reader.read([photo])
    with pytest.raises(ValueError, match="need both"):
        Reader(encoder, index, words=index)


def test_the_stop_behind_a_word_is_read_as_a_character(learned):
    encoder, _ = learned

    class Letters:
        def nearest(self, vectors):
            return ["."] * len(vectors), np.ones(len(vectors))

    class Words:
        def nearest(self, vectors):
            return ["to"] * len(vectors), np.ones(len(vectors))

    photo = 1 - draw("to. to", FACES["training"][0])[0]
    assert Reader(encoder, Letters(), encoder, Words()).read([photo]) == ["to. to"]


def test_the_index_finds_what_scikit_learn_finds_and_refuses_what_does_not_fit():
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(0)
    examples, asked = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rng.normal(size=(60, 8)), rng.normal(size=(20, 8))))
    labels = 4 * list(string.ascii_letters[:15])
    found, cosine = Index(examples, labels).nearest(asked)
    assert found == list(KNeighborsClassifier(1).fit(examples, labels).predict(asked))
    np.testing.assert_allclose(cosine, (asked @ examples.T).max(1), atol=1e-6)
    with pytest.raises(ValueError, match=r"2 labels need vectors of shape \(2, 8\), got \(3, 8\)"):
        Index(examples, labels).add(examples[:3], "ab")


def test_faiss_finds_the_same(monkeypatch):
    faiss = pytest.importorskip("faiss")
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(50, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index, asked = Index(vectors, [str(i) for i in range(50)]), vectors[::3] + 0.05
    with_faiss = index.nearest(asked)
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    plain = Index(vectors, index.labels).nearest(asked)
    assert faiss and with_faiss[0] == plain[0]


def test_edit_distance_and_error_rate():
    def slow(a, b):
        return len(a or b) if not (a and b) else min(
            slow(a[1:], b) + 1, slow(a, b[1:]) + 1, slow(a[1:], b[1:]) + (a[0] != b[0]))  # fmt: skip

    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = ("".join(rng.choice(list("ab "), rng.integers(0, 6))) for _ in range(2))
        assert edits(a, b) == slow(a, b) == edits(b, a)
    assert cer(["corn", "ab"], ["com", "ab"]) == pytest.approx(2 / 5)
    with pytest.raises(ValueError, match="1 readings .* 2 lines of 2"):
        cer(["a"], ["a", "b"])


def test_the_photo_of_a_page_comes_with_its_text():
    photos, texts = page_lines()
    assert len(photos) == len(texts) == 5 and all(photo.ndim == 2 and 0 <= photo.min() < photo.max() <= 1 for photo in photos)
    assert [len(localize(photo).words) for photo in photos] == [len(text.split()) for text in texts]


def test_tesseract_is_asked_only_where_it_is(monkeypatch, tmp_path):
    photo = lines(FACES["training"][0], "clean", 1)[0][0]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tesseract([photo]) is None
    stand_in = tmp_path / "tesseract"  # says how many pictures it was shown, a page each
    stand_in.write_text("#!/bin/sh\nwhile IFS= read -r line || [ -n \"$line\" ]; do printf 'a  line\\n\\f'; done < $1\n")
    stand_in.chmod(0o755)
    assert tesseract([photo, photo]) == ["a line", "a line"]


def test_the_encoder_takes_strips_of_any_width():
    encoder = Encoder((8, 8, 16, 16))
    assert encoder.embed(np.zeros((3, 32, 32))).shape == encoder.embed(np.zeros((3, 32, 128))).shape == (3, 16)
