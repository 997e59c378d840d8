"""S4M: speech separation with multi-scale state-space models.

Importing the package alone loads nothing heavy. ``S4MSeparation`` is loaded
when it is asked for; for the rest, import the module you need, for instance
``s4m_sb.network.masknet``.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s4m_sb.inference.interface import S4MSeparation

__version__ = "0.1.0"
__all__ = ["S4MSeparation", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "S4MSeparation":
        return importlib.import_module("s4m_sb.inference").S4MSeparation
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
