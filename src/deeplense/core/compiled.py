"""Functions of tensors, run as they are or compiled: the same formulas either way."""

from __future__ import annotations

import logging
import shutil
import types
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Function = TypeVar("Function", bound=Callable[..., Any])

CONTRACT = "cpp.enable_floating_point_contract_flag"  # multiply and add in one instruction


class Runner:
    """Runs functions of tensors.

    Parameters
    ----------
    compiled
        Compile each function at its first call, once for every kind of input (shapes and what is no tensor). Batches
        must then come in one size.
    """

    def __init__(self, compiled: bool = False) -> None:
        self.compiled = compiled
        self._functions: dict[tuple[str, Any], Callable[..., Any]] = {}

    def __call__(self, function: Function, kind: Any = None) -> Function:
        """Return the function as this runner runs it.

        Parameters
        ----------
        function
            A function of tensors.
        kind
            Tells inputs apart that need code of their own.
        """
        if not self.compiled:
            return function
        key = (function.__qualname__, kind)
        if key not in self._functions:
            options: dict[str, str | int | bool | Callable[..., Any]] = {CONTRACT: "fast"}
            # torch looks for CUDA's compiler and warns when there is none
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
            self._functions[key] = torch.compile(_copy(function), dynamic=False, fullgraph=True, options=options)
        return self._functions[key]  # type: ignore[return-value]


EAGER = Runner()


def can_compile() -> bool:
    """Whether this machine has the C++ compiler that compiled functions need on the CPU."""
    return any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def _copy(function: Callable[..., Any]) -> types.FunctionType:
    """Return the function with a code object of its own: torch keeps few compiled variants of one code object."""
    code = function.__code__.replace()
    return types.FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
