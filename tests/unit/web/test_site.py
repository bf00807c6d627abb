def test_a_method_that_is_not_for_reading(talk):
    status, header, _ = talk().ask("/livez", method="DELETE")
    assert (status, header["Allow"]) == (405, "GET, HEAD")
