"""Data sets of mixtures on disk, in the layout of WSJ0-mix.

``<root>/wav8k/min/{tr,cv,tt}/{mix,s1,s2,...}/<id>.wav``.
"""

SPLITS = ("tr", "cv", "tt")


def rate_folder(sample_rate: int) -> str:
    """Names the folder of a sample rate in the layout of WSJ0-mix.

    Arguments
    ---------
    sample_rate : int
        In Hz.

    Returns
    -------
    str
        The folder's name.

    Example
    -------
    >>> rate_folder(8000), rate_folder(16000)
    ('wav8k', 'wav16k')
    """
    return f"wav{sample_rate / 1000:g}k"
