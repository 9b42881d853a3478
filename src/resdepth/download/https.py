"""Who may be asked for a file: servers that show who they are, and this computer."""

import ipaddress
import re
import ssl
import urllib.request
from http.client import HTTPMessage
from typing import IO
from urllib.parse import urlsplit

from resdepth.errors import ResDepthError


def address_problem(url: str) -> str | None:
    """Why an address is not asked; None if it is https, or http on this computer."""
    try:
        address = urlsplit(url)
        host, _ = address.hostname, address.port
    except ValueError as error:
        return f"{url!r} is not an address ({error}). Give one that starts with https://."
    if not host or "@" in address.netloc or not re.fullmatch(r"[!-~]+", url):
        return f"{url!r} is not an address to fetch from. Give https://HOST/FOLDER/, no user name, no spaces."
    if address.scheme == "https" or (address.scheme == "http" and _is_loopback(host)):
        return None
    return f"{url!r} is not fetched: only https shows who answers. Give an address that starts with https://."


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def opener() -> urllib.request.OpenerDirector:
    """What opens addresses: http and https only, certificates checked, https through the system's proxy."""
    chosen = urllib.request.OpenerDirector()
    proxies = {kind: proxy for kind, proxy in urllib.request.getproxies().items() if kind == "https"}
    for handler in (
        urllib.request.ProxyHandler(proxies),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=tls_context()),
        _SafeRedirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        chosen.add_handler(handler)
    return chosen


def tls_context() -> ssl.SSLContext:
    """The rules of a safe connection: the server's certificate and its host name are checked."""
    return ssl.create_default_context()


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a server elsewhere only where `download` would have gone itself, never from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Refuse with ResDepthError where urllib would follow."""
        problem = address_problem(newurl)
        if problem is None and req.type == "https" and urlsplit(newurl).scheme != "https":
            problem = f"{newurl!r} is not fetched: it is not https."
        if problem is not None:
            fp.close()
            raise ResDepthError(f"{req.full_url}: the server sends elsewhere, and {problem}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
