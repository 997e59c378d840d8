"""``s4m demo``: a page in the browser."""

import argparse
import math
import sys

from s4m_sb.errors import InputError

DESCRIPTION = """\
Serve a page in which recordings are separated.

Record, upload or pick the example, choose a model, hear the mixture and its
voices, see their spectrograms and download them. The page is for this machine
alone unless --host says otherwise, asks nothing of any other host, and keeps
nothing: files are removed after an hour, and all of them when it ends.

Needs: pip install 's4m_sb[demo]'"""

EXAMPLES = """\
examples:
  s4m demo
  s4m demo --port 8080 --model my_model
  s4m demo --host 0.0.0.0 --max-seconds 60 --max-megabytes 20
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``s4m demo``."""
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="a model to offer first, beside those of the package: a model "
        "folder (./NAME if a model of the package has its name), or "
        "owner/repository on the Hugging Face Hub",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="NAME",
        help="name or address to listen on; 0.0.0.0 for all of this machine, "
        "which opens the page to whoever reaches it (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=7860,
        metavar="N",
        help="port to listen on; 0 for any that is free (default: 7860)",
    )
    parser.add_argument(
        "--max-seconds",
        type=float,
        default=600,
        metavar="SECONDS",
        help="longest recording that is taken (default: 600)",
    )
    parser.add_argument(
        "--max-megabytes",
        type=float,
        default=200,
        metavar="MB",
        help="largest request that is taken, files and all (default: 200)",
    )
    parser.add_argument(
        "--device",
        default="cpu",
        metavar="NAME",
        help="where to compute, such as cuda (default: cpu)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Runs ``s4m demo`` until it is interrupted.

    Raises
    ------
    InputError
        If an option cannot be used, Gradio is not installed, or the port is
        taken.
    """
    for name in ("max_seconds", "max_megabytes"):
        value = getattr(arguments, name)
        if not (math.isfinite(value) and value > 0):
            option = "--" + name.replace("_", "-")
            raise InputError(f"{option} is {value:g}; give more than 0")
    from s4m_sb.commands.demo.server import (
        is_loopback,
        listen,
        serve,
        temporary_folder,
    )

    with listen(arguments.host, arguments.port) as server:
        if not is_loopback(arguments.host):
            print(
                "s4m: warning: whoever reaches this machine can use the page "
                "and fill its folder for temporary files (TMPDIR) with "
                "uploads, and what is sent is not encrypted; browsers record "
                "only on localhost or through HTTPS",
                file=sys.stderr,
            )
        with temporary_folder() as folder:
            page = _page(arguments, folder)
            print(
                f"The page is at {_address(server)} (Ctrl+C ends it)",
                flush=True,
            )
            serve(page, server, arguments.max_megabytes, arguments.host)


def _page(arguments: argparse.Namespace, folder: str):
    from s4m_sb.inference.spectrogram import check_matplotlib

    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise InputError(
            "the demo needs Gradio, which is not installed: "
            "pip install 's4m_sb[demo]'"
        ) from error
    check_matplotlib()

    from s4m_sb.commands.demo.page import load_choice, make_page
    from s4m_sb.pretrained.shipped import DEFAULT_MODEL, shipped_names
    from s4m_sb.system.devices import check_device

    check_device(arguments.device)
    sources = [DEFAULT_MODEL, *shipped_names()]
    if arguments.model is not None:
        sources.insert(0, arguments.model)
    choices = [
        load_choice(source, arguments.device)
        for source in dict.fromkeys(sources)
    ]
    return make_page(
        choices, folder, arguments.max_seconds, arguments.max_megabytes
    )


def _address(server) -> str:
    host, port = server.getsockname()[:2]
    if ":" in host:
        host = f"[{host}]"
    return f"http://{host}:{port}"
