"""Remote ends as they are written, and hosts that are refused."""

from __future__ import annotations

import pytest

from skystow.errors import ConfigError
from skystow.model.remote import RemoteHost, is_remote, remote_end


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "a b", "", "a\nb", "a@b", "h/x"])
def test_a_host_that_ssh_could_misread(host: str) -> None:
    with pytest.raises(ConfigError):
        RemoteHost(host)
    with pytest.raises(ConfigError):
        RemoteHost("fine", user=host)


def test_ends_are_told_apart() -> None:
    assert remote_end("me@far:/data/a:b") == (RemoteHost("far", user="me"), "/data/a:b")
    assert remote_end("[::1]:/x") == (RemoteHost("::1"), "/x")
    assert remote_end("far:") == (RemoteHost("far"), ".")
    assert not any(map(is_remote, ("/a:b", "./a:b", "a/b:c", "plain", "a/me@far:/x")))
    with pytest.raises(ConfigError):
        remote_end("-oProxyCommand=x:/y")
