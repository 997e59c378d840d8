"""Where a model or a recording is, and what is asked for it."""

import functools
import http.server
import threading
from pathlib import Path

import huggingface_hub
import pytest
from small_model import write_model

from s4m_sb.errors import InputError
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.pretrained import fetching
from s4m_sb.pretrained.fetching import fetched_audio, model_folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "s4m": write_model(folder / "s4m"),
        "three": write_model(folder / "three", num_spks=3),
    }


def test_a_model_of_the_package_has_a_short_name(folders, monkeypatch):
    monkeypatch.setattr(fetching, "SHIPPED_MODELS", folders["s4m"].parent)
    assert model_folder("three") == folders["three"]
    model = S4MSeparation.from_hparams("three")
    assert model.hparams.num_spks == 3


def test_the_name_of_a_shipped_model_is_no_folder_here(
    folders, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetching, "SHIPPED_MODELS", folders["s4m"].parent)
    (tmp_path / "three").mkdir()  # perhaps with its voices
    assert model_folder("three") == folders["three"]
    for source in ("./three", tmp_path / "three", Path("three")):
        assert model_folder(source) == Path(source)


@pytest.mark.parametrize("source", ["nosuch", "./no/such", "/no/such", "a/b/c"])
def test_a_wrong_name_never_reaches_the_network(source, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)
    with pytest.raises(InputError, match=source):
        S4MSeparation.from_hparams(source)


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch):
    def fail(**options):
        raise ConnectionError("cannot\nconnect")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(InputError, match=r"a/b: .*cannot\)"):
        S4MSeparation.from_hparams("a/b")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def web(tmp_path):
    """The address of a server of ``tmp_path``."""
    handler = functools.partial(QuietHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("with_savedir", [False, True])
def test_a_second_recording_of_one_name_is_not_the_first(
    tmp_path, web, with_savedir
):
    savedir = tmp_path / "kept" if with_savedir else None
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "mix.wav").write_text(name)
        for place in (tmp_path, web):
            with fetched_audio(f"{place}/{name}/mix.wav", savedir) as path:
                assert Path(path).read_text() == name
        assert Path(path).exists() == with_savedir  # of the web
    with (
        pytest.raises(InputError, match="nosuch.wav"),
        fetched_audio(f"{web}/nosuch.wav", savedir),
    ):
        pass
