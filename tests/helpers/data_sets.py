"""Mixtures and data sets of them, with options by name as in a YAML."""

import csv

from s4m_sb.mixing.datasets.making import (
    MANIFEST,
    NOISE_MANIFEST,
    OPTIONS,
    make_mix_dataset,
)
from s4m_sb.mixing.drawing import MixtureDrawer
from s4m_sb.mixing.dynamic import DynamicMixing
from s4m_sb.mixing.options import MixingOptions


def make_data_set(speech, output, **keys):
    """Like ``make_mix_dataset``: two speakers at 8 kHz, if not told."""
    usual = {"num_spks": 2, "sample_rate": 8000}
    usual["level_range_db"] = OPTIONS.level_range_db
    usual["join_short"] = keys.get("segment_s") is not None
    options, others = MixingOptions.among(usual | keys)
    return make_mix_dataset(speech, output, options, **others)


def draw_on_the_fly(source, **keys):
    """Like ``DynamicMixing``."""
    options, others = MixingOptions.among(keys)
    return DynamicMixing(source, options=options, **others)


def make_drawer(corpus, num_spks, sample_rate, noise=None, rooms=None, **keys):
    """Like ``MixtureDrawer``."""
    options = MixingOptions(num_spks=num_spks, sample_rate=sample_rate, **keys)
    return MixtureDrawer(corpus, options, noise, rooms)


def contents(folder):
    """Every file below a folder with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def mixtures_of(files):
    """Without what tells how and from where they were made."""
    return {
        name: data
        for name, data in files.items()
        if not name.endswith(("settings.json", MANIFEST, NOISE_MANIFEST))
    }


def rows_of(made):
    """The rows of its metadata."""
    with open(made / "metadata.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
