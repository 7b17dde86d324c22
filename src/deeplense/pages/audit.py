"""The page of an audit: what was found, leaks first, and what each column is taken for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deeplense.pages.parts import page

HEADINGS = {
    "leak": ("Leaks", "Results on this dataset would be too good: something that is no lens gives the label away."),
    "warning": ("Warnings", "Look at these before training: they may help or harm in a way that was not meant."),
    "note": ("Notes", "As it should be, or harmless; worth knowing."),
}


def render(content: Mapping[str, Any]) -> str:
    """Return the page, self-contained: it runs no script and loads nothing.

    Parameters
    ----------
    content
        `path`, `layout`, `rows`, `images`, `labels`, `roles` (column → role, reason), `findings` with kind, severity,
        subject, words and numbers; `summary`, how many they are.
    """
    found = [(name, *HEADINGS[name], [one for one in content["findings"] if one.severity == name]) for name in HEADINGS]
    return page("audit.html.j2", dict(content) | {"sections": found})
