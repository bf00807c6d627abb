"""The sockets to open, from the keys *_port and from listeners."""

from cases import each
from configs import CERT, MINIMAL, sockets


@each(
    "settings_, expected",
    [
        ({}, [("smtp", "127.0.0.1", 2525, "none")]),
        ({"pop3_port": 1110}, [("smtp", "127.0.0.1", 2525, "none"), ("pop3", "127.0.0.1", 1110, "none")]),
        (
            {**CERT, "bind": ["127.0.0.1", "::1"]},
            [("smtp", "127.0.0.1", 2525, "starttls"), ("smtp", "::1", 2525, "starttls")],
        ),
        (
            {**CERT, "smtp_port": 25, "smtps_port": 465, "pop3_port": 110, "pop3s_port": 995},
            [
                ("smtp", "127.0.0.1", 25, "starttls"),
                ("smtp", "127.0.0.1", 465, "implicit"),
                ("pop3", "127.0.0.1", 110, "starttls"),
                ("pop3", "127.0.0.1", 995, "implicit"),
            ],
        ),
        ({"listeners": [{"protocol": "pop3", "port": 0}]}, [("pop3", "127.0.0.1", 0, "none")]),
        (
            {"smtp_port": 25, "listeners": [{"protocol": "pop3", "port": 110}]},
            [("smtp", "127.0.0.1", 25, "none"), ("pop3", "127.0.0.1", 110, "none")],
        ),
        (
            {**CERT, "listeners": [{"protocol": "smtp", "bind": ["::1", "127.0.0.1"], "port": 25, "tls": "none"}]},
            [("smtp", "::1", 25, "none"), ("smtp", "127.0.0.1", 25, "none")],
        ),
        # the same port for two addresses, and any free port twice, are no conflict
        (
            {"smtp_port": 0, "pop3_port": 0, "bind": "0.0.0.0"},
            [("smtp", "0.0.0.0", 0, "none"), ("pop3", "0.0.0.0", 0, "none")],
        ),
        (
            {"smtp_port": 25, "bind": "0.0.0.0", "listeners": [{"protocol": "pop3", "port": 25, "bind": "::"}]},
            [("smtp", "0.0.0.0", 25, "none"), ("pop3", "::", 25, "none")],
        ),
    ],
)
def test_listeners(load, settings_, expected):
    assert sockets(load({**MINIMAL, **settings_})) == expected


def test_listeners_take_over_the_tls_section(load):
    loaded = load(
        {
            **MINIMAL,
            "tls": {"tls_cert": "auto", "min_version": "TLSv1.3", "required": True},
            "smtp_port": 1,
            "listeners": [
                {"protocol": "smtp", "port": 2},
                {"protocol": "smtp", "port": 3, "min_version": "TLSv1", "required": False, "lf_only_clients": True},
                {"protocol": "smtp", "port": 4, "tls": "none"},
            ],
        }
    )
    assert [(item.key, item.min_version, item.required, item.lf_only_clients) for item in loaded.sockets] == [
        ("smtp_port", "TLSv1.3", True, False),
        ("listeners[0]", "TLSv1.3", True, False),
        ("listeners[1]", "TLSv1", False, True),
        ("listeners[2]", "TLSv1.3", False, False),
    ]
