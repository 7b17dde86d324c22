"""Localisation: a map that knows scores 1, one that does not ½, and one that knows only the average gains nothing."""

import numpy as np
import pytest

from deeplense.core.errors import InvalidOption
from deeplense.metrics.localisation import localisation_auroc, localisation_score, pointing_hit, top_pixels

RNG = np.random.default_rng(0)


def blobs(images=40, side=32, seed=1):
    """Return maps of one Gaussian blob each, somewhere."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    centres = generator.uniform(6, side - 6, (images, 2, 1, 1))
    return np.exp(-((x - centres[:, 0]) ** 2 + (y - centres[:, 1]) ** 2) / 18)


def test_the_top_pixels_are_the_brightest_twentieth():
    truth = RNG.random((40, 30))
    mask = top_pixels(truth)
    assert mask.sum() == 60 and truth[mask].min() > truth[~mask].max()
    assert top_pixels(truth, 0.5).sum() == 600


def test_pixels_without_mass_are_no_true_ones():
    truth = np.zeros((20, 20))
    truth[3, 4] = 1e-9
    assert np.argwhere(top_pixels(truth)).tolist() == [[3, 4]]
    assert not top_pixels(np.zeros((20, 20))).any()


def test_perfect_random_and_inverted_maps():
    truths = blobs()
    masks = [top_pixels(truth) for truth in truths]
    assert [localisation_auroc(truth, mask) for truth, mask in zip(truths, masks, strict=True)] == [1.0] * 40
    assert localisation_auroc(-truths[0], masks[0]) == 0.0
    chance = [localisation_auroc(RNG.random((32, 32)), mask) for mask in masks]
    assert np.mean(chance) == pytest.approx(0.5, abs=0.02)
    assert localisation_auroc(np.ones((32, 32)), masks[0]) == 0.5


def test_without_a_true_pixel_there_is_no_score():
    assert np.isnan(localisation_auroc(RNG.random((8, 8)), np.zeros((8, 8), bool)))
    with pytest.raises(InvalidOption, match=r"\[4, 4\]"):
        localisation_auroc(np.ones((4, 4)), np.zeros((8, 8), bool))


def test_the_pointing_game():
    mask = np.zeros((8, 8), bool)
    mask[2, 3] = True
    map_ = np.zeros((8, 8))
    map_[2, 3] = 1
    assert pointing_hit(map_, mask) and not pointing_hit(map_, ~mask)
    assert not pointing_hit(np.full((8, 8), 7.0), np.ones((8, 8), bool)), "a map without a maximum points nowhere"


def test_a_map_that_knows_its_image_gains_over_another_image():
    truths = blobs()
    score = localisation_score(truths + 0.1 * RNG.random(truths.shape), truths)
    assert score.own.value > 0.99 and score.hits.value > 0.9
    assert score.gain.low > 0.2
    assert score.gain.value == pytest.approx(score.own.value - score.other.value)
    assert score.chance == pytest.approx(0.05, abs=0.01) and score.own.n == 40


def test_a_map_that_knows_the_average_alone_is_above_chance_and_gains_nothing():
    truths = blobs(200)
    average = np.broadcast_to(truths.mean(0), truths.shape)
    score = localisation_score(average, truths)
    assert score.own.low > 0.55
    assert score.gain.low <= 0 <= score.gain.high


def test_a_random_map_is_at_chance():
    truths = blobs(100)
    score = localisation_score(RNG.random(truths.shape), truths)
    assert score.own.low <= 0.5 <= score.own.high and score.own.high - score.own.low < 0.05
    assert score.hits.low <= score.chance <= score.hits.high


def test_images_without_truth_are_left_out():
    truths = blobs(5)
    truths[1] = 0
    assert localisation_score(truths, truths).own.n == 4
    assert localisation_score(truths[:1], truths[:1]) is None
    assert localisation_score(truths, 0 * truths) is None
