"""The option table: every key of the configuration, once, with type, default and help.

Loading, `check`, a reload, the manual page and the sample configuration all go
by OPTIONS.  Ranges, choices and units are in the types (`option.type.words`).
"""

from __future__ import annotations

from typing import NamedTuple, Tuple

from ..system.choices import Cloud, OnAmbiguous, Permissions, Service, TlsMode
from .types import (
    ADDRESS,
    ADDRESS_PATTERN,
    DELETE_POLICY,
    DOMAIN,
    NETWORK,
    THUMBPRINT,
    BindAddress,
    Boolean,
    Choice,
    Date,
    Guid,
    Integer,
    ListOf,
    Number,
    Object,
    Objects,
    Password,
    Path,
    Port,
    ProxyUrl,
    RelayNetworks,
    SecretText,
    SentItems,
    Tenant,
    Text,
    Type,
    Url,
    WordOf,
)


class Option(NamedTuple):
    """One key.

    path: a dot follows the name of a section, and "[]" the name of a list of
        objects: "queue.retry_interval", "mailboxes[].login".
    default: as in the file; None means the key has no value unless it is given.
    help: one sentence or two, for the manual page and the sample.
    example: a value for the sample.
    restart: a reload does not put a change to use, only a restart does.
    needs: keys of the same section, one of which must be set too.
    excludes: a key of the same section that must not be set too.
    unused: accepted, but without effect in this version.
    """

    path: str
    type: Type
    default: object
    help: str
    required: bool = False
    example: object = None
    restart: bool = False
    needs: Tuple[str, ...] = ()
    excludes: str = ""
    unused: bool = False

    @property
    def section(self) -> str:
        """The path of the section that has the key: "", "queue", "mailboxes[].logins[]"."""
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


