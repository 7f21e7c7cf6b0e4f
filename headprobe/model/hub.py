"""Whether the Hub can be reached, found out once and quickly.

Without a network huggingface_hub repeats each request for 24 seconds, and a scan makes several. So
one connection is tried first, and where it fails only the local cache is read.
"""

import os
import socket
import threading
import time
import urllib.request
from functools import lru_cache
from urllib.parse import urlsplit

from huggingface_hub import constants

SECONDS = 5.0
"""How long the connection may take, the look-up of the name included."""

REMEMBERED = 60
"""How many seconds the answer holds, so that a notebook notices when the network is back."""


def hub_is_reachable() -> bool:
    """Whether the Hub's server (``HF_ENDPOINT``) accepts a connection.

    Behind a proxy, which may know the server where this machine does not, the answer is True, and
    the request itself decides. With ``HF_HUB_OFFLINE`` it is False.
    """
    if constants.HF_HUB_OFFLINE:
        return False
    address = urlsplit(constants.ENDPOINT)
    if address.hostname is None:
        return True
    proxies = urllib.request.getproxies()
    if {"all", address.scheme} & proxies.keys() or "SOCKS_PROXY" in os.environ:
        return True
    port = address.port or (80 if address.scheme == "http" else 443)
    return _accepts(address.hostname, port, int(time.monotonic()) // REMEMBERED)


@lru_cache(maxsize=4)
def _accepts(host: str, port: int, period: int) -> bool:  # noqa: ARG001
    connected = threading.Event()

    def connect() -> None:
        try:
            with socket.create_connection((host, port), timeout=SECONDS):
                connected.set()
        except OSError:
            pass
        done.set()

    done = threading.Event()
    # In a thread, because looking up a name and trying each of its addresses have no limit in sum.
    threading.Thread(target=connect, daemon=True).start()
    done.wait(SECONDS)
    return connected.is_set()
