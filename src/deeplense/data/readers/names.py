"""The spellings of classes and splits that circulate, mapped to ours; here and nowhere else."""

from __future__ import annotations

_LABELS = {
    "no_sub": ("no", "nosub", "no_substructure", "nosubstructure"),
    "cdm": ("sphere", "subhalo"),
    "axion": ("vort", "vortex"),
    "sub": ("substructure",),
    "lens": ("lenses", "lensed", "strong_lens", "gravitational_lens"),
    "nonlens": ("nonlenses", "non_lens", "non_lenses", "nonlensed", "not_lens", "not_lensed", "no_lens", "nolens"),
}
_SPLITS = {
    "train": ("training",),
    "validation": ("val", "valid"),
    "test": ("testing",),
}

LABELS = {spelling: name for name, others in _LABELS.items() for spelling in (name, *others)}
SPLITS = {spelling: name for name, others in _SPLITS.items() for spelling in (name, *others)}


def label_name(text: str) -> str:
    """Return our name for a class; a name that we do not know stays as it is."""
    return LABELS.get(_plain(text), text)


def split_name(text: str) -> str | None:
    """Return the split that a folder or key names ("train", "Model_II_test", "val_images"), None when it names none."""
    words = _plain(text).split("_")
    return SPLITS.get(words[0]) or SPLITS.get(words[-1])


def without_split(text: str) -> str:
    """Return what is left of a name when the split at its front or back is taken off: "train_lenses" → "lenses"."""
    words = text.replace("-", "_").split("_")
    for position in (0, -1):
        if words[position].lower() in SPLITS:
            del words[position]
            break
    return "_".join(words)


def is_text(name: str) -> bool:
    """Whether `name` can be written as UTF-8: names of files and attributes of HDF5 may hold stray bytes."""
    return name.isascii() or not any(0xD800 <= ord(letter) < 0xE000 for letter in name)


def _plain(text: str) -> str:
    return text.strip().lower().replace("-", "_").replace(" ", "_")
