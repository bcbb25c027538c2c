"""scripts/rfc-status: what it reads out of sources, and that each of its problems can be found."""

import pytest

import rfcstatus

# Not written out: this file is searched for citations like any other.
R = "RF" + "C"

LIST = """
rfc = 7915
title = "a list"
scope = "for a test"
[sections]
"4.1" = "one"
"5.1" = "two"
[[clause]]
at = "4.1"
level = "MUST"
says = "something"
tests = ["a_test", "{prefix}7915_4_1_*"]
"""


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("{R} 7915 4.2: x", [(7915, ["4.2"], [])]),
        ("{R} 7915 4.1 and 5.1, {R} 4884", [(7915, ["4.1", "5.1"], []), (4884, [], [])]),
        ("({R} 4787 4.3 (REQ-5b))", [(4787, ["4.3"], ["REQ-5b"])]),
        ("{R} 6888 3, REQ-8", [(6888, ["3"], ["REQ-8"])]),
        ("{R} 6052, 7915", [(6052, [], [])]),
        ("({R} 6052\n    /// 3.1)", [(6052, ["3.1"], [])]),
        ("{R} 6146 4: 2 s", [(6146, ["4"], [])]),
    ],
)
def test_citations(text, wanted):
    assert list(rfcstatus.citations(text.format(R=R))) == wanted


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("7915_4_1_options", [(7915, [["4", "1"]], [])]),
        ("7915_5_2_and_4_2_other", [(7915, [["5", "2"], ["4", "2"]], [])]),
        ("4787_4_1_req_2_paired", [(4787, [["4", "1"]], ["REQ-2"])]),
        ("6092_3_2_1_rec10_errors", [(6092, [["3", "2", "1"]], ["REC-10"])]),
    ],
)
def test_names(name, wanted):
    assert list(rfcstatus.named("rfc" + name)) == wanted
    two = list(rfcstatus.named("rfc" + name + "_and_rfc" + "1191_7_x"))
    assert two == [*wanted, (1191, [["7"]], [])]


def test_tests_are_told_from_other_functions():
    rust = "#[test]\n/// {R} 7915 4.1.\nfn a_test() {{}}\n\n#[test]\n#[ignore]\nfn ignored() {{}}\n\nfn helper() {{}}\n"
    (found,) = rfcstatus.tests(rfcstatus.Path("x.rs"), rust.format(R=R))
    assert found[0] == "a_test" and "7915 4.1" in found[1]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A list of one clause, and one source file that is written by the test."""
    lists, source = tmp_path / "lists", tmp_path / "pipelines/x/src/lib.rs"
    lists.mkdir()
    source.parent.mkdir(parents=True)
    (lists / "rfc7915.toml").write_text(LIST.format(prefix="rfc"))
    monkeypatch.setattr(rfcstatus, "LISTS", lists)
    monkeypatch.setattr(rfcstatus, "DOCUMENT", tmp_path / "status.md")
    monkeypatch.setattr(rfcstatus.n, "ROOT", tmp_path)
    good = f"// {R} 7915 4.1: x\n#[test]\nfn a_test() {{}}\n#[test]\nfn rfc" + "7915_4_1_x() {}\n"

    def check(more="", text=good):
        source.write_text(text + more)
        rfcs = rfcstatus.load()
        problems = rfcstatus.compare(rfcs)
        return problems, rfcs[7915]

    return check


def test_what_fits_together_is_no_problem(workspace):
    problems, rfc = workspace()
    assert problems == []
    assert rfc.clauses[0].tests == ["a_test", "rfc" + "7915_4_1_x"]
    assert rfcstatus.cited(rfc, rfc.clauses[0]) == ["x/lib.rs"]
    rfcstatus.DOCUMENT.write_text(rfcstatus.document({7915: rfc}))
    assert rfcstatus.findings() == []
    rfcstatus.DOCUMENT.write_text("old")
    assert "not up to date" in rfcstatus.findings()[0]


@pytest.mark.parametrize(
    "more, text, wanted",
    [
        ("", "", "there is no test a_test"),
        ("", "#[test]\nfn a_test() {}\n", "none of its tests names it"),
        (f"// {R} 7915 4.9\n", None, "4.9, which the list does not have"),
        (f"// {R} 7915 REQ-1\n", None, "REQ-1, which the list does not have"),
        ("#[test]\nfn rfc" + "7915_9_1_x() {}\n", None, "names " + R + " 7915 9.1"),
    ],
)
def test_each_problem_is_found(workspace, more, text, wanted):
    problems, _ = workspace(more) if text is None else workspace(more, text)
    assert any(wanted in p for p in problems), problems
