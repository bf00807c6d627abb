import threading

import pytest
from waiting import PATIENCE

from m365proxy.server.sessionthreads import SessionThreads


class Client:
    """What a thread serves: it notes who does it, and lasts until it is told to end."""

    def __init__(self):
        self.begun, self.over = threading.Event(), threading.Event()

    def serve(self):
        self.thread, self.name = threading.current_thread(), threading.current_thread().name
        self.begun.set()
        assert self.over.wait(PATIENCE)


@pytest.fixture
def made(wait_until):
    """made(...) -> SessionThreads, closed after the test; no thread is left."""
    before, all_made = set(threading.enumerate()), []

    def make(**more):
        all_made.append(SessionThreads("smtp", **more))
        return all_made[-1]

    yield make
    for one in all_made:
        one.close()
    wait_until(lambda: set(threading.enumerate()) <= before, what="the end of the threads")


def serve(threads, name="smtp 192.0.2.1"):
    client = Client()
    threads.start(name, client.serve)
    assert client.begun.wait(PATIENCE)
    return client


def end(*clients):
    for client in clients:
        client.over.set()


def waiting(threads):
    return len(threads._waiting)


def test_one_thread_serves_one_client_after_another(made, wait_until):
    threads = made(seconds=PATIENCE)
    served = []
    for number in range(5):
        served.append(serve(threads, f"smtp 192.0.2.{number}"))
        end(served[-1])
        wait_until(lambda: waiting(threads) == 1)
    assert len({client.thread for client in served}) == 1
    assert [client.name for client in served] == [f"smtp 192.0.2.{number}" for number in range(5)]
    assert served[0].thread.name == "waiting smtp"
    assert served[0].thread.daemon


def test_clients_at_once_have_a_thread_each(made, wait_until):
    threads = made(seconds=PATIENCE)
    first = [serve(threads) for _ in range(3)]
    assert len({client.thread for client in first}) == 3
    end(*first)
    wait_until(lambda: waiting(threads) == 3)
    second = [serve(threads) for _ in range(3)]
    assert {client.thread for client in second} == {client.thread for client in first}
    end(*second)


def test_no_more_wait_than_may(made, wait_until):
    threads = made(waiting=2, seconds=PATIENCE)
    clients = [serve(threads) for _ in range(6)]
    end(*clients)
    wait_until(lambda: sum(client.thread.is_alive() for client in clients) == 2)
    assert waiting(threads) == 2


def test_a_thread_that_waits_in_vain_ends(made, wait_until):
    threads = made(seconds=0.01)
    client = serve(threads)
    end(client)
    wait_until(lambda: not client.thread.is_alive())
    assert waiting(threads) == 0
    end(serve(threads))


def test_a_thread_that_is_woken_in_its_last_moment_serves(made, monkeypatch):
    threads = made(seconds=0.01)
    second, chosen = Client(), threading.Event()

    def chosen_first(thread):
        """As if the accept thread had taken it just before."""
        threads._waiting.remove(thread)
        chosen.set()
        return False

    def wake():
        assert chosen.wait(PATIENCE)
        first.thread.wake("smtp 192.0.2.2", second.serve)

    monkeypatch.setattr(threads, "remove", chosen_first)
    first = serve(threads)
    waker = threading.Thread(target=wake)
    waker.start()
    end(first)
    assert second.begun.wait(PATIENCE)
    assert second.thread is first.thread
    monkeypatch.undo()
    end(second)
    waker.join()


def test_after_the_end_no_thread_waits(made, wait_until):
    threads = made(seconds=PATIENCE)
    idle, busy = serve(threads), serve(threads)
    end(idle)
    wait_until(lambda: waiting(threads) == 1)
    threads.close()
    wait_until(lambda: not idle.thread.is_alive())
    assert busy.thread.is_alive()
    end(busy)
    wait_until(lambda: not busy.thread.is_alive())


def test_no_thread_to_be_had(made, monkeypatch):
    threads = made()

    def start(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            threads.start("smtp 192.0.2.1", print)
    end(serve(threads))


def test_what_was_served_is_not_kept(made, wait_until):
    import weakref

    threads = made(seconds=PATIENCE)
    client = serve(threads)
    gone = weakref.ref(client)
    end(client)
    wait_until(lambda: waiting(threads) == 1)
    del client
    assert gone() is None
