"""The words of the messages between the main process and a receiver, and their values."""

from __future__ import annotations

from ..system.choices import Word


class Task(Word):
    """What the main process says."""

    SERVE = "serve"  # a client, whose socket comes with it: the listener's index, its address, the port, proxy or not
    RELOAD = "reload"  # the config: its path, and each octet of the file as a character
    ADMIT = "admit"  # a one-time password: its digest
    WATCH = "watch"  # what clients do: for so many seconds
    CLIENT_HELLO = "client hello"  # an address that begins TLS at once
    WAITING = "waiting"  # how many messages wait
    SHUT = "shut"  # let nobody in: why, and the protocol whose waiting sessions end; "" ends it
    LOOK = "look"  # after memory that can be given back
    STOP = "stop"  # end all sessions within so many seconds


class Report(Word):
    """What a receiver says."""

    READY = "ready"  # its pid
    RECORD = "record"  # of the log: see records.py
    QUEUED = "queued"  # a message's id
    SESSION = "session"  # one has begun: its service, the client's address
    LEFT = "left"  # a client's connection has ended: the address it came from
    TURNED_AWAY = "turned away"  # a client: the service
    REFUSAL = "refusal"  # a reply's code and enhanced code
    QUIRK = "quirk"  # a client's address, what it does, the level of its line, the habit
    CLIENT_HELLO = "client hello"  # an address that begins TLS at once
    RELOADED = "reloaded"  # after Task.RELOAD
    STOPPED = "stopped"  # after Task.STOP: how many connections were cut
