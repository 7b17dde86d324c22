"""Words at the terminal: results can be piped, everything else goes beside them."""

from __future__ import annotations

import pytest

from deeplense.core import console


def test_notes_go_to_standard_error_and_tables_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    console.note("half way")
    console.table("Marks", ["model", "auroc"], [["resnet18", "0.98"], ["vit", "0.91"]])
    captured = capsys.readouterr()
    assert captured.err == "half way\n"
    for word in ("Marks", "auroc", "resnet18", "0.91"):
        assert word in captured.out


def test_progress_in_a_log_says_how_much_is_done_and_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 4.0, 20.0, 21.0])
    monkeypatch.setattr("deeplense.core.console.time.monotonic", lambda: next(clock))
    with console.progress("simulating", 4000) as advance:
        advance(500)  # after 4 s: too early for a line
        advance(500)  # after 20 s: a line
        advance(1000)  # a second later: none
    assert capsys.readouterr().err == "simulating: 1,000 of 4,000 images, 60 s left\n"


def test_progress_lets_errors_through() -> None:
    with pytest.raises(KeyboardInterrupt), console.progress("simulating", 10):
        raise KeyboardInterrupt
