"""The site file: what it may say, and every mistake told at once, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from skystow.config import Directory, HardLink, Posix, Remote, Site, load, nested, read
from skystow.config.document import parse
from skystow.errors import ConfigError
from skystow.model.layout import Layout
from skystow.model.remote import RemoteHost

LEAST = """\
sources:
  - name: instrument
    kind: directory
    root: incoming
destinations:
  - name: archive
    kind: posix
    root: /data/archive
"""

FULL = """\
ledger: sqlite:///state/ledger.db
archive: night
sources:
  - name: instrument
    kind: directory
    root: /data/incoming
    marker: .mounted
    layout: "{ctime5}/{file_type}/{file_name}"
    quiet_for: 500ms
    finished_on: close
    sweep_every: 1 min
    temporary: ["*.wip"]
    exclude: [scratch/]
    order: newest
    priority: -3
    to: [oods]
    retire: {after: 7d, keep: [cal]}
destinations:
  - name: archive
    kind: posix
    root: /data/archive
    digest: sha256
    streams: 4
    batch: {files: 10, size: 1 MiB}
    min_free: 12.5 %
    bwlimit: 50MB/s
    file_mode: 0440
    directory_mode: "2750"
    owner: 12
    group: staff
    sync: fsync
    required: no
  - name: oods
    kind: hardlink
    of: archive
    root: /data/oods
    owned: false
