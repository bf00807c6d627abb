"""What is checked: an installation, as its config says it is."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional
from urllib.parse import urlsplit

from ...account import Account
from ...config.sections import Config
from ...entra import tokens


class Way(NamedTuple):
    """The way to a service of Microsoft's.  `proxy`: the URL of a proxy on it, credentials inside, or ""."""

    host: str
    port: int
    proxy: str

    @property
    def next_host(self) -> str:
        """The first host on the way."""
        return (urlsplit(self.proxy).hostname or "") if self.proxy else self.host

    @property
    def next_port(self) -> int:
        return (urlsplit(self.proxy).port or (443 if self.is_encrypted else 80)) if self.proxy else self.port

    @property
    def is_encrypted(self) -> bool:
        """Whether the proxy is spoken to by TLS, which is looked into by real requests only."""
        return self.proxy.lower().startswith("https:")


class Subject:
    """An installation, and what is known of it."""

    def __init__(
        self,
        config: Config,
        *,
        running: bool = False,
        dropped_root: bool = False,
        holders: Optional[Dict[int, str]] = None,
    ):
        """`running`: the program has opened its ports already.  `dropped_root`: this
        process was root's; the unit of the service may allow more than it may do now.
        `holders`: who has which port, as root saw it.
        """
        self.config = config
        self.running = running
        self.dropped_root = dropped_root
        self.holders = holders or {}
        self._account: Optional[Account] = None

    @property
    def account(self) -> Account:
        """ConfigError if the file of certificates to trust cannot be used."""
        if self._account is None:
            self._account = Account(self.config)
        return self._account

    @property
    def is_app(self) -> bool:
        """Whether the app signs in by itself."""
        return bool(self.config.client_secret or self.config.client_certificate)

    def ways(self) -> List[Way]:
        """To the sign-in and to Graph; one if they are the same."""
        config = self.config
        found = []
        for url in tokens.endpoints(config.cloud, config.graph_url, config.authority_url)[:2]:
            parts = urlsplit(url)
            found.append(Way(parts.hostname or "", parts.port or 443, self.account.outbound.proxy_for(url) or ""))
        return list(dict.fromkeys(found))

    def close(self) -> None:
        if self._account is not None:
            self._account.graph.close()
