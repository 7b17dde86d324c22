import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap, norm

from deeplense.core.errors import InvalidDataset
from deeplense.metrics import intervals, ranking
from deeplense.metrics.intervals import mean_mark


@pytest.mark.parametrize(("wins", "trials"), [(0, 1), (1, 1), (3, 10), (10, 10), (997, 1000), (0, 5000)])
def test_wilson_equals_scipy(wins, trials):
    expected = binomtest(wins, trials).proportion_ci(method="wilson")
    assert intervals.wilson(wins / trials, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_contains_its_value_even_after_rounding():
    for trials in range(1, 3000):
        assert intervals.wilson(1.0, trials)[1] == 1.0
        assert intervals.wilson(0.0, trials)[0] == 0.0


def test_resamples_keep_the_size_of_every_group():
    strata = np.array([0] * 50 + [2] * 3 + [1])
    counts = intervals.bootstrap(
        lambda weights: np.stack([weights[:, strata == k].sum(axis=1) for k in range(3)], axis=1), strata, 0, 300
    )
    assert (counts == [50, 1, 3]).all()


def test_seed_decides_and_chunks_do_not_show(monkeypatch):
    strata = np.arange(40) % 2
    values = np.random.default_rng(0).normal(size=(40, 1))

    def mean(weights):
        return weights @ values / 40

    first = intervals.bootstrap(mean, strata, 5, 64)
    assert (first == intervals.bootstrap(mean, strata, 5, 64)).all()
    assert (first != intervals.bootstrap(mean, strata, 6, 64)).any()
    monkeypatch.setattr(intervals, "_CELLS", 7 * 40)
    assert intervals.bootstrap(mean, strata, 5, 64).shape == (64, 1)


def test_bca_equals_scipy_for_a_skewed_mean():
    values = np.random.default_rng(0).lognormal(size=60)
    strata = np.zeros(60, int)
    replicates = intervals.bootstrap(lambda w: w @ values[:, None] / 60, strata, 0, 20_000)[:, 0]
    found = intervals.bca(values.mean(), replicates, values / 60, strata)
    expected = bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=0).confidence_interval
    assert found == pytest.approx((expected.low, expected.high), abs=0.01)


def test_bca_of_what_does_not_vary_is_the_value():
    assert intervals.bca(0.5, np.full(100, 0.5), np.zeros(10), np.zeros(10, int)) == (0.5, 0.5)


@pytest.mark.parametrize("separation", [1.0, 4.0])
def test_area_interval_covers_the_truth_about_as_often_as_it_says(separation):
    truth, size, missed, trials = norm.cdf(separation / np.sqrt(2)), 60, 0, 300
    generator = np.random.default_rng(7)
    positive = np.arange(2 * size) % 2
    for trial in range(trials):
        scores = generator.normal(separation * positive)
        found = ranking.placements(scores, positive)
        value = ranking.area(found)
        if value == 1.0:
            low, high = intervals.wilson(value, size)
        else:
            replicates = intervals.bootstrap(
                lambda w, found=found: ranking.resampled_area(found, w)[:, None], positive, trial, 300
            )
            low, high = intervals.bca(value, replicates[:, 0], ranking.influence(found, 2 * size), positive)
        assert low <= value <= high
        missed += not low <= truth <= high
    # The plain percentile interval misses 15 % at separation 4; three standard errors at 5 % are 3.8 %.
    assert missed / trials < 0.088


def test_the_interval_of_a_mean_is_that_of_one_stratum():
    values = np.random.default_rng(2).lognormal(size=120).astype(np.float32)
    found = intervals.mean_interval(values, seed=3, resamples=400)
    assert found == mean_mark(values.astype(float), np.zeros(120, int), 3, 400)
    assert found.low < found.value < found.high and found.n == 120
    assert intervals.mean_interval(np.ones(1)) == intervals.Interval(1.0, 1.0, 1.0, 1)


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [np.inf]])
def test_the_mean_of_what_is_not_known_is_refused(values):
    with pytest.raises(InvalidDataset, match="finite marks"):
        intervals.mean_interval(np.array(values))