retry: {max_attempts: 3, first: 2s, factor: 1.5, most: 1h}
on_conflict: number
journal: notices.jsonl
"""


def problems(text: str, directory: str = "/site") -> tuple[str, ...]:
    with pytest.raises(ConfigError) as error:
        read(text, directory=directory)
    return error.value.problems


def with_source(line: str) -> str:
    return LEAST.replace("    root: incoming\n", f"    root: incoming\n    {line}\n")


def with_destination(line: str) -> str:
    return f"{LEAST}    {line}\n"


def test_the_least_that_a_site_must_say() -> None:
    site = read(LEAST, directory="/site")
    source, destination = site.sources[0], site.destinations[0]
    assert isinstance(destination, Posix)
    assert isinstance(source, Directory)
    assert (source.root, source.quiet_for, source.layout) == ("/site/incoming", 10.0, Layout("{relative_path}"))
    assert (destination.digest, destination.min_free, destination.file_mode) == ("blake3", 0.05, 0o444)
    assert (destination.directory_mode, destination.batch.files) == (0o2775, None)
    assert (site.archive, site.on_conflict, site.ledger, site.journal) == ("archive", "hold", None, None)


def test_everything_that_a_site_may_say() -> None:
    site = read(FULL, directory="/site")
    source, archive, oods = site.sources[0], site.destinations[0], site.destinations[1]
    assert site.ledger == "sqlite:////site/state/ledger.db"
    assert site.journal == "/site/notices.jsonl"
    assert isinstance(source, Directory)
    assert (source.quiet_for, source.sweep_every, source.temporary) == (0.5, 60.0, ("*.wip",))
    assert source.retire is not None
    assert (source.retire.after, source.retire.keep) == (604800.0, ("cal",))
    assert isinstance(archive, Posix)
    assert (archive.batch.size, archive.min_free, archive.bwlimit) == (2**20, 0.125, 50_000_000)
    assert (archive.file_mode, archive.directory_mode, archive.owner, archive.group) == (0o440, 0o2750, 12, "staff")
    assert archive.required is False
    assert isinstance(oods, HardLink)
    assert (oods.of, oods.owned) == ("archive", False)
    policy = site.retry.policy()
    assert (policy.max_attempts, policy.first, policy.factor, policy.most) == (3, 2.0, 1.5, 3600.0)


def test_a_handoff_brings_the_copy_that_it_links_from() -> None:
    site = read(FULL, directory="/site")
    assert [each.name for each in site.served(site.sources[0])] == ["archive", "oods"]
    plain = read(FULL.replace("    to: [oods]\n", "    to: [archive]\n"), directory="/site")
    assert [each.name for each in plain.served(plain.sources[0])] == ["archive"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("rooot: /x", "line 5: unknown key sources[0].rooot"),
        ("quite_for: 10", "line 5: unknown key sources[0].quite_for; did you mean 'quiet_for'?"),
        ("quiet_for: ten", "line 5: sources[0].quiet_for: should be a duration such as"),
        ("quiet_for: -1", "line 5: sources[0].quiet_for: should be a duration such as"),
        ("sweep_every: 0", "line 5: sources[0].sweep_every: should be greater than 0, not 0"),
        ("finished_on: moved", "line 5: sources[0].finished_on: should be 'quiet' or 'close', not 'moved'"),
        ('layout: "{relativ_path}"', "did you mean {relative_path}?"),
        ("layout: 7", "line 5: sources[0].layout: should be a template such as {relative_path}, not 7"),
        ("exclude: ['[a']", "line 5: sources[0].exclude[0]: pattern ‘[a’ has a ‘[’ without its ‘]’"),
        ("exclude: '*.tmp'", "line 5: sources[0].exclude: should be a list, not '*.tmp'"),
        ("priority: high", "line 5: sources[0].priority: should be a whole number, not 'high'"),
        ("to: [archve]", "line 5: to: no destination is called 'archve'; did you mean 'archive'?"),
        ("to: []", "line 5: sources[0].to:"),
        ("retire: {keep: [cal]}", "line 5: 'after' is missing in sources[0].retire"),
        ("retire: {aftre: 7d}", "line 5: unknown key sources[0].retire.aftre; did you mean 'after'?"),
        ("retire: 7d", "line 5: sources[0].retire: should be keys and values, not '7d'"),
        ("name: again", "line 5: 'name' is given twice; first in line 2"),
    ],
)
def test_a_mistake_in_a_source_is_told_with_its_line(line: str, told: str) -> None:
    found = problems(with_source(line))
    assert len(found) == 1
    assert told in found[0]
    assert found[0].startswith("line 5: ")


def test_every_pattern_that_is_wrong_is_told_with_its_own_line() -> None:
    found = problems(with_source("exclude:\n      - '[a'\n      - good\n      - ''"))
    assert [line.split(": pattern ")[0] for line in found] == [
        "line 6: sources[0].exclude[0]",
        "line 8: sources[0].exclude[2]",
    ]
    assert not any("not a list" in line for line in found)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("digest: sha1", "destinations[0].digest: should be 'blake3', 'sha256', 'xxh128' or 'md5', not 'sha1'"),
        ("streams: '2'", "destinations[0].streams: should be a whole number, not '2'"),
        ("streams: 0", "destinations[0].streams: should be at least 1, not 0"),
        ("min_free: 5", "destinations[0].min_free: should be a percentage such as 5 %, below 100 %, not 5"),
        ("file_mode: 0999", "destinations[0].file_mode: should be an octal mode in quotes"),
        ("file_mode: 444", "destinations[0].file_mode: should be an octal mode in quotes"),
        ("required: 1", "destinations[0].required: should be true or false, not 1"),
        ("bwlimit: 0", "destinations[0].bwlimit: should be a size per second"),
        ("batch: {files: 9000}", "destinations[0].batch.files: should be less than or equal to 5000, not 9000"),
        ("batch: {size: 10 potatoes}", "destinations[0].batch.size: should be a size such as"),
        ("of: archive", "unknown key destinations[0].of"),
    ],
)
def test_a_mistake_in_a_destination_is_told_with_its_line(line: str, told: str) -> None:
    found = problems(with_destination(line))
    assert len(found) == 1
    assert found[0].startswith("line 9: ")
    assert told in found[0]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("kind: posix", "kind: possix", "line 7: destinations[0].kind: 'possix' is not known; did you mean 'posix'?"),
        ("    kind: posix\n", "", "line 6: 'kind' is missing in destinations[0]: posix, remote or hardlink"),
        ("    kind: directory\n", "", "line 2: 'kind' is missing in sources[0]"),
        ("name: archive", "name: two words", "line 6: destinations[0].name: should be letters"),
        ("name: archive", "name: instrument", "line 6: name 'instrument' is taken by another source"),
        ("name: archive", "name: 2024-01-01\n    typo: 1", "line 7: unknown key destinations[0].typo"),
        ("root: /data/archive", "root: ''", "line 8: destinations[0].root"),
        ("root: incoming", "root: /data/archive/in", "line 4: source root /data/archive/in lies inside destination"),
        ("root: incoming", "root: /data", "line 4: source root /data contains destination 'archive'"),
        ("root: incoming", "root: /data/archive/", "is the same directory as destination 'archive'"),
        ("sources:", "sorces:", "line 1: unknown key sorces; did you mean 'sources'?"),
        ("sources:", "ledger: /var/ledger.db\nsources:", "line 1: ledger: should be a database URL such as"),
    ],
)
def test_what_does_not_fit_together_is_told_with_its_line(old: str, new: str, told: str) -> None:
    found = problems(LEAST.replace(old, new))
    assert len(found) == 1
    assert told in found[0]


SERVER = """\
ledger:
  url: mysql://skystow@db.example/ledger?connect_timeout=5
  password_file: secret/password
  tls: {ca: /etc/ssl/site.pem, cert: client.pem, key: client.key}
