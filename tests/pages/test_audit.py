"""The page of an audit: leaks first, names as text, no script, nothing loaded."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from deeplense.auditing.finding import Finding
from deeplense.data.catalogue import ColumnRole
from deeplense.pages.audit import render

LEAK = Finding("predictive_column", "leak", "<b>mag", "gives the label away", {"auroc": 0.98765, "n": 20_000, "p": 0.0})
NOTE = Finding("row_order", "note", "order of rows", "rows lie in 2 blocks", {"blocks": 2})
ROLES = {"<i>ID": ColumnRole("id", "called 'ID'")}


def content(*findings: Finding, **changed: Any) -> dict[str, Any]:
    plain = {"path": "set", "layout": "a table", "rows": 20_000, "images": 0, "labels": ("nonlens", "lens")}
    return plain | {"roles": ROLES, "findings": list(findings), "summary": "1 leak"} | changed


def sections(page: str) -> tuple[list[str], list[str]]:
    """Return the tags of a page, and the names of its sections."""
    tags: list[str] = []
    names: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)
            names.extend(str(value) for key, value in attrs if tag == "section" and key == "id")

    Reader().feed(page)
    return tags, names


def test_leaks_come_first_and_names_stay_text() -> None:
    page = render(content(NOTE, LEAK))
    tags, names = sections(page)
    assert names == ["leak", "note", "columns"]
    assert not {"b", "i", "script", "link", "img"} & set(tags)
    for words in ("&lt;b&gt;mag", "&lt;i&gt;ID", "auroc 0.9877", "n 20,000", "blocks 2", "called &#39;ID&#39;"):
        assert words in page, words


def test_without_leaks_the_page_says_so() -> None:
    page = render(content(NOTE, roles={}))
    assert "None was found" in page and sections(page)[1] == ["leak", "note"]
