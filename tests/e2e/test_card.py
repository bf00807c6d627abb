"""The device card as the program prints it."""


def test_a_card_on_a_narrow_terminal_without_unicode(make_program):
    program = make_program()
    done = program.command("card", "alerts@contoso.com", COLUMNS="40", LC_ALL="C", PYTHONUTF8="0")
    assert done.returncode == 0 and done.stderr == ""
    assert "STARTTLS" in done.stdout and "alerts@contoso.com" in done.stdout and done.stdout.isascii()
    assert max(map(len, done.stdout.splitlines())) <= 40


def test_a_login_that_is_not_there(make_program):
    done = make_program().command("card", "alert@contoso.com")
    assert done.returncode == 64 and done.stdout == ""
    assert "Did you mean alerts@contoso.com?" in done.stderr and "Traceback" not in done.stderr
