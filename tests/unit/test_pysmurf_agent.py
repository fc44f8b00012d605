"""The site that a PysmurfArchiverAgent makes of its options and environment; its numbers."""

from __future__ import annotations

from typing import Any

import pytest

from skystow.config import read
from skystow.config.pysmurf_agent import AgentOptions, agent_site
from skystow.errors import ConfigError
from skystow.service.account import Rates

ENVIRON = {"MYSQL_HOST": "db", "MYSQL_USER": "archiver", "MYSQL_PASSWORD": "p@ss:w/rd"}

SAME = """\
sources:
  - name: smurf
    kind: pysmurf_files
    table: {url: "mysql://archiver@db:3306/files", password_env: MYSQL_PASSWORD}
    targets: [pysmurf-monitor]
    host: data@smurf-srv
    root: /data/smurf_data
destinations:
  - {name: archive, kind: posix, root: /data/pysmurf}
"""


def options(**more: Any) -> AgentOptions:
    return AgentOptions(**({"data_dir": "/data/pysmurf", "targets": ["pysmurf-monitor"]} | more))


def refusal(environ: dict[str, str], **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        agent_site(options(**more), environ)
    assert "p@ss" not in str(caught.value)
    return "; ".join((str(caught.value), *caught.value.problems))


def test_it_is_what_a_site_file_would_say() -> None:
    assert agent_site(options(host="data@smurf-srv"), ENVIRON) == read(SAME, directory="/")
    assert agent_site(options(host="smurf-srv", user="data"), ENVIRON) == read(SAME, directory="/")
    local = read(SAME.replace("    host: data@smurf-srv\n", ""), directory="/")
    assert agent_site(options(), ENVIRON) == local


def test_the_database_and_whoever_asks_it() -> None:
    environ = ENVIRON | {"MYSQL_DATABASE": "smurf", "MYSQL_PORT": "3307", "MYSQL_USER": "a@b/c"}
    (source,) = agent_site(options(), environ).sources
    assert source.kind == "pysmurf_files"
    assert source.table.url == "mysql://a%40b%2Fc@db:3307/smurf"


@pytest.mark.parametrize("name", ENVIRON)
def test_a_variable_that_is_missing_or_empty_is_named(name: str) -> None:
    without = {key: value for key, value in ENVIRON.items() if key != name}
    assert name in refusal(without)
    assert name in refusal(ENVIRON | {name: ""})


def test_what_cannot_be_meant_is_named_by_its_option() -> None:
    assert "MYSQL_PORT is no port" in refusal(ENVIRON | {"MYSQL_PORT": "mysql"})
    assert "MYSQL_HOST is no host's name" in refusal(ENVIRON | {"MYSQL_HOST": "db/files"})
    assert "--data-dir is missing" in refusal(ENVIRON, data_dir=None)
    assert "--target is missing" in refusal(ENVIRON, targets=[])
    assert "--target:" in refusal(ENVIRON, targets=["x" * 33])
    assert "--user is nobody's" in refusal(ENVIRON, user="data")
    assert "--host and --user:" in refusal(ENVIRON, host="-oProxyCommand=x")
    assert "--smurf-root:" in refusal(ENVIRON, smurf_root="/data")  # holds the archive
    assert "--smurf-root:" in refusal(ENVIRON, smurf_root="here", host="smurf-srv")


def test_rates_are_of_late() -> None:
    rates = Rates(window=10)
    assert rates.look(0, 0, 0) == (0.0, 0.0)
    assert rates.look(5, 50, 500) == (10.0, 100.0)
    assert rates.look(25, 50, 500) == (0.0, 0.0)
    assert rates.look(26, 3, 30) == (0.0, 0.0), "a sum that fell begins anew"
    assert rates.look(27, 5, 40) == (2.0, 10.0)
