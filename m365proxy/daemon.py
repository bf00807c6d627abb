"""The running program: everything put together from the config, started, reloaded, stopped."""

from __future__ import annotations

import functools
import os
import queue
import socket
import ssl
import threading
import time
from typing import Callable, Dict, List, Mapping, Optional

from .account import Account, installation, notice_ways, spool_of, watched
from .admission import Admission
from .config import load as configuration
from .config.restart import needing_restart
from .config.sections import Config, Socket
from .config.sockets import status_addresses
from .daily import Daily
from .delivery.attempt import Delivery
from .delivery.budget import MOST
from .delivery.courier import Courier
from .delivery.drafts import Drafts
from .delivery.messageids import SeenIds
from .delivery.reporter import Reporter
from .delivery.routes import Routes
from .delivery.sentcopies import SentCopies
from .delivery.uploads import LargeDrafts
from .delivery.warningmail import WarningMail
from .entra import renewalprocess
from .entra.registration import private_key
from .errors import CannotCreate, ConfigError, Temporary
from .graph.slots import share
from .listening import listener_settings, status_access, tls_contexts
from .maildrop.maildrop import Maildrops
from .monitoring.counters import Counters
from .monitoring.monitor import Monitor
from .monitoring.notices import Notices
from .monitoring.snapshot import ProgramView
from .pop3.session import Pop3Session
from .receivers.receiver import Receiver
from .receivers.receivers import Receivers, possible_number
from .receivers.words import Report, Task
from .server.client import Client, Session
from .server.clienthello import ClientHellos
from .server.connections import Connections
from .server.junk import JunkCommands
from .server.listener import Listener
from .server.quirks import Habit
from .smtp import session as smtp
from .spool.envelope import Envelope
from .spool.incoming import Incoming
from .spool.overview import Overview
from .submission import Submission, guard_of
from .system import adopted, files, log, machines, memory
from .system.choices import Permissions, Service, TlsMode
from .system.control import Control
from .system.events import EventLog
from .system.machineid import this_machine
from .system.outbound import Outbound
from .system.signals import Asked
from .system.systemd import Notifier
from .system.threads import Repeating, survive
from .web.statusport import Access, StatusPort

logger = log.get("daemon")

# Seconds an orderly stop may take; service managers kill after 90, the promise is 10.
_STOP_SECONDS = 9.0

# ... and of these, a call of Graph that is under way.
_CALL_SECONDS = 3.0

# Seconds between looks at control/ and rewrites of status.json.
_CONTROL_SECONDS = 0.5
_STATUS_SECONDS = 5.0

# The refresh token rolls on with each use and dies of 90 idle days (refresh-tokens.md).
_REFRESH_SECONDS = 12 * 3600.0

# Seconds between sweeps of the queue and of what we leave in mailboxes.
_SWEEP_SECONDS = 24 * 3600.0


