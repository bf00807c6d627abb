"""What is checked: the ways to Microsoft that a config and the environment give."""

from cases import each

from m365proxy.admin.check.subject import Subject, Way


@each(
    "proxy, host, port, is_encrypted",
    [
        ("", "graph.microsoft.com", 443, False),
        ("http://proxy.contoso.com:3128", "proxy.contoso.com", 3128, False),
        ("http://user:word@proxy.contoso.com", "proxy.contoso.com", 80, False),
        ("https://proxy.contoso.com", "proxy.contoso.com", 443, True),
    ],
)
def test_the_first_host_on_the_way(proxy, host, port, is_encrypted):
    way = Way("graph.microsoft.com", 443, proxy)
    assert (way.next_host, way.next_port, way.is_encrypted) == (host, port, is_encrypted)


def test_ways_to_the_sign_in_and_to_graph(config, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    hosts = ["login.microsoftonline.com", "graph.microsoft.com"]
    assert Subject(config).ways() == [Way(host, 443, "") for host in hosts]
    monkeypatch.setenv("HTTPS_PROXY", "proxy.contoso.com:3128")
    monkeypatch.setenv("NO_PROXY", "graph.microsoft.com")
    proxies = ["http://proxy.contoso.com:3128", ""]
    assert Subject(config).ways() == [Way(host, 443, proxy) for host, proxy in zip(hosts, proxies)]
