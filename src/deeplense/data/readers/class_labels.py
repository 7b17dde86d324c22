"""Label arrays → class names: integers, one-hot rows and texts, with or without a list of names."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from deeplense.core.errors import InvalidDataset
from deeplense.core.files import read_json
from deeplense.data.dataset import sort_labels
from deeplense.data.readers.names import is_text, label_name

_EXPECTED = "one class per image: an integer, a one-hot row or a text"


def decode_labels(path: Path, values: np.ndarray, names: list[str] | None) -> list[str | None]:
    """Return the class name of every row; None where the label is -1 or an empty text.

    Parameters
    ----------
    path
        Names the file in errors.
    values
        [N] or [N, 1] integers or texts, or [N, K] one-hot.
    names
        Name of class 0, 1, …; without it the numbers are the names.

    Raises
    ------
    InvalidDataset
        When the values are none of these, or a number has no name.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.dtype.kind in "US":
        if values.ndim != 1:
            raise _invalid(path, f"texts of shape {values.shape}")
        texts = to_texts(path, values)
        ours = {text: label_name(text.strip()) or None for text in set(texts)}
        return [ours[text] for text in texts]
    distinct, inverse = np.unique(_numbers(path, values), return_inverse=True)
    table = [_name(path, number, names) for number in distinct.tolist()]
    return [table[position] for position in inverse.tolist()]


def to_texts(path: Path, values: np.ndarray) -> list[str]:
    """Return an array of texts as a list.

    Raises
    ------
    InvalidDataset
        When they are not valid Unicode: a damaged array may hold any number, and Python fails on it in odd ways.
    """
    if values.dtype.kind == "U":
        codes = np.ascontiguousarray(values).view(values.dtype.str[0] + "u4")
        if ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any():
            raise _invalid(path, "texts that are not valid Unicode")
    return [text.decode(errors="replace") if isinstance(text, bytes) else str(text) for text in values.ravel().tolist()]


def order_labels(names: Collection[str]) -> tuple[str, ...]:
    """Return class names in the order of their numbers if they are numbers, else in the field's order."""
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=int))
    return sort_labels(set(names))


def class_names(path: Path, stated: list[str] | None) -> list[str] | None:
    """Return the class names by number: from `labels.json` beside or in `path`, else as `stated` inside the file.

    Raises
    ------
    CorruptFile
        When `labels.json` is not JSON.
    InvalidDataset
        When it is neither a list of names nor an object of names and numbers 0, 1, …, or a name is not text.
    """
    names = _names_beside(path) or stated
    if names is not None and not all(is_text(name) for name in names):
        raise _invalid(path, "class names that are not valid Unicode")
    return names


def _names_beside(path: Path) -> list[str] | None:
    file = (path if path.is_dir() else path.parent) / "labels.json"
    if not file.exists():
        return None
    content: Any = read_json(file)
    if isinstance(content, dict):
        by_number = {str(number): name for name, number in content.items()}
        content = [by_number.get(str(number)) for number in range(len(content))]
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise InvalidDataset(
            f"{file} does not name the classes", '["no_sub", "cdm"] or {"no_sub": 0, "cdm": 1}', "mend or remove it"
        )
    return content


def _numbers(path: Path, values: np.ndarray) -> np.ndarray:
    """Return class numbers from integers, integral floats or one-hot rows."""
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        raise _invalid(path, "fractions or NaN among the labels")
    if values.ndim == 2:
        if not np.isin(values, (0, 1)).all() or not (values.sum(axis=1) == 1).all():
            raise _invalid(path, f"labels of shape {values.shape} that are not one-hot")
        return np.asarray(values.argmax(axis=1))
    if values.ndim != 1:
        raise _invalid(path, f"labels of shape {values.shape}")
    if np.abs(values.astype(np.float64)).max(initial=0) >= 1 << 31:
        raise _invalid(path, "labels beyond any number of classes")
    return values.astype(np.int64)


def _name(path: Path, number: int, names: list[str] | None) -> str | None:
    if number == -1:
        return None
    if names is None:
        return str(number)
    if not 0 <= number < len(names):
        raise _invalid(path, f"the label {number}, but names for 0 to {len(names) - 1} only")
    return label_name(names[number])


def _invalid(path: Path, found: str) -> InvalidDataset:
    return InvalidDataset(f"{path}: {found}", _EXPECTED, "mend the labels, or leave their file out")
