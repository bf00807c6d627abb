"""The option table: every key of the configuration, once, with type, default and help.

Loading, `check`, a reload, the manual page and the sample configuration all go
by OPTIONS.  Ranges, choices and units are in the types (`option.type.words`).
"""

from __future__ import annotations

from ..system.choices import Cloud, OnAmbiguous, Permissions, Service, TlsMode
from .kinds import BIND, BOOLEAN, HASH, HTTPS, NETWORKS, NIL, PORT, SECRET, SERVICES, TEXT, TLS_VERSION
from .option import Option
from .types import (
    ADDRESS,
    ADDRESS_PATTERN,
    DOMAIN,
    THUMBPRINT,
    Choice,
    Date,
    Delete,
    Guid,
    Integer,
    ListOf,
    NoticeUrl,
    Number,
    Object,
    Objects,
    Password,
    Path,
    ProxyUrl,
    RelayNetworks,
    SentItems,
    StatusPassword,
    Tenant,
    WordOf,
)

OPTIONS = (
    # The account and the app registration
    Option(
        "user",
        ADDRESS,
        None,
        "The account that signs in to Microsoft 365 and may open the mailboxes. Not needed with client_secret "
        "or client_certificate.",
        example="relay@contoso.com",
        restart=True,
    ),
    Option(
        "tenant_id",
        Tenant(),
        None,
        "Directory (tenant) ID of the app registration, or a domain of the tenant.",
        required=True,
        example=NIL,
        restart=True,
    ),
    Option(
        "client_id",
        Guid(),
        None,
        "Application (client) ID of the app registration.",
        required=True,
        example=NIL,
        restart=True,
    ),
    Option(
        "client_secret",
        SECRET,
        None,
        "Client secret: the application signs in as itself, without user.",
        restart=True,
        excludes="client_certificate",
    ),
    Option(
        "client_secret_expires",
        Date(),
        None,
        "Day on which the client secret or certificate expires; there is a warning 30 days before.",
        needs=("client_secret", "client_certificate"),
    ),
    Option(
        "client_certificate",
        Object(),
        None,
        "Certificate: the application signs in as itself, without user.",
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
        '"send" asks Microsoft only for the right to send: no POP3, no mail over about 3 MB, and nobody can '
        "look whether a doubtful message was sent.",
        restart=True,
    ),
    Option("cloud", WordOf(Cloud), "global", "The Microsoft cloud the tenant is in.", restart=True),
    Option("graph_url", HTTPS, None, "Address of Graph, if it is not the usual one of the cloud.", restart=True),
    Option(
        "authority_url",
        HTTPS,
        None,
        "Address of the sign-in service, if it is not the usual one of the cloud.",
        restart=True,
    ),
    Option(
        "ca_file",
        Path(),
        None,
        "Certificates (PEM) to trust for connections to Microsoft, such as those of a firewall that inspects "
        "TLS. If not given: REQUESTS_CA_BUNDLE, SSL_CERT_FILE or the system's certificates.",
        restart=True,
    ),
    Option(
        "https_proxy",
        Object(short=ProxyUrl()),
        None,
        "Proxy for connections to Microsoft, as a URL or as an object. If not given: HTTPS_PROXY in the environment.",
        restart=True,
    ),
    Option(
        "https_proxy.url", ProxyUrl(), None, "URL of the proxy.", required=True, example="http://proxy.contoso.com:3128"
    ),
    Option("https_proxy.user", TEXT, None, "User name at the proxy.", example="m365proxy"),
    Option("https_proxy.password", SECRET, None, "Password at the proxy.", example="...", needs=("user",)),
    # The mailboxes
    Option("mailboxes", Objects(least=1), None, "The mailboxes for sending and for POP3.", required=True),
    Option(
        "mailboxes[].username",
        ADDRESS,
        None,
        "Address of the mailbox. It is also a user name for devices.",
        required=True,
        example="scanner@contoso.com",
    ),
    Option(
        "mailboxes[].password",
        Password(),
        None,
        "Password for devices, best as `m365proxy hash-password` prints it. Microsoft never sees it.",
    ),
    Option(
        "mailboxes[].login",
        TEXT,
        None,
        "A second user name, for devices that do not accept an address as user name.",
        needs=("password",),
    ),
    Option(
        "mailboxes[].logins",
        Objects(),
        [],
        "More user names with passwords of their own, such as one for each device.",
    ),
    Option("mailboxes[].logins[].login", TEXT, None, "User name.", required=True, example="printer-2"),
    Option(
        "mailboxes[].logins[].password",
        Password(),
        None,
        "Password of this user name.",
        required=True,
        example=HASH,
    ),
    Option("mailboxes[].logins[].networks", NETWORKS, ["0.0.0.0/0", "::/0"], "Networks from which it may log in."),
    Option(
        "mailboxes[].logins[].services",
        SERVICES,
        None,
        "Services it may use. If not given: those of the mailbox.",
        example=["smtp"],
    ),
    Option(
        "mailboxes[].send_as",
        ListOf(ADDRESS_PATTERN),
        [],
        'More From addresses it may use; "*@contoso.com" is a whole domain. Exchange must allow them too.',
    ),
    Option(
        "mailboxes[].default_from",
        ADDRESS,
        None,
        "From address for mail that has none, and in place of one that rewrite_from replaces. If not given: the "
        "address of the mailbox.",
    ),
    Option(
        "mailboxes[].rewrite_from",
        BOOLEAN,
        False,
        "Replace a From address that is not allowed instead of refusing the mail. The original goes to Reply-To.",
    ),
    Option("mailboxes[].services", SERVICES, ["smtp", "pop3"], "What the mailbox is used for."),
    Option("mailboxes[].folder", TEXT, "inbox", "Folder that POP3 shows."),
    Option(
        "mailboxes[].pop3_delete",
        Delete(),
        "trash",
        'What happens to mail that a POP3 client deletes: "trash", "permanent", "keep" or "move:FOLDER".',
    ),
    Option("mailboxes[].pop3_mark_read", BOOLEAN, False, "Mark mail that the client deletes as read."),
    Option(
        "mailboxes[].pop3_fold_lines",
        BOOLEAN,
        False,
        "Fold lines longer than 2,048 octets, for clients that cannot read them.",
    ),
    Option(
        "mailboxes[].sent_items",
        SentItems(),
        "keep",
        'What happens to copies of our own mail in Sent Items: "keep", "delete_after_days:N", or "none", which '
        "deletes each about a minute after it was sent. They are deleted for good.",
    ),
    # Where we listen
    Option(
        "bind",
        BIND,
        ["127.0.0.1"],
        'Addresses to listen on; "0.0.0.0" is all of IPv4, "::" all of IPv6.',
        restart=True,
    ),
    Option("smtp_port", PORT, 2525, "Port for SMTP. With a certificate it offers STARTTLS.", restart=True),
    Option("smtps_port", PORT, None, "Port for SMTP with TLS from the first octet, usually 465.", restart=True),
    Option("pop3_port", PORT, None, "Port for POP3. With a certificate it offers STLS.", restart=True),
    Option("pop3s_port", PORT, None, "Port for POP3 with TLS from the first octet, usually 995.", restart=True),
    Option(
        "listeners",
        Objects(),
        [],
        "Ports with settings of their own, in addition to the four above. If there are any, smtp_port is opened "
        "only if it is given.",
        restart=True,
    ),
    Option(
        "listeners[].protocol",
        WordOf(Service),
        None,
        'The protocol, "smtp" or "pop3".',
        required=True,
        example="smtp",
    ),
    Option(
        "listeners[].bind",
        BIND,
        None,
        "Addresses to listen on. If not given: those of bind.",
        example=["192.168.10.1"],
    ),
    Option("listeners[].port", PORT, None, "Port number.", required=True, example=25),
    Option(
        "listeners[].tls",
        WordOf(TlsMode),
        None,
        '"implicit" is TLS from the first octet. If not given: "starttls" with a certificate, "none" without.',
        example="starttls",
    ),
    Option(
        "listeners[].min_version",
        TLS_VERSION,
        None,
        "Minimum TLS version. If not given: that of tls.",
        example="TLSv1",
    ),
    Option(
        "listeners[].required", BOOLEAN, None, "Refuse everything without TLS. If not given: as in tls.", example=False
    ),
    Option(
        "listeners[].lf_only_clients", BOOLEAN, False, "Accept clients that end every line with LF instead of CRLF."
    ),
    Option("tls", Object(), {}, "Encryption between devices and this program."),
    Option(
        "tls.tls_cert",
        Path("auto"),
        None,
        'File with the certificate and its chain (PEM); "auto" makes a self-signed one.',
    ),
    Option("tls.tls_key", Path(), None, 'File with the private key (PEM); not with "auto".', needs=("tls_cert",)),
    Option(
        "tls.min_version",
        TLS_VERSION,
        "TLSv1.2",
        "Minimum TLS version. Versions below TLSv1.2 are unsafe: only for devices that support nothing newer.",
        restart=True,
    ),
    Option("tls.required", BOOLEAN, False, "Refuse everything without TLS, also in plaintext_networks.", restart=True),
    Option("tls_first", NETWORKS, [], "Networks of devices that start TLS with the first octet on a STARTTLS port."),
    # Who may
    Option(
        "plaintext_networks",
        NETWORKS,
        ["127.0.0.0/8", "::1/128"],
        "Networks from which devices may log in without TLS.",
    ),
    Option(
        "relay_networks",
        RelayNetworks(),
        {},
        "Networks whose devices may send without login, each with the mailbox they send as, such as "
        '{"192.168.10.7": "scanner@contoso.com"}.',
    ),
    Option("allowed_networks", NETWORKS, ["0.0.0.0/0", "::/0"], "Networks that may connect. All others are refused."),
    Option(
        "proxy_protocol_from",
        NETWORKS,
        [],
        "Load balancers. They must send a PROXY protocol header (version 1 or 2); all rules then apply to the "
        "client address in it.",
    ),
    Option(
        "allowed_domains", ListOf(DOMAIN, least=1), ["*"], 'Domains of recipients that mail may be sent to; "*" is all.'
    ),
    Option(
        "attachment_limit_mb",
        Number(1, 150, "MB", note="the most Exchange Online can be set to"),
        80,
        "Maximum size of all attachments of a message (MB of 1,048,576 octets). Exchange has a limit of its "
        "own: 35 MB unless raised.",
    ),
    # Behaviour
    Option("queue", Object(), {}, "The queue of mail to be sent."),
    Option(
        "queue.retry_interval",
        Number(1, 86400, "seconds"),
        300,
        "Seconds between two attempts to send a message. The first attempts come sooner.",
        restart=True,
    ),
    Option(
        "queue.lifetime_hours",
        Number(1, 8760, "hours"),
        120,
        "Hours after which a message is given up and a report goes to its sender.",
        restart=True,
    ),
    Option(
        "queue.min_free_mb",
        Integer(0, 1048576, "MB"),
        64,
        "MB of disk space to keep free. With less, new mail is refused for the time being.",
        restart=True,
    ),
    Option("queue.keep_failed_days", Number(1, 3650, "days"), 90, "Days for which failed messages are kept."),
    Option(
        "queue.pace_per_minute",
        Integer(0, 10000),
        0,
        "Maximum number of messages per minute for each mailbox; 0 is no limit.",
        restart=True,
    ),
    Option(
        "queue.on_ambiguous",
        WordOf(OnAmbiguous),
        "retry",
        'If nobody can find out whether a message was sent: "retry" may send it twice, "hold" keeps it until '
        "the administrator decides.",
        restart=True,
    ),
    Option(
        "queue.dedupe_minutes",
        Number(0, 1440, "minutes"),
        0,
        "Drop a message that is identical to one of the last so many minutes; 0 never does.",
        unused=True,
    ),
    Option(
        "queue.max_waiting",
        Integer(0, 10000000),
        0,
        "Maximum number of waiting messages. With more, new mail is refused for the time being; 0 is no limit.",
        restart=True,
    ),
    Option("pop3", Object(), {}, "Fetching mail by POP3.", restart=True),
    Option("pop3.exact_sizes", BOOLEAN, False, "Fetch every message at login to report its exact size. This is slow."),
    Option(
        "pop3.read_ahead_mb", Integer(0, 1024, "MB"), 32, "MB of the next messages to fetch in advance; 0 fetches none."
    ),
    Option(
        "pop3.max_messages", Integer(0, 1000000), 0, "Maximum number of messages shown, the newest ones; 0 shows all."
    ),
    Option(
        "limits", Object(), {}, "Limits. Those for each client do not apply to loopback and to proxy_protocol_from."
    ),
    Option(
        "limits.nodes",
        Integer(1, 16),
        1,
        "Number of gateways that use the same mailboxes at the same time. Each takes its share of what Exchange "
        "allows a mailbox.",
        restart=True,
    ),
    Option("limits.connections", Integer(1, 10000), 500, "Maximum number of connections at a time.", restart=True),
    Option(
        "limits.connections_per_client",
        Integer(1, 10000),
        100,
        "Maximum number of connections at a time from one address.",
        restart=True,
    ),
    Option("limits.errors", Integer(1, 1000), 10, "Number of errors after which a session is ended."),
    Option("limits.recipients", Integer(1, 1000), 500, "Maximum number of recipients of a message."),
    Option("limits.command_seconds", Number(1, 3600, "seconds"), 300, "Seconds to wait for a command."),
    Option(
        "limits.data_seconds", Number(1, 86400, "seconds"), 600, "Seconds for a message, plus one for each 8 KiB of it."
    ),
    Option("limits.session_seconds", Number(1, 86400, "seconds"), 3600, "Maximum length of a session in seconds."),
    Option(
        "limits.auth_failures",
        Integer(1, 1000),
        10,
        "Failed logins with one user name from one address after which this pair is blocked. Five times as "
        "many block the address.",
        restart=True,
    ),
    Option(
        "limits.auth_block_minutes",
        Number(0, 1440, "minutes"),
        10,
        "Length of the block in minutes; 0 never blocks. A user name that logged in from the same address "
        "within 24 hours is never blocked.",
        restart=True,
    ),
    Option(
        "receivers",
        Integer(0, 16),
        None,
        "Number of processes that receive mail; 0 is none. If not given: as many as processors, at most 4.",
        restart=True,
    ),
    Option("notify", ADDRESS, None, "Address for warnings and reports."),
    Option(
        "notify_url",
        NoticeUrl(),
        None,
        "URL to which warnings are posted as JSON, such as that of a topic of ntfy or of a webhook. {status} and "
        "{title} in it are replaced.",
    ),
    Option(
        "notify_command",
        ListOf(SECRET, least=1),
        None,
        "Program to run for warnings, and its arguments. It gets the text on its standard input.",
    ),
    Option(
        "status_port",
        PORT,
        None,
        "Port for the status page, health and metrics over HTTP: on this machine only or, with a certificate and "
        "status_password, over HTTPS on the addresses of bind.",
        restart=True,
    ),
    Option("status_password", StatusPassword(), None, "Password of the status page.", needs=("status_port",)),
    Option("logging", Object(), {}, "The log.", restart=True),
    Option(
        "logging.level",
        Choice("DEBUG", "INFO", "WARNING", "ERROR"),
        "INFO",
        "Least important messages to log: DEBUG, INFO, WARNING or ERROR.",
    ),
    Option("logging.file", Path(), None, "File for the log. If not given: standard error."),
    Option("logging.syslog", BOOLEAN, False, "Send the log to syslog too."),
    Option(
        "logging.events_mb",
        Integer(0, 10_000, "MB"),
        16,
        "Size of the event log, a line of JSON for each step of each message, in events/ of the state directory. "
        "0: none.",
    ),
    Option(
        "state_dir",
        Path(),
        None,
        "Directory of the queue and the sign-in. If not given: $STATE_DIRECTORY or ~/.m365proxy. A service "
        "needs it, or commands use another directory.",
        example="/var/lib/m365proxy",
        restart=True,
    ),
)


def keys_of(section: str) -> list[Option]:
    """The options of one section, in the table's order."""
    return [option for option in OPTIONS if option.section == section]
