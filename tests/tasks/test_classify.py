"""The task `classify`: two classes take the path of three."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.data.loader import Batch
from deeplense.models.heads import TwoOfOne
from deeplense.tasks.classify import Classify
from deeplense.tasks.task import TASKS

LABELS = {2: ("no_sub", "sub"), 3: ("no_sub", "cdm", "axion")}
SETTINGS = {
    "model_source": "deeplense",
    "model_name": "residual_cnn",
    "complex": False,
    "dropout": 0.0,
    "tune": True,
    "pretrained": "0",
}


@pytest.fixture(params=[2, 3], ids=["K=2", "K=3"])
def task(request: pytest.FixtureRequest) -> Classify:
    return Classify(LABELS[request.param])


def outputs(task: Classify, n: int = 30) -> tuple[Tensor, Batch]:
    """Return logits and the batch that they answer."""
    generator = torch.Generator().manual_seed(0)
    k = len(task.labels)
    target = torch.arange(n) % k
    logits = torch.randn(n, k, generator=generator) + 2 * torch.nn.functional.one_hot(target, k)
    return logits, Batch(torch.zeros(n, 1, 8, 8), target, torch.arange(n))


def test_it_is_registered_under_its_name() -> None:
    assert TASKS["classify"] is Classify


def test_the_network_has_one_logit_per_class(task: Classify) -> None:
    assert task.network((1, 32, 32), SETTINGS)(torch.zeros(2, 1, 32, 32)).shape == (2, len(task.labels))


@pytest.mark.parametrize("complex_", [False, True])
def test_two_classes_may_share_one_logit(complex_: bool) -> None:
    task = Classify(LABELS[2])
    network = task.network((1, 32, 32), SETTINGS | {"complex": complex_, "single_logit": True}).eval()
    last = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
    assert last.out_features == 1
    logits: list[Tensor] = []
    last.register_forward_hook(lambda module, inputs, output: logits.append(output[:, 0].detach()))
    images = torch.randn(30, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    output = network(images)
    p = torch.sigmoid(logits[0])
    assert torch.allclose(task.answers(output), torch.stack([1 - p, p], 1), atol=1e-6)
    batch = Batch(images, torch.arange(30) % 2, torch.arange(30))
    binary = torch.nn.functional.binary_cross_entropy_with_logits(logits[0], batch.target.float(), reduction="none")
    assert torch.allclose(task.loss(output, batch), binary, atol=1e-6)


def test_one_logit_that_is_sure_gives_no_infinite_loss() -> None:
    task, z = Classify(LABELS[2]), torch.tensor([[300.0], [-300.0]])
    batch = Batch(torch.zeros(2, 1, 8, 8), torch.tensor([0, 0]), torch.arange(2))
    assert task.loss(TwoOfOne()(z), batch).tolist() == pytest.approx([300, 0])


def test_three_classes_cannot_share_one_logit() -> None:
    with pytest.raises(InvalidOption, match="3 classes") as caught:
        Classify(LABELS[3]).network((1, 32, 32), SETTINGS | {"single_logit": True})
    assert "two classes" in caught.value.expected


@pytest.mark.parametrize("name", ["complex", "tune"])
def test_the_network_is_the_one_that_the_settings_ask_for(task: Classify, name: str) -> None:
    networks = [task.network((1, 32, 32), SETTINGS | {name: value}) for value in (False, True)]
    learning = [sum(p.numel() for p in net.parameters() if p.requires_grad) for net in networks]
    assert learning[0] != learning[1]


def test_the_loss_is_minus_the_log_of_the_answer_for_the_true_class(task: Classify) -> None:
    logits, batch = outputs(task)
    answers = task.answers(logits)
    loss = task.loss(logits, batch)
    assert loss.shape == (30,)
    assert torch.allclose(loss, -answers[torch.arange(30), batch.target].log(), atol=1e-6)


def test_answers_are_probabilities(task: Classify) -> None:
    logits, _ = outputs(task)
    answers = task.answers(torch.cat([logits, 1e4 * logits, torch.zeros_like(logits)]))
    assert torch.allclose(answers.sum(1), torch.ones(90)) and bool((answers >= 0).all())
    assert torch.allclose(answers[60:], torch.full_like(answers[60:], 1 / len(task.labels)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss_and_answers_of_half_precision_are_whole(task: Classify, dtype: torch.dtype) -> None:
    logits, batch = outputs(task)
    half = logits.to(dtype)
    assert task.loss(half, batch).dtype == task.answers(half).dtype == torch.float32
    assert torch.allclose(task.answers(half).sum(1), torch.ones(30))


def test_every_mark_comes_with_and_without_interval(task: Classify) -> None:
    logits, batch = outputs(task)
    answers, targets = task.answers(logits).numpy(), batch.target.numpy()
    marks, intervals = task.marks(answers, targets), task.marks_with_intervals(answers, targets)
    names = {"accuracy", "auroc_macro", "auroc_micro", "ece", *(f"auroc_{label}" for label in task.labels)}
    assert set(marks) == names and set(intervals) == names | {"nll"} and task.primary_metric in names
    for name, interval in ((name, intervals[name]) for name in marks):
        assert interval.value == pytest.approx(marks[name]) and interval.n == 30
        assert interval.low <= interval.value <= interval.high


def test_the_primary_metric_is_higher_for_a_better_answer(task: Classify) -> None:
    logits, batch = outputs(task)
    right = np.eye(len(task.labels), dtype=np.float32)[batch.target.numpy()]
    answers = task.answers(logits).numpy()
    values = [task.marks(each, batch.target.numpy())[task.primary_metric] for each in (1 - right, answers, right)]
    assert values == sorted(values) and values[-1] == 1.0


def test_columns_name_the_most_probable_class(task: Classify) -> None:
    answers = task.answers(outputs(task)[0]).numpy()
    columns = task.columns(answers)
    assert list(columns) == ["prediction", *(f"p_{label}" for label in task.labels)]
    for row in range(30):
        best = max(task.labels, key=lambda label: columns[f"p_{label}"][row])
        assert columns["prediction"][row] == best


@pytest.mark.parametrize("labels", [(), ("no_sub",)])
def test_fewer_than_two_classes_are_no_task(labels: tuple[str, ...]) -> None:
    with pytest.raises(InvalidDataset, match=str(len(labels))):
        Classify(labels)


def test_a_temperature_adds_what_it_changes(task: Classify) -> None:
    logits, batch = outputs(task, 300)
    answers, targets = task.answers(3 * logits).numpy(), batch.target.numpy()
    temperature = task.temperature(answers, targets)
    assert temperature is not None and temperature > 1
    plain, scaled = (task.marks_with_intervals(answers, targets, value) for value in (None, temperature))
    assert set(scaled) - set(plain) == {"ece_scaled", "nll_scaled"}
    assert {name: scaled[name] for name in plain} == plain, "the areas and the rest stay as they are"
    assert scaled["nll_scaled"].value < scaled["nll"].value


def test_sensitivity_has_a_row_for_each_class_that_has_strengths_and_each_other_one(task: Classify) -> None:
    logits, batch = outputs(task, 600)
    answers, targets = task.answers(logits).numpy(), batch.target.numpy()
    strength = np.where(targets == 1, np.arange(600.0), np.nan)
    same = np.where(targets == 1, 3e10, np.nan)
    table = task.sensitivity(answers, targets, {"mass": strength, "same": same})
    others = [label for label in task.labels if label != task.labels[1]]
    assert list(zip(table["class"], table["against"], strict=True)) == [
        (task.labels[1], other) for other in others for _ in range(8)
    ], "one strength for all is no curve"
    assert set(table["quantity"]) == {"mass"} and sum(table["positives"]) == len(others) * (targets == 1).sum()
    assert task.sensitivity(answers, targets, {}) == {}
