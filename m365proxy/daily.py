"""What is done once a day: remove what is too old in the queue and in mailboxes."""

from __future__ import annotations

from typing import Optional

from .account import Account, installation
from .config.sections import Config
from .delivery.drafts import Drafts
from .delivery.leftovers import Leftovers
from .errors import ProxyError
from .spool import sweep
from .spool.spool import Spool, mailbox_tag
from .system import adopted
from .system.choices import Permissions


class Daily:
    """The daily work of one running program."""

    def __init__(self, config: Config, account: Account, spool: Spool):
        """`config` is that of the start: its permissions and its state directory stay."""
        self._may_read = config.permissions is Permissions.FULL
        self._state_dir = config.state_dir
        self._account = account
        self._spool = spool

    def run(self, config: Config) -> None:
        """`config` is the present one."""
        sweep.sweep(self._spool, config.queue.keep_failed_days, self._true_time())
        if self._may_read:
            self._sweep_mailboxes(config)

    def _true_time(self) -> Optional[float]:
        """The time by Graph's clock, asked for just now; None if Graph does not answer."""
        try:
            self._account.graph.check_reachable()
        except ProxyError:
            return None
        return self._account.graph.now()

    def _sweep_mailboxes(self, config: Config) -> None:
        """Remove what we left: drafts that nothing needs, and old copies in Sent Items."""
        graph = self._account.graph
        mailboxes = dict.fromkeys(filter(None, [*(mailbox.username for mailbox in config.mailboxes), graph.user]))
        keep_days = {
            mailbox_tag(mailbox.username): mailbox.sent_items
            for mailbox in config.mailboxes
            if mailbox.sent_items is not None
        }
        drafts = Drafts(graph, installation(self._state_dir), adopted.settled(self._state_dir))
        Leftovers(graph, drafts, self._spool, keep_days).sweep(mailboxes)
