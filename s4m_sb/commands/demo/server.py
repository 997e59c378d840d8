"""Serves the demo page: a socket, limits, and nothing from elsewhere.

Above this file: `command.py`. Below it: `page.py`.
"""

import contextlib
import ipaddress
import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator

from s4m_sb.errors import InputError
from s4m_sb.system.processes import ended_by_sigterm

GOODBYE_S = 1  # what open pages get when the server ends

# The browser itself refuses what comes from another host. Gradio's page has
# scripts and styles in it, and plays and draws what it makes as blobs.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host.

    Arguments
    ---------
    host : str
        Name or address.

    Returns
    -------
    bool
        False in doubt.

    Example
    -------
    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """Opens the socket of a server.

    Arguments
    ---------
    host : str
        Name or address to listen on.
    port : int
        0 for any that is free.

    Returns
    -------
    socket.socket
        It listens.

    Raises
    ------
    InputError
        If it cannot, as when another server has the port, or there is no
        such port.

    Example
    -------
    >>> with listen("127.0.0.1", 0) as server:
    ...     server.getsockname()[0]
    '127.0.0.1'
    """
    if not 0 <= port < 2**16:  # more would be wrapped
        raise InputError(f"port is {port}; give 0 to {2**16 - 1}")
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"cannot listen on port {port} of {host} ({reason}); give another "
            "--port or --host"
        ) from error


@contextlib.contextmanager
def temporary_folder() -> Iterator[str]:
    """Where uploads and results lie while the server runs.

    Removed afterwards, also when the process is asked to end by SIGTERM.

    Yields
    ------
    str
        The folder.
    """

    with (
        ended_by_sigterm(),
        tempfile.TemporaryDirectory(prefix="s4m-demo-") as folder,
    ):
        # Gradio reads these when it is imported and when pages are made.
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        yield folder


def serve(page, server: socket.socket, max_megabytes: float, host: str) -> None:
    """Serves a page until the process is interrupted.

    Arguments
    ---------
    page : gradio.Blocks
        The page.
    server : socket.socket
        Listens.
    max_megabytes : float
        The largest upload, in 2^20 bytes; more is not even received.
    host : str
        What ``server`` was asked to listen on. If only this machine reaches
        it, requests that were sent to another name are refused.
    """
    import fastapi
    import gradio
    import uvicorn

    from s4m_sb.commands.demo.page import CSS, THEME

    # Not `page.launch`, which asks itself through a proxy, if there is one,
    # and shares the page with the world on some machines.
    app = gradio.mount_gradio_app(
        fastapi.FastAPI(openapi_url=None),
        page,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=round(max_megabytes * 2**20),
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        app_kwargs={"openapi_url": None},
        enable_monitoring=False,
        theme=THEME,
        css=CSS,
    )
    app = _without_relay(app)
    if is_loopback(host):
        app = _with_hosts(app, host)
    config = uvicorn.Config(
        with_policy(app),
        log_level="warning",
        timeout_graceful_shutdown=GOODBYE_S,
    )
    uvicorn.Server(config).run(sockets=[server])


def _without_relay(app: Callable) -> Callable:
    """Answers no request for what lies at another web address.

    Gradio would fetch it, and whatever page that is would count as this one.
    """
    from fastapi.responses import PlainTextResponse

    async def answer(scope, receive, send):
        chosen = app
        if re.search("[=/] *https?:", scope.get("path", ""), re.IGNORECASE):
            chosen = PlainTextResponse("Not Found", status_code=404)
        await chosen(scope, receive, send)

    return answer


def _with_hosts(app: Callable, host: str) -> Callable:
    """Refuses requests that were sent to a name of another machine.

    A web site may let its name lead here, and its pages would then count as
    this one's.
    """
    from fastapi.middleware.trustedhost import TrustedHostMiddleware

    own = {"localhost", "127.0.0.1", host}
    # Starlette before 1.0 takes of "[::1]:80" what stands before a colon.
    own |= {"[::1]", "["}
    if ":" in host:
        own.add(f"[{host}]")
    return TrustedHostMiddleware(app, sorted(own), www_redirect=False)


def with_policy(app: Callable) -> Callable:
    """Adds a header to all answers by which browsers ask no other host.

    Arguments
    ---------
    app : Callable
        An ASGI application.

    Returns
    -------
    Callable
        An ASGI application.
    """
    headers = [
        (b"content-security-policy", POLICY.encode()),
        (b"referrer-policy", b"no-referrer"),
    ]

    async def answer(scope, receive, send):
        async def send_with_policy(message):
            if message["type"] == "http.response.start":
                message = {
                    **message,
                    "headers": [*message.get("headers", ()), *headers],
                }
            await send(message)

        await app(scope, receive, send_with_policy)

    return answer
