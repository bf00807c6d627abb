"""The status port of the running program."""

import http.client


def ask(program, path):
    """(status, text) of a path."""
    connection = http.client.HTTPConnection("127.0.0.1", program.port("status"), timeout=20)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_it_is_named_in_the_log_and_answers(make_program):
    program = make_program(status_port=0).sign_in().start()
    assert f"status 127.0.0.1:{program.port('status')}" in program.said()
    assert ask(program, "/livez") == (200, "ok\n")
    assert program.stop() == 0
