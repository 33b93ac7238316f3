"""What a proxy states about a client is believed only from as many proxies as the setting names."""

import pytest
from flask import request

CLAIMED = {"X-Forwarded-For": "1.1.1.1, 2.2.2.2, 3.3.3.3", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.org"}


@pytest.mark.parametrize(
    ("proxies", "address", "scheme"),
    [("0", "127.0.0.1", "http"), ("1", "3.3.3.3", "https"), ("2", "2.2.2.2", "http")],
)
def test_only_the_named_number_of_proxies_is_believed(make_app, proxies, address, scheme):
    app = make_app(TRUSTED_PROXIES=proxies)
    app.add_url_rule("/seen", view_func=lambda: [request.remote_addr, request.scheme, request.host])
    assert app.test_client().get("/seen", headers=CLAIMED).json == [address, scheme, "localhost"]


def test_the_cookie_is_for_https_alone_if_the_proxy_states_https(make_app):
    cookies = [make_app(TRUSTED_PROXIES=n).test_client().get("/", headers=CLAIMED).headers["Set-Cookie"] for n in "01"]
    assert ["Secure" in cookie for cookie in cookies] == [False, True]
