"""What a catalogue says, joined to what an image shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deeplense.core.errors import InvalidOption
from deeplense.models.boosted_trees import BoostedTrees
from deeplense.models.fusion import FiLM, Fusion, Late, Scaled
from deeplense.models.network import ModelChoice, build_network

N = 400


@pytest.fixture
def features() -> torch.Tensor:
    """Columns of very different scales, of which some values are missing."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(N, 3, generator=generator) * torch.tensor([1.0, 1e4, 1e-3]) + torch.tensor([20.0, 0.0, 5.0])
    values[::10, 1] = torch.nan
    return values


@pytest.fixture
def targets(features: torch.Tensor) -> torch.Tensor:
    """Classes that the first column tells, with some noise."""
    generator = torch.Generator().manual_seed(1)
    return (features[:, 0] - 20 + 0.5 * torch.randn(N, generator=generator) > 0).long()


def test_scaled_features_have_one_scale_and_say_what_is_missing(features: torch.Tensor) -> None:
    scaled = Scaled(3)
    scaled.fit(features)
    values, missing = scaled(features).chunk(2, dim=1)
    assert torch.allclose(values.std(0), torch.ones(3), atol=0.15)
    assert torch.equal(missing.bool(), features.isnan())
    assert (values[features.isnan()] == 0).all()


def test_a_flag_value_does_not_drown_the_others(features: torch.Tensor) -> None:
    features[:20, 0] = -99.0
    scaled = Scaled(3)
    scaled.fit(features)
    values = scaled(features)[:, 0]
    assert values.abs().max() <= 10
    assert values[20:].std() > 0.7


@pytest.mark.parametrize("value", [7.0, torch.nan])
def test_a_column_that_says_nothing_stays_finite(value: float) -> None:
    scaled = Scaled(1)
    scaled.fit(torch.full((N, 1), value))
    assert scaled(torch.tensor([[7.0], [8.0], [torch.nan]])).isfinite().all()


@pytest.mark.parametrize("kind", [Late, FiLM, BoostedTrees])
def test_a_fusion_answers_each_object_by_itself(
    kind: type[Fusion], features: torch.Tensor, targets: torch.Tensor
) -> None:
    torch.manual_seed(0)
    fusion = kind(5, 3)
    fusion.fit(features, targets, 0)
    pooled = torch.randn(N, 5)
    together = fusion(pooled, features)
    assert together.shape == (N, fusion.num_out)
    assert torch.allclose(together[7:8], fusion(pooled[7:8], features[7:8]), atol=1e-5)


def test_film_begins_with_the_image_alone(features: torch.Tensor, targets: torch.Tensor) -> None:
    fusion = FiLM(5, 3)
    fusion.fit(features, targets, 0)
    pooled = torch.randn(N, 5)
    assert torch.equal(fusion(pooled, features), pooled)


@pytest.mark.parametrize("weighted", [False, True])
def test_trees_answer_as_scikit_learn_does_and_survive_the_weights_file(
    features: torch.Tensor, targets: torch.Tensor, weighted: bool
) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    from deeplense.models import boosted_trees

    fusion = BoostedTrees(0, 3)
    weights = torch.linspace(0.1, 3, len(targets)) if weighted else None
    fusion.fit(features, targets, 3, weights)
    oracle = HistGradientBoostingClassifier(
        learning_rate=boosted_trees.LEARNING_RATE,
        max_iter=boosted_trees.TREES,
        max_leaf_nodes=boosted_trees.LEAVES,
        min_samples_leaf=boosted_trees.FEWEST,
        early_stopping=True,
        random_state=3,
    ).fit(features.numpy(), targets.numpy(), None if weights is None else weights.numpy())
    again = BoostedTrees(0, 3)
    again.load_state_dict(fusion.state_dict())
    new = features.flip(0) * 1.01
    expected = oracle.decision_function(new.numpy())
    assert np.allclose(again(torch.empty(N, 0), new)[:, 0].numpy(), expected, atol=1e-5)
    assert np.ptp(expected) > 1


@pytest.mark.parametrize("name", ["residual_cnn", "catalogue_mlp", "catalogue_trees"])
def test_a_network_reads_features_and_what_is_not_given_is_missing(name: str) -> None:
    choice = ModelChoice("deeplense", name, single_logit=True, fusion="late", features=("a", "b"))
    network = build_network(choice, (1, 32, 32), 2).eval()
    if name == "catalogue_trees":
        network.fusion.fit(torch.randn(N, 2), torch.arange(N) % 2, 0)  # type: ignore[union-attr]
    images = torch.rand(4, 1, 32, 32)
    assert network(images, torch.randn(4, 2)).shape == (4, 2)
    assert torch.equal(network(images), network(images, torch.full((4, 2), torch.nan)))


def test_a_model_of_the_catalogue_alone_wants_a_catalogue() -> None:
    with pytest.raises(InvalidOption, match="catalogue_mlp without a catalogue"):
        build_network(ModelChoice("deeplense", "catalogue_mlp"), (1, 32, 32), 2)


def test_trees_tell_two_classes_apart() -> None:
    with pytest.raises(InvalidOption, match="catalogue_trees with 3 classes"):
        build_network(ModelChoice("deeplense", "catalogue_trees", features=("a",)), (1, 32, 32), 3)
