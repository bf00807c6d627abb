def test_livez(talk):
    assert talk().ask("/livez")[::2] == (200, "ok\n")
