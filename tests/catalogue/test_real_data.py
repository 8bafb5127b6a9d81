"""What can be asked of digits and text, on examples worked by hand."""

import numpy as np

from jaxrecipe.catalogue import real_data


def test_next_characters_are_the_characters_one_later() -> None:
    (tokens, targets), _ = real_data.snippets(0)
    np.testing.assert_array_equal(tokens[:, 1:], targets[:, :-1])
    assert tokens.min() >= 1
    assert tokens.max() < real_data.VOCABULARY


def test_phrases_end_in_padding_only() -> None:
    (tokens, _), _ = real_data.phrases(0)
    padded = tokens == 0
    assert 0.1 < padded.mean() < 0.9
    assert (np.diff(padded.astype(int), axis=1) >= 0).all()


def test_no_row_of_text_is_on_both_sides() -> None:
    (train, _), (test, _) = real_data.snippets(0)
    assert not {row.tobytes() for row in train} & {row.tobytes() for row in test}


def test_center_of_a_single_pixel() -> None:
    image = np.zeros((1, 8, 8, 1), np.uint8)
    image[0, 2, 5] = 100
    np.testing.assert_allclose(real_data.center(image), [[5.0, 2.0]])


def test_traits_of_a_nine() -> None:
    np.testing.assert_array_equal(real_data.traits(np.array([9]))[0], [0, 1, 1, 0, 1])
