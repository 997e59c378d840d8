"""The compiled kernels; everything else is declared in setup.cfg.

They are optional: where no C++ compiler with OpenMP is found, the package
installs without them, and plain operations of PyTorch do their work.
"""

from setuptools import Extension, setup

KERNELS = "s4m_sb/network/fused/kernels"

setup(
    ext_modules=[
        Extension(
            "s4m_sb.network.fused._kernels",
            sources=[f"{KERNELS}/kernels.cpp"],
            depends=[f"{KERNELS}/loops.h"],
            # -Wno-psabi: vectors are passed between inlined functions alone.
            extra_compile_args=["-O3", "-fopenmp", "-Wno-psabi"],
            extra_link_args=["-fopenmp"],
            optional=True,
        )
    ]
)
