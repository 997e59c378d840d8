"""The models that ship with the package.

A model ships when its folder lies here; nothing names the models one by one
but `DEFAULT_MODEL`. What their cards say of them, `card.py` reads.
"""

from pathlib import Path

DEFAULT_MODEL = "s4m-8k"
SHIPPED_MODELS = Path(__file__).parent


def shipped_names(folder: Path = SHIPPED_MODELS) -> list[str]:
    """Names the models in a folder.

    Arguments
    ---------
    folder : Path
        Holds the model folders.

    Returns
    -------
    list of str
        Their names, sorted.

    Example
    -------
    >>> DEFAULT_MODEL in shipped_names()
    True
    """
    if not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith((".", "_"))
    )
