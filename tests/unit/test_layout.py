"""Layouts and patterns: what is refused when they are built, what they make of a file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skystow.errors import BadName, ConfigError
from skystow.model.layout import FIELDS, Attributes, Layout, file_type, stem_and_suffix
from skystow.model.patterns import TEMPORARY, Patterns
from skystow.model.records import path_bytes, path_text


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


def path_of(template: str, relative: str, mtime_ns: int = 0, extra: Mapping[str, str] | None = None) -> str:
    extra = extra or {}
    return str(Layout(template, extra).path(Attributes(PurePosixPath(relative), mtime_ns, extra)))


class TestFields:
    @pytest.mark.parametrize(
        ("name", "stem", "kind"),
        [
            ("a.fits", "a", "fits"),
            ("a.tar.gz", "a.tar", "gz"),
            ("README", "README", "none"),
            (".profile", ".profile", "none"),
            ("..profile", "..profile", "none"),
            (".profile.bak", ".profile", "bak"),
            ("name.", "name.", "none"),
            ("a..gz", "a.", "gz"),
            ("A.FITS", "A", "FITS"),
            ("...", "...", "none"),
        ],
    )
    def test_stem_and_file_type(self, name: str, stem: str, kind: str) -> None:
        assert path_of("{stem}", name) == stem
        assert path_of("{file_type}/{file_name}", name) == f"{kind}/{name}"
        assert file_type(PurePosixPath("d.x") / name) == kind

    @pytest.mark.parametrize(
        ("mtime", "ctime5"),
        [
            (1_564_799_250 * 10**9, "15647"),
            (1_564_799_999 * 10**9 + 999_999_999, "15647"),
            (1_564_800_000 * 10**9, "15648"),
            (0, "00000"),
            (99_999 * 10**9, "00000"),
            (-1, "-0001"),
            (seconds("2106-02-07T06:28:16"), "42949"),
            (seconds("2400-01-01T00:00:00"), "135694"),
        ],
    )
    def test_ctime5(self, mtime: int, ctime5: str) -> None:
        assert path_of("{ctime5}/{file_type}/{file_name}", "1_b.txt", mtime) == f"{ctime5}/txt/1_b.txt"

    def test_the_smurf_path_of_the_originals_documentation(self) -> None:
        made = path_of("{ctime5}/{file_type}/{file_name}", "out/1564799250_tuning_b1.txt", 1_564_799_250 * 10**9)
        assert made == "15647/txt/1564799250_tuning_b1.txt"

    @pytest.mark.parametrize(
        ("at", "date", "day_obs"),
        [
            ("2024-03-01T11:59:59", "20240301", "20240229"),
            ("2024-03-01T12:00:00", "20240301", "20240301"),
            ("2025-01-01T03:00:00", "20250101", "20241231"),
            ("1969-12-31T23:59:59", "19691231", "19691231"),
            ("2106-02-07T06:28:16", "21060207", "21060206"),
            ("0999-05-06T00:00:00", "09990506", "09990505"),
        ],
    )
    def test_days(self, at: str, date: str, day_obs: str) -> None:
        mtime = seconds(at)
        assert path_of("{date}/{stem}", "a", mtime) == f"{date}/a"
        assert path_of("{year}{month}{day}/{stem}", "a", mtime) == f"{date}/a"
        assert path_of("{day_obs}/{stem}", "a", mtime) == f"{day_obs}/a"
        assert path_of("{hour}/{stem}", "a", mtime) == f"{at[11:13]}/a"

    def test_years_that_datetime_cannot_hold(self) -> None:
        assert path_of("{date}/{stem}", "a", seconds("2000-02-29T00:00:00") + 80 * 146_097 * 86_400 * 10**9) == (
            "340000229/a"
        )
        assert path_of("{year}/{stem}", "a", -(10**22)) == "-314918/a"

    def test_the_tree_of_the_source(self) -> None:
        assert path_of("{relative_path}", "a/b/c.fits") == "a/b/c.fits"
        assert path_of("x/{relative_path}", "a/b/c.fits") == "x/a/b/c.fits"
        assert path_of("x/{relative_dir}/y/{file_name}", "a/b/c.fits") == "x/a/b/y/c.fits"
        assert path_of("x/{relative_dir}/{file_name}", "c.fits") == "x/c.fits"

    def test_literals_and_braces(self) -> None:
        assert path_of("{{{stem}}}-{file_type}/n {file_name}", "a.b") == "{a}-b/n a.b"

    def test_fields_of_the_source(self) -> None:
        extra = {"pub_id": "crate1", "action": "tune"}
        assert path_of("{pub_id}/{action}/{file_name}", "a.txt", extra=extra) == "crate1/tune/a.txt"

    def test_every_field_has_a_meaning_and_a_value(self) -> None:
        for name, (_, meaning) in FIELDS.items():
            assert meaning
            assert path_of(f"{{{name}}}/{{relative_path}}", "d/a.fits", 10**18).endswith("/d/a.fits")


class TestRefusedWhenBuilt:
    @pytest.mark.parametrize(
        ("template", "what", "remedy"),
        [
            ("{relativ_path}", "unknown field ‘relativ_path’", "did you mean {relative_path}?"),
            ("{nonsense}/{file_name}", "unknown field ‘nonsense’", "there are {relative_path}, "),
            ("{pub_id}/{file_name}", "unknown field ‘pub_id’", "there are"),
            ("{}/{file_name}", "unknown field ‘’", "there are"),
            ("{0}/{file_name}", "unknown field ‘0’", "there are"),
            ("{stem.__class__}", "unknown field ‘stem.__class__’", "there are"),
            ("/data/{file_name}", "absolute", "relative to the destination"),
            ("data/../{file_name}", "‘.’ or ‘..’", "directory"),
            ("./{file_name}", "‘.’ or ‘..’", "directory"),
            ("data//{file_name}", "without a name", "slash"),
            ("{file_name}/", "without a name", "slash"),
            ("", "is empty", "{relative_path}"),
            ("data", "same name", "add {relative_path}"),
            ("{year}/{file_type}", "same name", "{file_name}"),
            ("{relative_dir}/{file_type}", "same name", "{stem}"),
            ("{file_name", "cannot be read", "{{"),
            ("a}/{file_name}", "cannot be read", "{{"),
            ("{file_name!r}", "formats the field", "alone"),
            ("{ctime5:>9}/{file_name}", "formats the field", "alone"),
            ("x{relative_path}", "joins {relative_path}", "alone between slashes"),
            ("{relative_dir}{file_name}", "joins {relative_dir}", "alone between slashes"),
            (".skystow/{file_name}", "ours", "another directory"),
            ("x" * 256 + "/{file_name}", "256 bytes", "another name"),
            ("a\0b/{file_name}", "NUL", "another name"),
        ],
    )
    def test_it(self, template: str, what: str, remedy: str) -> None:
        with pytest.raises(ConfigError) as caught:
            Layout(template)
        assert what in caught.value.message
        assert remedy in caught.value.remedy


class TestRefusedWhenUsed:
    @pytest.mark.parametrize(
        ("template", "relative", "extra"),
        [
            ("{relative_path}", "/etc/passwd", {}),
            ("{relative_path}", "../x", {}),
            ("{relative_path}", "a/../../x", {}),
            ("{relative_dir}/{file_name}", "../x", {}),
            ("{file_name}", "a/..", {}),
            ("{relative_path}", ".", {}),
            ("{relative_path}", "a/" + "n" * 256, {}),
            ("{relative_path}", "ü" * 128, {}),
            ("x{file_name}", "n" * 255, {}),
            ("{relative_path}", ".skystow/ledger.db", {}),
            ("{file_name}", "a/.skystow", {}),
            ("{relative_path}", "a\0b", {}),
            ("{relative_path}", "a\ud800", {}),
            ("{pub_id}/{file_name}", "a", {"pub_id": "b/c"}),
            ("{pub_id}/{file_name}", "a", {"pub_id": ".."}),
            ("{pub_id}/{file_name}", "a", {"pub_id": "."}),
            ("{pub_id}/{file_name}", "a", {"pub_id": ""}),
            ("x-{pub_id}/{file_name}", "a", {"pub_id": ""}),
            ("{pub_id}/{file_name}", "a", {"pub_id": "x" * 256}),
        ],
    )
    def test_it(self, template: str, relative: str, extra: dict[str, str]) -> None:
        with pytest.raises(BadName) as caught:
            path_of(template, relative, extra=extra)
        assert str(caught.value).isprintable()

    def test_a_field_that_the_source_does_not_know_of_this_file(self) -> None:
        with pytest.raises(BadName, match="empty"):
            Layout("{pub_id}/{stem}", ["pub_id"]).path(Attributes(PurePosixPath("a"), 0))

    def test_255_bytes_are_lawful(self) -> None:
        assert path_of("d/{relative_path}", "ü" * 127 + "x") == "d/" + "ü" * 127 + "x"


component = st.binary(min_size=1, max_size=80).filter(lambda b: b"/" not in b and b"\0" not in b)
relatives = st.lists(component, min_size=1, max_size=6).map(b"/".join).map(path_text)
pieces = st.sampled_from([*(f"{{{name}}}" for name in FIELDS), "raw", "x-", "..", "", ".", "/", "{{", "}}", "{pub_id}"])
templates = st.lists(st.lists(pieces, max_size=3).map("".join), min_size=1, max_size=4).map("/".join)
nanoseconds = st.integers(-(2**70), 2**70)


@given(templates, relatives | st.text(), nanoseconds, st.text())
def test_a_path_is_always_held_inside(template: str, relative: str, mtime: int, pub_id: str) -> None:
    try:
        layout = Layout(template, ["pub_id"])
        attributes = Attributes(PurePosixPath(relative), mtime, {"pub_id": pub_id})
        path = layout.path(attributes)
    except (ConfigError, BadName):
        return
    raw = path_bytes(path)
    assert raw == b"/".join(path_bytes(c) for c in path.parts)
    assert not raw.startswith(b"/")
    assert b"\0" not in raw
    assert all(0 < len(c) <= 255 and c not in (b".", b"..") for c in raw.split(b"/"))
    assert path.parts[0] != ".skystow"
    assert Layout(template, ["pub_id"]).path(attributes) == path
    assert Layout(template, ["pub_id"]) == layout


@given(relatives, nanoseconds)
def test_the_trees_own_path_is_kept_to_the_byte(relative: str, mtime: int) -> None:
    try:
        path = Layout("{relative_path}").path(Attributes(PurePosixPath(relative), mtime))
    except BadName:
        return
    assert path_bytes(path) == path_bytes(PurePosixPath(relative))


@given(component.map(path_text))
def test_stem_and_suffix_are_the_whole_name(name: str) -> None:
    stem, suffix = stem_and_suffix(name)
    assert name == (f"{stem}.{suffix}" if suffix else stem)


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "matches", "misses"),
        [
            ("*.tmp", ["a.tmp", "d/a.tmp", ".tmp", "d/x.tmp/"], ["a.tmp.fits", "d.tmp/a"]),
            ("core", ["core", "d/core", "d/core/"], ["core.c", "score", "core/x"]),
            ("/core", ["core", "core/"], ["d/core"]),
            ("cache/", ["cache/", "d/cache/"], ["cache", "d/cache"]),
            ("raw/*.log", ["raw/a.log"], ["old/raw/a.log", "raw/d/a.log", "a.log"]),
            ("**/raw/*.log", ["raw/a.log", "x/raw/a.log", "x/y/raw/a.log"], ["xraw/a.log"]),
            ("raw/**", ["raw/a", "raw/d/a"], ["raw", "draw/a"]),
            ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["az", "a/bz"]),
            ("a**z", ["az", "abz", "d/abz"], ["a/z"]),
            ("?.fits", ["a.fits", "ü.fits", "\udcff.fits"], ["ab.fits", "/.fits"]),
            ("[ab]1", ["a1", "b1"], ["c1", "[ab]1"]),
            ("[!ab]1", ["c1"], ["a1"]),
            ("[0-9]x", ["5x"], ["ax", "-x"]),
            ("[]]x", ["]x"], ["x"]),
            ("[[]x", ["[x"], ["x"]),
            ("[+--]x", ["+x", ",x", "-x"], [".x"]),
            ("a\nb*", ["a\nbc", "a\nb\nc"], ["a"]),
            ("a.b", ["a.b"], ["axb"]),
        ],
    )
    def test_it(self, pattern: str, matches: list[str], misses: list[str]) -> None:
        patterns = Patterns([pattern])

        def found(subject: str) -> str | None:
            return patterns.match(subject.removesuffix("/"), directory=subject.endswith("/"))

        assert [found(s) for s in matches] == [pattern] * len(matches)
        assert [found(s) for s in misses] == [None] * len(misses)

    @pytest.mark.parametrize("name", [".a.fits.Xy12zA", ".x.123456", "a.part", "d/b.partial", "c.tmp"])
    def test_temporary_names(self, name: str) -> None:
        assert Patterns(TEMPORARY).match(name) in TEMPORARY

    @pytest.mark.parametrize(
        "name", ["a.fits", ".profile", "a.123456", "..123456", ".a.1234567", ".a.12-456", "partial"]
    )
    def test_names_that_only_look_temporary(self, name: str) -> None:
        assert Patterns(TEMPORARY).match(name) is None

    def test_the_first_that_matches_is_named(self) -> None:
        assert Patterns(["x", "*.a", "b.*"]).match("b.a") == "*.a"
        assert Patterns([]).match("b.a") is None

    @pytest.mark.parametrize("pattern", ["", "/", "[ab", "[z-a]"])
    def test_malformed_ones_are_refused(self, pattern: str) -> None:
        with pytest.raises(ConfigError, match="pattern"):
            Patterns([pattern])

    @given(st.text(alphabet="ab*?[]!-^\\|&~./{}()", max_size=12), st.text(max_size=12))
    def test_no_pattern_crashes(self, pattern: str, name: str) -> None:
        try:
            patterns = Patterns([pattern])
        except ConfigError:
            return
        assert patterns.match(name) in (None, pattern)