class Daemon:
    """One running m365proxy.  `start`, then `serve` until something calls `ask_stop`, or `stop` by hand."""

    def __init__(
        self,
        config: Config,
        outbound: Optional[Outbound] = None,
        notifier: Optional[Notifier] = None,
        environ: Mapping[str, str] = os.environ,
        asked: "Optional[Asked[str]]" = None,
        event_log: Optional[EventLog] = None,
        program: str = "m365proxy",
        adopt: bool = False,
        lock: Optional[files.Lock] = None,
    ):
        """`asked` gets what signals ask for, `event_log` the log's steps; `program` starts this one in a shell.
        `adopt`: this machine may use the state directory, whosever it was.
        `lock`: that of the state directory, if it is held already.
        Nothing is opened yet.  ConfigError if a certificate or key is wrong.
        """
        if config.client_certificate:
            private_key(config.client_certificate.private_key)
        self.config = config
        self._built = config  # that of the start, for what a reload cannot change
        self._state_dir = config.state_dir
        self._machine, self._adopt = this_machine(environ), adopt
        self._control = Control(self._state_dir)
        self._notifier = notifier or Notifier({})
        self._counters = Counters()
        self.account = Account(config, outbound, environ, self._counters, renewalprocess.apart)
        self.spool = spool_of(config)
        self.listeners: List[Listener] = []
        self._stop_asked = threading.Event()
        self._asked: "Asked[str]" = asked if asked is not None else queue.SimpleQueue()
        # A certificate of our own making needs the state directory: start() makes it.
        self._tls = {} if config.tls.tls_cert == "auto" else tls_contexts(config, config, self._state_dir)
        self._guard = guard_of(config)
        self._connections = self._make_connections(config)
        self._submission = Submission(config, self._guard, self._connections, self._accept, self._counters.note_refusal)
        self._client_hellos: ClientHellos  # made by start(): it needs the state directory
        self._hellos_path = os.path.join(self._state_dir, "tls_first.json")
        self._receivers = self._make_receivers(config)
        self._admission = Admission(self._connections, self._receivers, self._state_dir)
        self._lock = lock or files.Lock(os.path.join(self._state_dir, "lock"))
        self._after_rush = memory.AfterRush()
        self._stopped = False
        self._maildrops: Maildrops  # made by start(), too
        self.courier: Courier  # made by start(): it needs the state directory
        self._sent_copies: SentCopies  # likewise
        self._reporter = self._make_reporter()
        self._daily = Daily(config, self.account, self.spool)
        self._started = time.time()
        self._monitor = self._make_monitor(event_log)
        self._status_port = StatusPort(self._monitor, self._guard, program, self._admission.readiness)
        self._chores = self._make_chores()

    # Starting.

    def start(self) -> None:
        """Lock the state directory, listen, and start to deliver the queue."""
        memory.return_large_blocks()
        memory.share_few_heaps()
        state_dir = self._state_dir
        files.make_directory(state_dir)
        if not self._adopt:
            machines.check(state_dir, self._machine)
        if not self._lock.is_held:
            self._lock.acquire(2.0)  # a command may hold it for a moment
        self._lock.note_holder()
        try:
            machines.note(state_dir, self._machine)
            self.spool.make()
            self._control.make()
            self._tls = self._tls or tls_contexts(self.config, self.config, state_dir)
            self._receivers.start()
            self.courier = self._make_courier()
            self._client_hellos = ClientHellos(self._hellos_path, self.config.tls_first)
            self._maildrops = Maildrops(
                self.account.graph,
                os.path.join(state_dir, "maildrop"),
                max_messages=self.config.pop3.max_messages,
                read_ahead=self.config.pop3.read_ahead_mb * 1024 * 1024,
                exact_sizes=self.config.pop3.exact_sizes,
                min_free=self.config.queue.min_free_mb * 1024 * 1024,
            )
            for index, wanted in enumerate(self.config.sockets):
                self._listen(index, wanted)
            if self.config.status_port is not None:
                self._status_port.open(
                    status_addresses(self.config), self.config.status_port, self._status_access(self.config)
                )
            for directory in (state_dir, *(os.path.join(state_dir, name) for name in ("seen", "control", "maildrop"))):
                files.remove_unfinished(directory)
            self._monitor.start()
            self.courier.recover()
        except BaseException:
            for listener in self.listeners:
                listener.close()
            self._status_port.close()
            self._receivers.ask_stop(0.0)
            self._receivers.stop(time.monotonic() + _CALL_SECONDS)
            self._lock.release()
            raise
        for listener in self.listeners:
            listener.start()
        self._status_port.start()
        for warning in self.config.warnings:
            logger.warning("%s", warning)
        logger.info("started: %s", "; ".join(self.addresses()))
        self.courier.start()
        self._reporter.start()
        for chore in self._chores:
            chore.start()

    def _make_chores(self) -> List[Repeating]:
        return [
            Repeating(files.CONFIRM_SECONDS, self._lock.keep, "lock", first=files.CONFIRM_SECONDS),
            Repeating(_REFRESH_SECONDS, self.account.tokens.refresh_daily, "refresh", first=0.0),
            # Not at once: there is much to do after a start.
            Repeating(_SWEEP_SECONDS, lambda: self._daily.run(self.config), "sweep", first=600.0),
        ]

    def _make_monitor(self, event_log: Optional[EventLog]) -> Monitor:
        warning_mail = WarningMail(self.spool, lambda id: self.courier.add(id))
        return Monitor(
            lambda: watched(self.config, self._state_dir),
            Overview(self.spool),
            self.account.tokens.state,
            self._view,
            counters=self._counters,
            event_log=event_log,
            notices=Notices(lambda: notice_ways(self.config), warning_mail.send, self.account.outbound),
        )

    def _make_courier(self) -> Courier:
        config, graph, nodes = self.config, self.account.graph, self.config.limits.nodes
        files.make_private(os.path.join(config.state_dir, "seen"))
        drafts = Drafts(graph, installation(config.state_dir), adopted.settled(config.state_dir))
        self._sent_copies = SentCopies(drafts, config.without_copies)
        delivery = Delivery(
            graph,
            drafts,
            LargeDrafts(graph, most=MOST // nodes, sleep=self._pause),
            Routes(config.state_dir, graph.user, config.permissions is Permissions.FULL),
            SeenIds(os.path.join(config.state_dir, "seen")),
            lambda mailbox, address: self._guard.users.may_send_as(mailbox, address),
            on_ambiguous=config.queue.on_ambiguous,
            may_be_unmarked=lambda mailbox: self.config.may_be_unmarked(mailbox),
        )
        return Courier(
            self.spool,
            graph,
            delivery,
            [mailbox.username for mailbox in config.mailboxes],
            retry_interval=config.queue.retry_interval,
            lifetime=config.queue.lifetime_hours * 3600.0,
            pace_per_minute=config.queue.pace_per_minute / nodes,
            slots=share(nodes),
            probe=self._probe,
            failed=self._reporter.report_soon,
            sent=self._sent_copies.note,
        )

    def _make_connections(self, config: Config) -> Connections:
        return Connections(
            config.limits.connections,
            config.limits.connections_per_client,
            config.proxy_protocol_from,
            config.allowed_networks,
            note_session=lambda service, peer: self._monitor.note_session(service, peer),
            note_refused=self._counters.note_refused_connection,
        )

    def _make_receivers(self, config: Config) -> Receivers:
        reports: Dict[Report, Callable[..., object]] = {
            Report.QUEUED: self._take_over,
            Report.SESSION: lambda service, peer: self._monitor.note_session(service, peer),
            Report.TURNED_AWAY: self._counters.note_refused_connection,
            Report.REFUSAL: self._counters.note_refusal,
            Report.QUIRK: self._note_quirk,
            Report.CLIENT_HELLO: self._note_hello,
        }
        return Receivers(
            possible_number(config.receivers),
            lambda: Receiver(config, self._tls, self._hellos_path).run,
            self._connections,
            reports,
            lambda: self.courier.find_missed(),
        )

    def _take_over(self, id: str) -> None:
        """A receiver has accepted a message."""
        self.spool.note_accepted()
        self.courier.add(id)

    def _note_quirk(self, peer: str, what: str, level: int, habit: Optional[str]) -> None:
        """A receiver has seen a peculiarity for the first time."""
        self._connections.quirks.note(peer, what, level, Habit(habit) if habit else None)

    def _note_hello(self, peer: str) -> None:
        """A receiver has found a client that begins TLS at once."""
        self._client_hellos.note(peer)
        self._receivers.tell(Task.CLIENT_HELLO, peer)

    def _make_reporter(self) -> Reporter:
        return Reporter(
            self.spool,
            lambda id: self.courier.add(id),
            [mailbox.username for mailbox in self.config.mailboxes],
            notify=self.config.notify,
            last_delivery=lambda mailbox: self.courier.last_delivery(mailbox),
            host=socket.gethostname(),
        )

    def _listen(self, index: int, wanted: Socket) -> None:
        settings = listener_settings(wanted, self._client_hellos)
        tls_context = self._tls.get(wanted.min_version) if wanted.tls is not TlsMode.NONE else None
        hand_over = functools.partial(self._receivers.hand_over, index) if wanted.protocol is Service.SMTP else None
        self.listeners.append(
            Listener(wanted.address, wanted.port, settings, self._session, self._connections, tls_context, hand_over)
        )

    def addresses(self) -> List[str]:
        """ "smtp 127.0.0.1:2525", "smtps 192.0.2.1:465" and so on, with the ports really bound."""
        return [listener.place for listener in (*self.listeners, *self._status_port.listeners)]

    def _status_access(self, config: Config) -> Access:
        return status_access(self._built, config, self._tls, self._state_dir)

    def _session(self, client: Client) -> Session:
        if client.settings.protocol is smtp.PROTOCOL:
            return self._submission.session(client)
        return Pop3Session(
            client.connection,
            users=self._guard,
            maildrops=self._maildrops,
            tls_context=client.starttls,
            plaintext_networks=() if client.settings.tls_required else self._submission.plaintext_networks,
            errors=self.config.limits.errors,
            handshake_seconds=client.settings.handshake_seconds,
            junk=JunkCommands(client.note_progress),
            note_retrieved=self._counters.note_retrieved,
        )

    def _accept(self, envelope: Envelope) -> Incoming:
        return self.spool.put(envelope, self.courier.add)

    def _pause(self, seconds: float) -> None:
        """Wait; Temporary if the program is to stop, so that what waits ends."""
        if self._stop_asked.wait(seconds):
            raise Temporary("The program is being stopped.")

    def _probe(self) -> None:
        """Raise what keeps all mail from being sent: no sign-in, or Graph does not answer."""
        self.account.tokens.access_token()
        self.account.graph.check_reachable()

    # Running.

    def serve(self) -> None:
        """Run until `asked` says "stop" or `ask_stop` is called; then stop in an orderly way."""
        self.write_status()
        written = time.monotonic()
        self._notifier.ready("; ".join(self.addresses()))
        while True:
            word = self._next_word()
            if word == "stop":
                break
            self._notifier.alive()
            survive(functools.partial(self._carry_out, word), "control")
            survive(self._obey, "control")
            survive(self.courier.tick, "courier")
            survive(self._count_waiting, "queue")
            survive(self._receivers.tick, "receiver")
            if time.monotonic() - written >= _STATUS_SECONDS:
                survive(self.write_status, "status")
                self._after_rush.look(len(self._connections), self._connections.take_most())
                self._receivers.tell(Task.LOOK)
                written = time.monotonic()
        self.stop()

    def _count_waiting(self) -> None:
        if self._built.queue.max_waiting:
            self._receivers.tell(Task.WAITING, self.spool.waiting())

    def ask_stop(self) -> None:
        """Any thread may ask, and a signal's handler."""
        self._asked.put("stop")

    def _next_word(self) -> str:
        """What is asked for next; "" if nothing is for a while."""
        try:
            return self._asked.get(timeout=_CONTROL_SECONDS)
        except queue.Empty:
            return ""

    def _obey(self) -> None:
        """Do what files in control/ ask for."""
        for word, id in self._control.take():
            self._carry_out(word, id)

    def _carry_out(self, word: str, id: str = "") -> None:
        if word == "queued":
            self.courier.add(id)
        elif word == "adopted":
            self.courier.take_over(id)
        elif word == "reload":
            self.reload()
        elif word == "flush":
            self.courier.flush_all()
        elif word == "status":
            self.write_status()
        elif word == "login":
            self._guard.admit_once(id)
            self._receivers.tell(Task.ADMIT, id)
        elif word == "watch":
            self._connections.quirks.watch(float(id))
            self._receivers.tell(Task.WATCH, float(id))
        elif word == "drain":
            self._admission.drain()
            self.write_status()

    def reload(self) -> None:
        """Put users, rules and certificates of the config file to use; a file with mistakes changes nothing."""
        try:
            content, mode = configuration.content_of(self.config.path)
            config = configuration.parsed(content, self.config.path, mode)
            contexts = tls_contexts(self._built, config, self._state_dir)
        except ConfigError as error:
            for problem in error.problems:
                logger.error("not reloaded: %s", problem)
            return
        except CannotCreate as error:
            logger.error("not reloaded: %s", error)
            return
        self._set_certificate(contexts)
        self._put_to_use(config, content)
        logger.info("reloaded %s", config.path)
        for warning in config.warnings:
            logger.warning("%s", warning)
        needs_restart = needing_restart(self._built, config)
        if needs_restart:
            logger.warning("a change of %s needs a restart", ", ".join(needs_restart))

    def _put_to_use(self, config: Config, content: bytes) -> None:
        """Everything that changes without a restart; `content` is that of the config's file."""
        self.config = config
        self._status_port.set_access(self._status_access(config))
        self._client_hellos.networks = config.tls_first
        self._submission.configure(config)
        self._receivers.reload(config.path, content)
        addresses = [mailbox.username for mailbox in config.mailboxes]
        self._reporter.configure(addresses, config.notify)
        self._sent_copies.set_mailboxes(config.without_copies)
        self.courier.set_mailboxes(addresses)

    def _set_certificate(self, contexts: Dict[str, ssl.SSLContext]) -> None:
        """Use another certificate from the next handshake on."""
        if self._tls and not contexts:
            logger.warning("without tls.tls_cert: the listeners keep the certificate they have until a restart")
            return
        self._tls = contexts
        for listener, wanted in zip(self.listeners, self._built.sockets):
            listener.tls = contexts.get(wanted.min_version) if wanted.tls is not TlsMode.NONE else None

    def write_status(self) -> None:
        report = self._monitor.tick()
        trouble = [report["sign_in"]["error"]] if report is not None and report["sign_in"]["error"] else []
        self._notifier.status("; ".join([*self.addresses(), *trouble]))

    def _view(self) -> ProgramView:
        courier = self.courier.status()
        return ProgramView(
            pid=os.getpid(),
            started=self._started,
            listeners=self.addresses(),
            deaf=[] if self._stopped else [one.place for one in self.listeners if not one.is_accepting],
            draining=self._admission.is_draining,
            connections=len(self._connections),
            paused=courier["paused"],
            clock_skew=self.account.graph.skew_left(),
            sent={name: lane["sent"] for name, lane in courier["mailboxes"].items()},
        )

    def stop(self) -> None:
        """Stop accepting, let messages that are coming in and going out end, unlock the directory; once."""
        if self._stopped:
            return
        self._stopped = True
        self._stop_asked.set()
        self._notifier.stopping()
        deadline = time.monotonic() + _STOP_SECONDS
        for chore in self._chores:
            chore.stop()
        self._reporter.stop()
        self._sent_copies.stop()
        for listener in self.listeners:
            listener.close()
        self._status_port.close()
        self._receivers.ask_stop(_STOP_SECONDS / 2)
        cut = self._connections.stop(_STOP_SECONDS / 2)
        cut += self._receivers.stop(deadline - _CALL_SECONDS)
        idle = self.courier.stop(_CALL_SECONDS)
        if not idle:
            self.account.graph.break_off()
            idle = self.courier.stop(max(0.0, deadline - time.monotonic()))
        self.account.graph.close()
        self._monitor.stop()
        self.spool.close()
        self._lock.release()
        logger.info(
            "stopped%s%s",
            f"; {cut} sessions were broken off" if cut else "",
            "" if idle else "; a message was being sent: whether it went out is looked up at the next start",
        )
