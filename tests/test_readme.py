"""What the README and the help texts tell a user to type can be typed."""

import re
import shlex
from pathlib import Path

import pytest

from deeplense.cli import _plain_spelling, app

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "Makefile", "experiments/model_ii.toml")


def commands() -> list[str]:
    """Return every command line that a document of the project shows."""
    found = []
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        for line in text.splitlines():
            shown = re.match(r"[\s#`|]*(?:torchrun .*?-m |\$\(BIN\)/)?deeplense ([a-z].*)", line)
            if shown and (line.startswith(("deeplense", "torchrun", "\t", "#")) or "`deeplense" not in line):
                found.append(re.split(r"\s{2,}#|\s#\s", shown[1])[0].strip())
    return found


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 15, commands()


@pytest.mark.parametrize("command", commands())
def test_each_command_is_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    function, bound, _ = app.parse_args(_plain_spelling(shlex.split(command)), exit_on_error=False, print_error=False)
    assert callable(function)
    assert bound is not None


@pytest.mark.parametrize("target", re.findall(r"^ +make (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.M))
def test_each_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)


def test_every_relative_link_of_the_documents_leads_somewhere() -> None:
    for document in ROOT.glob("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), f"{document.name} links to {target}"


def test_ci_calls_the_words_of_the_readme() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")
