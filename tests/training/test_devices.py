"""A device by name, or the best there is."""

from __future__ import annotations

import pytest
import torch

from deeplense.core.errors import InvalidOption
from deeplense.training.devices import Device, make_accelerator


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has a CPU and nothing else."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize("device", ["best", "cpu"])
def test_the_best_falls_back_to_the_cpu(device: Device) -> None:
    assert make_accelerator(device, "fp32").device.type == "cpu"


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_named_device_that_is_absent_is_an_error(device: Device) -> None:
    with pytest.raises(InvalidOption, match=f"no {device}") as caught:
        make_accelerator(device, "fp32")
    assert "cpu" in caught.value.expected and "--device best" in caught.value.remedy


@pytest.mark.parametrize(("there", "chosen"), [(("cuda", "mps"), "cuda"), (("mps",), "mps")])
def test_the_best_is_cuda_then_mps(there: tuple[str, ...], chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in there:
        monkeypatch.setattr(
            getattr(torch, name) if name == "cuda" else torch.backends.mps, "is_available", lambda: True
        )
    asked: list[dict[str, object]] = []
    monkeypatch.setattr("deeplense.training.devices.Accelerator", lambda **settings: asked.append(settings))
    monkeypatch.setattr("deeplense.training.devices.AcceleratorState._reset_state", lambda **_: None)
    make_accelerator("best", "fp32")
    make_accelerator("cpu", "fp32")
    assert [settings["cpu"] for settings in asked] == [False, True], f"{chosen} was not taken"


def test_half_precision_does_not_train_on_the_cpu() -> None:
    with pytest.raises(InvalidOption, match="fp16") as caught:
        make_accelerator("cpu", "fp16")
    assert "bf16" in caught.value.remedy


def test_one_process_can_use_several_precisions_one_after_another() -> None:
    for precision, found in (("bf16", "bf16"), ("fp32", "no"), ("bf16", "bf16")):
        accelerator = make_accelerator("cpu", precision)  # type: ignore[arg-type]
        assert accelerator.mixed_precision == found
        with accelerator.autocast():
            product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert product.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
