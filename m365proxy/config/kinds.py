"""Kinds of values that several options have, and what stands for a value in examples."""

from __future__ import annotations

from ..system.choices import Service
from .types import NETWORK, BindAddress, Boolean, Choice, ListOf, Port, SecretText, Text, Url, WordOf

TEXT, SECRET, BOOLEAN, PORT = Text(), SecretText(), Boolean(), Port()
BIND, NETWORKS = ListOf(BindAddress(), least=1), ListOf(NETWORK)
HTTPS, SERVICES = Url("https"), ListOf(WordOf(Service), least=1)
TLS_VERSION = Choice("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
NIL, HASH = "00000000-0000-0000-0000-000000000000", "scrypt$16384$8$1$..."