"""


def test_a_ledger_on_a_server() -> None:
    site = read(SERVER + LEAST, directory="/site")
    assert site.ledger_url == (
        "mysql://skystow@db.example/ledger?connect_timeout=5&password_file=%2Fsite%2Fsecret%2Fpassword"
        "&tls_ca=%2Fetc%2Fssl%2Fsite.pem&tls_cert=%2Fsite%2Fclient.pem&tls_key=%2Fsite%2Fclient.key"
    )
    assert read("ledger: {url: postgresql://u@h/db}\n" + LEAST, directory="/").ledger_url == "postgresql://u@h/db"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("{url: 'mysql://u@h/db', pasword_file: x}", "unknown key ledger.pasword_file; did you mean 'password_file'?"),
        ("{password_env: A}", "'url' is missing in ledger"),
        ("{url: 'sqlite:///ledger.db'}", "ledger.url: should be a server's URL such as mysql://"),
        ("{url: 'mysql:/u:pa55word@h/db'}", "ledger.url: should be a server's URL such as mysql://"),
        ("'mysql:/u:pa55word@h/db'", "ledger: should be a database URL such as"),
        ("{url: 'mysql://u@h/db', password_env: pa55-word}", "ledger.password_env: should be letters"),
        ("{url: 'mysql://u@h/db', tls: {}}", "'ca' is missing in ledger.tls"),
    ],
)
def test_what_is_wrong_with_a_ledger_is_told_without_its_password(written: str, told: str) -> None:
    (found,) = problems(f"ledger: {written}\n{LEAST}")
    assert told in found
    assert "pa55" not in found


def test_places_are_compared_where_they_really_are(tmp_path: Path) -> None:
    (tmp_path / "archive" / "in").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "archive" / "in")
    text = LEAST.replace("incoming", "link").replace("/data/archive", "archive")
    assert "lies inside destination 'archive'" in problems(text, str(tmp_path))[0]
    assert nested(str(tmp_path / "archive"), str(tmp_path / "archive2")) == ""
    assert nested("/", str(tmp_path)) == "contains"


def test_two_destinations_do_not_share_a_root() -> None:
    second = "  - {name: other, kind: posix, root: /data/archive}\n"
    assert problems(LEAST + second) == ("line 9: root /data/archive is the root of destination 'archive' too",)


@pytest.mark.parametrize(("of", "told"), [("archiv", "did you mean 'archive'?"), ("oods", "is itself a hardlink")])
def test_a_handoff_links_from_a_posix_destination(of: str, told: str) -> None:
    (found,) = problems(LEAST + f"  - {{name: oods, kind: hardlink, root: /data/oods, of: {of}}}\n")
    assert found.startswith("line 9: of: ")
    assert told in found


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = """\
archve: x
sources:
  - name: in strument
    kind: directory
    rooot: /data/incoming
    to: [nowhere]
destinations:
  - name: archive
    kind: posix
    root: /data/archive
    file_mode: 0999
  - name: oods
    kind: hardlink
    of: archiv
    root: /data/archive
    owned: 1