_TEXT, _SECRET, _BOOLEAN, _PORT = Text(), SecretText(), Boolean(), Port()
_BIND, _NETWORKS = ListOf(BindAddress(), least=1), ListOf(NETWORK)
_HTTPS = Url("https")
_SERVICES = ListOf(WordOf(Service), least=1)
_TLS_VERSION = Choice("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_NIL = "00000000-0000-0000-0000-000000000000"
_HASH = "scrypt$16384$8$1$..."

OPTIONS = (
    # The account and the app registration
    Option(
        "user",
        ADDRESS,
        None,
        "The account that signs in and may open the mailboxes; not needed with client_secret or client_certificate.",
        example="relay@contoso.com",
        restart=True,
    ),
    Option(
        "tenant_id",
        Tenant(),
        None,
        "Directory (tenant) ID of the app registration, or a domain of the tenant.",
        required=True,
        example=_NIL,
        restart=True,
    ),
    Option(
        "client_id",
        Guid(),
        None,
        "Application (client) ID of the app registration.",
        required=True,
        example=_NIL,
        restart=True,
    ),
    Option(
        "client_secret",
        _SECRET,
        None,
        "Client secret: the application signs in by itself, without user.",
        restart=True,
        excludes="client_certificate",
    ),
    Option(
        "client_secret_expires",
        Date(),
        None,
        "Day the client secret or certificate expires, to be warned before it.",
        needs=("client_secret", "client_certificate"),
    ),
    Option(
        "client_certificate",
        Object(),
        None,
        "Certificate: the application signs in by itself, without user.",
        restart=True,
    ),
    Option(
        "client_certificate.private_key",
        Path(),
        None,
        "File with the private key (PEM).",
        required=True,
        example="app-key.pem",
    ),
    Option(
        "client_certificate.thumbprint",
        THUMBPRINT,
        None,
        "SHA-1 thumbprint, as the app registration shows it.",
        required=True,
        example="A1B2C3D4E5F60718293A4B5C6D7E8F9001122334",
    ),
    Option(
        "permissions",
        WordOf(Permissions),
        "full",
        '"send" asks Microsoft for the right to send only: no '
        "POP3, no mail over about 3 MB, no check whether a doubtful message went out.",
        restart=True,
    ),
    Option("cloud", WordOf(Cloud), "global", "Which Microsoft cloud the tenant is in.", restart=True),
    Option("graph_url", _HTTPS, None, "Graph's address, where it is not the cloud's usual one.", restart=True),
    Option(
        "authority_url",
        _HTTPS,
        None,
        "The sign-in service's address, where it is not the cloud's usual one.",
        restart=True,
    ),
    Option(
        "ca_file",
        Path(),
        None,
        "Certificates (PEM) to trust for Microsoft's side, such as those of a firewall "
        "that looks into TLS; otherwise REQUESTS_CA_BUNDLE, SSL_CERT_FILE or the system's.",
        restart=True,
    ),
    Option(
        "https_proxy",
        Object(short=ProxyUrl()),
        None,
        "Proxy on the way to Microsoft, as a URL or as an object; otherwise the environment's HTTPS_PROXY.",
        restart=True,
    ),
    Option(
        "https_proxy.url", ProxyUrl(), None, "The proxy's URL.", required=True, example="http://proxy.contoso.com:3128"
    ),
    Option("https_proxy.user", _TEXT, None, "User name at the proxy.", example="m365proxy"),
    Option("https_proxy.password", _SECRET, None, "Password at the proxy.", example="...", needs=("user",)),
    # The mailboxes
    Option("mailboxes", Objects(least=1), None, "The mailboxes that send and are fetched.", required=True),
    Option(
        "mailboxes[].username",
        ADDRESS,
        None,
        "The mailbox's address; also a user name for signing in.",
        required=True,
        example="scanner@contoso.com",
    ),
    Option(
        "mailboxes[].password",
        Password(),
        None,
        "Its password here, best as `m365proxy hash-password` prints it; Microsoft never sees it.",
    ),
    Option(
        "mailboxes[].login",
        _TEXT,
        None,
        "A second user name, for devices that cannot be told an address.",
        needs=("password",),
    ),
    Option(
        "mailboxes[].logins",
        Objects(),
        [],
        "Further user names with passwords of their own, such as one for each device.",
    ),
    Option("mailboxes[].logins[].login", _TEXT, None, "User name.", required=True, example="printer-2"),
    Option(
        "mailboxes[].logins[].password",
        Password(),
        None,
        "The password that goes with it.",
        required=True,
        example=_HASH,
    ),
    Option("mailboxes[].logins[].networks", _NETWORKS, ["0.0.0.0/0", "::/0"], "Where it may sign in from."),
    Option(
        "mailboxes[].logins[].services",
        _SERVICES,
        None,
        "What it may use; the mailbox's services if not given.",
        example=["smtp"],
    ),
    Option(
        "mailboxes[].send_as",
        ListOf(ADDRESS_PATTERN),
        [],
        'Further From addresses it may use; "*@contoso.com" is a whole domain. Exchange must allow them too.',
    ),
    Option(
        "mailboxes[].default_from",
        ADDRESS,
        None,
        "From address for mail that has none; the mailbox's own if not given.",
    ),
    Option(
        "mailboxes[].rewrite_from",
        _BOOLEAN,
        False,
        "Replace a From address it may not use instead of refusing the mail; the original goes to Reply-To.",
    ),
    Option("mailboxes[].services", _SERVICES, ["smtp", "pop3"], "What the mailbox is for."),
    Option("mailboxes[].folder", _TEXT, "inbox", "Folder POP3 shows."),
    Option(
        "mailboxes[].pop3_delete",
        DELETE_POLICY,
        "trash",
        'What POP3 does with deleted mail: "trash", "permanent", "keep" or "move:FOLDER".',
    ),
    Option("mailboxes[].pop3_mark_read", _BOOLEAN, False, "Mark what the client deletes as read."),
    Option(
        "mailboxes[].pop3_fold_lines",
        _BOOLEAN,
        False,
        "Fold lines of over 2,048 octets, for clients that stop at them.",
    ),
    Option(
        "mailboxes[].sent_items",
        SentItems(),
        "keep",
        '"keep", or "delete_after_days:N" for the copies of our own mail in Sent Items.',
    ),
    # Where we listen
    Option(
        "bind",
        _BIND,
        ["127.0.0.1"],
        'Addresses to listen on; "0.0.0.0" is all of IPv4, "::" all of IPv6.',
        restart=True,
    ),
    Option("smtp_port", _PORT, 2525, "SMTP; with STARTTLS when there is a certificate.", restart=True),
    Option("smtps_port", _PORT, None, "SMTP with TLS from the first octet, usually 465.", restart=True),
    Option("pop3_port", _PORT, None, "POP3; with STLS when there is a certificate.", restart=True),
    Option("pop3s_port", _PORT, None, "POP3 with TLS from the first octet, usually 995.", restart=True),
    Option(
        "listeners",
        Objects(),
        [],
        "Ports with settings of their own, beside the ones above; with any here, "
        "smtp_port is only opened if it is given.",
        restart=True,
    ),
    Option(
        "listeners[].protocol",
        WordOf(Service),
        None,
        'What is spoken there, "smtp" or "pop3".',
        required=True,
        example="smtp",
    ),
    Option("listeners[].bind", _BIND, None, "Addresses; those of bind if not given.", example=["192.168.10.1"]),
    Option("listeners[].port", _PORT, None, "Port number.", required=True, example=25),
    Option(
        "listeners[].tls",
        WordOf(TlsMode),
        None,
        '"implicit" is TLS from the first octet; "starttls" if not given and there is a certificate.',
        example="starttls",
    ),
    Option(
        "listeners[].min_version", _TLS_VERSION, None, "Oldest TLS version; that of tls if not given.", example="TLSv1"
    ),
    Option("listeners[].required", _BOOLEAN, None, "Nothing but TLS; as in tls if not given.", example=False),
    Option("listeners[].lf_only_clients", _BOOLEAN, False, "Serve clients that end every line with a bare LF."),
    Option("tls", Object(), {}, "Encryption between the devices and this program."),
    Option(
        "tls.tls_cert",
        Path("auto"),
        None,
        'File with the certificate and its chain (PEM); "auto" makes a self-signed one.',
    ),
    Option("tls.tls_key", Path(), None, 'File with its private key (PEM); not with "auto".', needs=("tls_cert",)),
    Option(
        "tls.min_version",
        _TLS_VERSION,
        "TLSv1.2",
        "Oldest TLS version; anything below TLSv1.2 is unsafe and only for devices that know no better.",
        restart=True,
    ),
    Option("tls.required", _BOOLEAN, False, "Nothing but TLS, whatever plaintext_networks says.", restart=True),
    Option("tls_first", _NETWORKS, [], "Networks whose devices begin TLS at once on a STARTTLS port."),
    # Who may
    Option("plaintext_networks", _NETWORKS, ["127.0.0.0/8", "::1/128"], "Where devices may sign in without TLS."),
    Option(
        "relay_networks",
        RelayNetworks(),
        {},
        "Network and the mailbox its devices send as without signing in, "
        'such as {"192.168.10.7": "scanner@contoso.com"}.',
    ),
    Option("allowed_networks", _NETWORKS, ["0.0.0.0/0", "::/0"], "Who may connect at all."),
    Option(
        "proxy_protocol_from",
        _NETWORKS,
        [],
        "Load balancers: their PROXY protocol header (version 1 or 2) "
        "is required and believed; all rules then go by the client's address in it.",
    ),
    Option("allowed_domains", ListOf(DOMAIN, least=1), ["*"], 'Recipient domains that may be written to; "*" is all.'),
    Option(
        "attachment_limit_mb",
        Number(1, 150, "MB", note="the most Exchange Online can be set to"),
        80,
        "Size of "
        "the attachments one message may hold (MB of 1,048,576 octets). Exchange has a limit of its own, 35 MB "
        "unless raised.",
    ),
    # Behaviour
    Option("queue", Object(), {}, "Mail that waits for Microsoft."),
    Option(
        "queue.retry_interval",
        Number(1, 86400, "seconds"),
        300,
        "Seconds between two attempts; the first come sooner.",
        restart=True,
    ),
    Option(
        "queue.lifetime_hours",
        Number(1, 8760, "hours"),
        120,
        "Hours before a message is given up and its sender told.",
        restart=True,
    ),
    Option(
        "queue.min_free_mb",
        Integer(0, 1048576, "MB"),
        64,
        "MB of the disk to leave free: mail is put off below that.",
        restart=True,
    ),
    Option("queue.keep_failed_days", Number(1, 3650, "days"), 90, "Days failed messages are kept."),
    Option(
        "queue.pace_per_minute",
        Integer(0, 10000),
        0,
        "Most messages a minute for each mailbox; 0 is no limit.",
        restart=True,
    ),
    Option(
        "queue.on_ambiguous",
        WordOf(OnAmbiguous),
        "retry",
        "When it cannot be found out whether a message "
        'went: "retry" may send it twice, "hold" keeps it for the administrator.',
        restart=True,
    ),
    Option(
        "queue.dedupe_minutes",
        Number(0, 1440, "minutes"),
        0,
        "Drop a message exactly like one of so many minutes ago; 0 never does.",
        unused=True,
    ),
    Option(
        "queue.max_waiting",
        Integer(0, 10000000),
        0,
        "Most waiting messages before new ones are put off; 0 is no limit.",
        restart=True,
    ),
    Option("pop3", Object(), {}, "Fetching by POP3.", restart=True),
    Option("pop3.exact_sizes", _BOOLEAN, False, "Fetch every message at sign-in to tell its exact size; slow."),
    Option("pop3.read_ahead_mb", Integer(0, 1024, "MB"), 32, "MB of the next messages fetched ahead; 0 fetches none."),
    Option("pop3.max_messages", Integer(0, 1000000), 0, "Most messages shown, the newest ones; 0 shows all."),
    Option(
        "limits",
        Object(),
        {},
        "Limits; those for each client do not count for loopback and for the addresses in proxy_protocol_from.",
    ),
    Option("limits.connections", Integer(1, 10000), 500, "Connections at once.", restart=True),
    Option(
        "limits.connections_per_client", Integer(1, 10000), 100, "Connections at once from one address.", restart=True
    ),
    Option("limits.errors", Integer(1, 1000), 10, "Errors in a session before it is ended."),
    Option("limits.recipients", Integer(1, 1000), 500, "Recipients of one message."),
    Option("limits.command_seconds", Number(1, 3600, "seconds"), 300, "Seconds to wait for a command."),
    Option(
        "limits.data_seconds",
        Number(1, 86400, "seconds"),
        600,
        "Seconds a message may take to come in, and one more for each 8 KiB of it.",
    ),
    Option("limits.session_seconds", Number(1, 86400, "seconds"), 3600, "Seconds a session may last."),
    Option(
        "limits.auth_failures",
        Integer(1, 1000),
        10,
        "Failed sign-ins with one user name from one address before "
        "that pair is blocked; five times as many block the address.",
        restart=True,
    ),
    Option(
        "limits.auth_block_minutes",
        Number(0, 1440, "minutes"),
        10,
        "Minutes the block lasts; 0 never blocks. A user name that signed in from there within a day is not blocked.",
        restart=True,
    ),
    Option("notify", ADDRESS, None, "Address for warnings and reports."),
    Option("status_port", _PORT, None, "Port of the status page.", unused=True),
    Option("status_password", _SECRET, None, "Password of the status page (plain).", needs=("status_port",)),
    Option("logging", Object(), {}, "The log.", restart=True),
    Option(
        "logging.level",
        Choice("DEBUG", "INFO", "WARNING", "ERROR"),
        "INFO",
        "How much is logged: DEBUG, INFO, WARNING or ERROR.",
    ),
    Option("logging.file", Path(), None, "File to log to instead of standard error."),
    Option("logging.syslog", _BOOLEAN, False, "Log to syslog too."),
    Option("logging.events", Path(), None, "File for a line of JSON on each step of each message.", unused=True),
    Option(
        "state_dir",
        Path(),
        None,
        "Directory of the queue and the sign-in; otherwise $STATE_DIRECTORY or "
        "~/.m365proxy. Name it if there is a service, or commands look elsewhere.",
        example="/var/lib/m365proxy",
        restart=True,
    ),
)


def keys_of(section: str) -> list[Option]:
    """The options of one section, in the table's order."""
    return [option for option in OPTIONS if option.section == section]
