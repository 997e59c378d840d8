"""Separation with a trained model.

``S4MSeparation`` is loaded when it is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s4m_sb.inference.interface import S4MSeparation

__all__ = ["S4MSeparation"]


def __getattr__(name: str) -> Any:
    if name == "S4MSeparation":
        return importlib.import_module(
            "s4m_sb.inference.interface"
        ).S4MSeparation
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