retry: {max_attempts: 0, first: a fortnight}
retry: {}
"""
    found = problems(text.replace("retry: {}\n", ""))
    assert [line.split(":")[0] for line in found] == [f"line {n}" for n in (1, 3, 5, 6, 11, 14, 15, 16, 17, 17)]
    assert not any("'root' is missing" in line for line in found), "a misspelt key is not missing too"
    assert any("'retry' is given twice; first in line 17" in line for line in problems(text))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the file is empty"),
        ("just words", "line 1: should be keys and values"),
        ("- a\n- b\n", "line 1: should be keys and values"),
        ("sources: [\n", "not YAML"),
        ("a: b: c\n", "line 1: not YAML"),
        ("sources: []\ndestinations: []\n", "line 1: sources: there should be at least one"),
        ("sources: yes\ndestinations: 7\n", "line 1: sources: should be a list, not True"),
        ("a: &a [*a]\n", "an alias that contains itself"),
        ("a: !!python/object/apply:os.system [id]\n", "not YAML that a site file may hold"),
        ("a: !!int four\n", "'four'"),
        ("a: \x00\n", "not a text file in UTF-8"),
        ("[" * 5000, "nested without end"),
    ],
)
def test_what_is_no_site_file_is_told(text: str, told: str) -> None:
    assert any(told in line for line in problems(text))


def test_bytes_that_are_no_text_are_told() -> None:
    with pytest.raises(ConfigError) as error:
        read(b"name: \xff\xfe\n", directory="/")
    assert "not a text file in UTF-8" in error.value.problems[0]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the site file .*: No such file"):
        load(str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match=r"is a directory; this command wants a site file"):
        load(str(tmp_path))


def test_the_error_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("typo: 1\n")
    with pytest.raises(ConfigError, match=r"my\.yaml: 3 errors"):
        load(str(tmp_path / "my.yaml"))


def test_defaults_may_be_shared_by_alias_and_merge() -> None:
    site = read(
        """\
sources:
  - &usual {name: a, kind: directory, root: a, quiet_for: 3}
  - {<<: *usual, name: b, root: b}
destinations:
  - {name: archive, kind: posix, root: /data/archive}
""",
        directory="/site",
    )
    assert [(e.name, e.root, e.quiet_for) for e in site.sources if isinstance(e, Directory)] == [
        ("a", "/site/a", 3.0),
        ("b", "/site/b", 3.0),
    ]


def test_yaml_means_what_a_person_means() -> None:
    assert parse("a: 0444\nb: 10:30\nc: 2024-01-01\nd: 12\ne: 1.5\n").value == {
        "a": "0444",
        "b": "10:30",
        "c": "2024-01-01",
        "d": 12,
        "e": 1.5,
    }


def test_a_site_cannot_be_changed() -> None:
    site: Site = read(LEAST, directory="/")
    with pytest.raises(ValueError, match="frozen"):
        setattr(site, "archive", "other")  # noqa: B010


FAR = """
sources:
  - {name: smurf, kind: directory, host: data@smurf-srv, root: /data}
destinations:
  - {name: archive, kind: posix, root: /archive}
  - {name: vault, kind: remote, host: {name: vault, port: 2222, timeout: 5 s}, root: /srv, of: archive}
"""


def test_remote_places() -> None:
    site = read(FAR, directory="/")
    assert isinstance(site.sources[0], Directory)
    assert site.sources[0].host is not None
    assert site.sources[0].host.remote() == RemoteHost("smurf-srv", user="data")
    archive, vault = site.destinations
    assert (archive.upstream, vault.upstream) == (None, "archive")
    assert isinstance(vault, Remote)
    assert vault.host.remote() == RemoteHost("vault", port=2222, timeout=5.0)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("data@smurf-srv", "-oProxyCommand=x", "'-oProxyCommand=x' is no host name"),
        ("data@smurf-srv", "'a b'", "'a b' is no host name"),
        ("root: /data", "root: data", "root: data is on another host"),
        ("root: /srv", "root: srv", "root: srv is on another host"),
        (", of: archive", "", "from one host to another ('vault') nothing is carried"),
        ("of: archive", "of: vault", "'vault' is itself a remote"),
        ("port: 2222", "port: 0", "port: should be at least 1, not 0"),
        ("host: {name: vault, port: 2222, timeout: 5 s}, ", "", "'host' is missing in destinations[1]"),
        ("timeout:", "timout:", "unknown key destinations[1].host.timout; did you mean 'timeout'?"),
    ],
)
def test_remote_places_that_make_no_sense(old: str, new: str, told: str) -> None:
    assert any(told in problem for problem in problems(FAR.replace(old, new)))
