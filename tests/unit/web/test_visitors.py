"""Who is cut when the house is full."""

import pytest
from server_harness import client_of

from m365proxy.web import visitors as module
from m365proxy.web.visitors import Visitors


class Wire:
    peer = "127.0.0.1"
    is_cut = False

    def cut(self):
        self.is_cut = True


def client(wire):
    made = client_of(wire.peer)
    made.connection = wire
    return made


@pytest.fixture
def full(monkeypatch):
    """Visitors among whom three are comfortable, with three clients."""
    monkeypatch.setattr(module, "_COMFORTABLE", 3)
    monkeypatch.setattr(module, "_MOST", 5)
    visitors = Visitors()
    clients = [client(Wire()) for _ in range(3)]
    assert [visitors.enter(one) for one in clients] == [""] * 3
    return visitors, clients


def cut(clients):
    return [one.connection.is_cut for one in clients]


def test_the_one_that_is_waited_for_longest_makes_room(full):
    visitors, clients = full
    clients.append(client(Wire()))
    assert visitors.enter(clients[3]) == ""
    assert cut(clients) == [True, False, False, False]


def test_one_that_sent_its_request_is_not_cut_and_then_is_the_last_in_the_line(full):
    visitors, clients = full
    visitors.attend_to(clients[0])
    visitors.enter(client(Wire()))
    assert cut(clients) == [False, True, False]
    visitors.leave(clients[1])
    visitors.wait_for(clients[0])
    visitors.enter(client(Wire()))
    assert cut(clients) == [False, True, True]


def test_who_has_left_is_not_cut_in_the_place_of_another(full):
    visitors, clients = full
    visitors.leave(clients[0])
    for _ in range(2):
        visitors.enter(client(Wire()))
    assert cut(clients) == [False, True, False]


def test_while_all_are_attended_to_nobody_is_cut_until_there_are_too_many(full):
    visitors, clients = full
    for _ in range(2):
        clients.append(client(Wire()))
        for one in clients[:-1]:
            visitors.attend_to(one)
        assert visitors.enter(clients[-1]) == ""
    assert cut(clients) == [False] * 5
    assert "5 clients" in visitors.enter(client(Wire()))
    visitors.leave(clients[0])
    assert visitors.enter(client(Wire())) == ""
