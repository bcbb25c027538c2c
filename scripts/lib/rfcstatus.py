"""Compares the clauses of the RFCs with the sources: what is cited, what is tested, what is left out.

The clauses are kept by hand in scripts/lib/rfc/rfcNNNN.toml, in our own words. A clause says where it
stands (`at`, a section, and `name` where the RFC numbers its requirements), how strong it is (`level`)
and what it wants (`says`), and exactly one of:

  tests           it is obeyed, and these tests prove it (names; * stands for anything, @ for all tests
                  that name the clause)
  left_out        it is not obeyed, and why
  not_applicable  it says nothing about us, and why
  open            it is not obeyed yet, and what is missing

The sources are searched for citations ("RFC 7915 4.2", "RFC 4787 4.3 (REQ-5)") and for tests whose name
is that of the clause they prove (rfc7915_4_2_...) or that cite it in the comment above them. What does not
fit together is a problem:

  - a clause with tests of which one does not exist, or none names the clause
  - a citation or a test that names a section or requirement that the list of that RFC does not have
  - appliance/docs/rfc-status.md says something else (with --check)

Exit codes: 0 all fits together, 1 problems, 2 wrong usage.
"""

import argparse
import fnmatch
import json
import re
import sys
import tomllib
from pathlib import Path

import network as n

LISTS = Path(__file__).resolve().parent / "rfc"
DOCUMENT = n.ROOT / "appliance/docs/rfc-status.md"
SEARCHED = ("pipelines", "appliance", "hwprofiles", "benches", "scripts")
SKIPPED = {"target", "__pycache__", "artifacts", "corpus"}
LEVELS = ("MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY", "says")
STATES = {
    "tests": "done",
    "left_out": "left out",
    "not_applicable": "not applicable",
    "open": "open",
}


class ListError(Exception):
    """A list of clauses that cannot be used."""


class Clause:
    KEYS = {"at", "name", "level", "says", *STATES}

    def __init__(self, rfc, fields):
        self.rfc = rfc
        self.at = fields.get("at", "")
        self.name = fields.get("name", "")
        self.level = fields.get("level", "")
        self.says = fields.get("says", "")
        where = f"RFC {rfc.number} {self}"
        if unknown := set(fields) - self.KEYS:
            raise ListError(f"{where}: unknown keys {sorted(unknown)}")
        if self.at not in rfc.sections:
            raise ListError(f"{where}: section {self.at!r} is not in [sections]")
        if self.level not in LEVELS or not self.says:
            raise ListError(f"{where}: level is one of {LEVELS}, says is not empty")
        given = [key for key in STATES if key in fields]
        if len(given) != 1 or not fields[given[0]]:
            raise ListError(f"{where}: exactly one of {list(STATES)} is needed, not empty")
        self.state = STATES[given[0]]
        self.patterns = fields.get("tests", [])
        self.why = "" if self.patterns else fields[given[0]]
        self.tests = []

    def __str__(self):
        return f"{self.at} {self.name}".strip()

    def is_named(self, places):
        """True if one of these citations is of this very clause: its name, or its section if it has none."""
        mine = (p for p in places if p[0] == self.rfc.number)
        return any(self.name in names if self.name else self.at in at for _, at, names in mine)


class Rfc:
    def __init__(self, path):
        fields = tomllib.loads(path.read_text())
        self.number = fields["rfc"]
        if path.name != f"rfc{self.number}.toml":
            raise ListError(f"{path.name} is about RFC {self.number}")
        self.title = fields["title"]
        # True if every MUST and SHOULD of the RFC has a clause; else what the list is limited to.
        self.complete = fields.get("complete", False)
        self.scope = fields.get("scope", "")
        if not self.complete and not self.scope:
            raise ListError(f"{path.name}: a list that is not complete has a scope")
        self.sections = fields["sections"]
        self.clauses = [Clause(self, c) for c in fields.get("clause", [])]
        self.names = {}
        for c in self.clauses:
            if c.name:
                self.names.setdefault(requirement(c.name), set()).add(c.at)
        self.cited = {}
        # Tests that are named after this RFC and that no clause counts on.
        self.others = []

    def sections_of(self, numbers):
        """Cuts a run of numbers into sections of this RFC, as few as possible; nothing if there is no way."""
        if not numbers:
            return []
        for k in range(len(numbers), 0, -1):
            head = ".".join(numbers[:k])
            if head in self.sections:
                rest = self.sections_of(numbers[k:])
                if rest is not None:
                    return [head, *rest]
        return None


def requirement(name):
    """REQ-4b as REQ-4: tests and citations may name the whole."""
    return re.sub(r"^([A-Z]+-\d+).*$", r"\1", name)


def files():
    for top in SEARCHED:
        for path in sorted((n.ROOT / top).rglob("*")):
            parts = path.relative_to(n.ROOT).parts
            if path.suffix not in (".rs", ".py", ".toml", ".sh") or SKIPPED & set(parts):
                continue
            if path.is_file() and not path.is_relative_to(LISTS) and path.name != Path(__file__).name:
                yield path


def label(path):
    """A file as the document names it: crate and file."""
    name = str(path.relative_to(n.ROOT))
    return name.removeprefix("pipelines/").replace("/src/", "/")


def is_test_file(path):
    parts = path.relative_to(n.ROOT).parts
    return "tests" in parts or "e2e" in parts or path.stem in ("tests", "loom_tests")


SECTION = r"\d+(?:\.\d+)*"
NAME = r"(?:REQ|REC)-\d+[a-z]?"
CITATION = re.compile(rf"\bRFC (\d{{3,5}})((?:[ ,(]+(?:and |to |or )?(?:{SECTION}|{NAME})(?:\([a-z.0-9]+\)|[a-z]\b)?)*)")
PLACE = re.compile(rf"([ ,(]+(?:and |to |or )?)({SECTION}|{NAME})")


def citations(text):
    """(RFC, [sections], [requirement names]) of each citation."""
    # A citation may go on in the next line of a comment.
    text = re.sub(r"\n[ \t]*(?://[/!]?|#)?[ \t]*", " ", text)
    for m in CITATION.finditer(text):
        sections, names = [], []
        for between, place in PLACE.findall(m[2]):
            if place.startswith("RE"):
                names.append(place)
            elif not sections and between == " ":
                sections.append(place)
            elif "." in place:
                sections.append(place)
            else:
                # "RFC 6052, 7915": another RFC, or a number of something else.
                break
        yield int(m[1]), sections, names


TEST = re.compile(r"\b(?:fn |def test_)(\w+)\s*\(")


def tests(path, text):
    """The tests of a file: (name, the comment above it)."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        m = TEST.search(line)
        if not m or line.lstrip().startswith(("//", "#")):
            continue
        # Attributes and comments directly above; in Python the first string below as well.
        above = []
        for before in reversed(lines[:at]):
            before = before.strip()
            if not before.startswith(("#", "//", "@")):
                break
            above.append(before)
        if path.suffix == ".py":
            below = lines[at + 1].strip() if at + 1 < len(lines) else ""
            if "def test_" in line:
                yield m[1], "\n".join([*above, below if below.startswith('"') else ""])
        elif any(re.match(r"#\[(\w+::)*test\b", a) for a in above) and not any(
            a.startswith("#[ignore") for a in above
        ):
            yield m[1], "\n".join(a for a in reversed(above) if a.startswith("//"))


def named(name):
    """What the name of a test says: (RFC, [runs of numbers], [requirement names])."""
    for part in re.split(r"(?:^|_)(?=rfc\d+(?:_|$))", name):
        m = re.match(r"rfc(\d+)_?(.*)", part)
        if not m:
            continue
        words = m[2].split("_")
        runs, names, run = [], [], []
        while words:
            word = words.pop(0)
            if word.isdigit():
                run.append(word)
            elif word in ("req", "rec") and words and words[0].isdigit():
                names.append(f"{word.upper()}-{words.pop(0)}")
            elif r := re.fullmatch(r"(req|rec)(\d+)[a-z]?", word):
                names.append(f"{r[1].upper()}-{r[2]}")
            elif word == "and" and run and words and words[0].isdigit():
                runs.append(run)
                run = []
            elif word == "and" and names and words and words[0] in ("req", "rec"):
                pass
            else:
                break
        runs.append(run)
        yield int(m[1]), [r for r in runs if r], names


def load():
    rfcs = {}
    for path in sorted(LISTS.glob("rfc*.toml"), key=lambda p: int(p.stem[3:])):
        try:
            rfc = Rfc(path)
        except (tomllib.TOMLDecodeError, KeyError) as e:
            raise ListError(f"{path.name}: {e}") from e
        rfcs[rfc.number] = rfc
    if not rfcs:
        raise ListError(f"no lists in {LISTS}")
    return rfcs


def compare(rfcs):
    """Fills in what the sources say. Gives the problems."""
    problems = []
    # Test -> [(RFC, sections, requirement names)] of the listed RFCs.
    found = {}
    for path in files():
        text = path.read_text(errors="replace")
        for number, sections, names in citations(text):
            rfc = rfcs.get(number)
            if not rfc:
                continue
            for s in sections:
                if s not in rfc.sections:
                    problems.append(f"{label(path)} cites RFC {number} {s}, which the list does not have")
            for name in names:
                base = requirement(name)
                if base not in rfc.names:
                    problems.append(f"{label(path)} cites RFC {number} {name}, which the list does not have")
                elif sections and not rfc.names[base] & set(sections):
                    problems.append(
                        f"{label(path)} cites RFC {number} {sections[0]} for {name}, "
                        f"which is in {', '.join(sorted(rfc.names[base]))}"
                    )
            if not is_test_file(path):
                for place in [*sections, *map(requirement, names)]:
                    rfc.cited.setdefault(place, set()).add(label(path))
        if path.suffix not in (".rs", ".py"):
            continue
        for test, comment in tests(path, text):
            found.setdefault(test, [])
            for number, sections, names in citations(comment):
                if number in rfcs:
                    found[test].append((number, set(sections), set(names)))
            for number, runs, names in named(test):
                rfc = rfcs.get(number)
                if not rfc:
                    continue
                sections = []
                for run in runs:
                    cut = rfc.sections_of(run)
                    if cut is None:
                        problems.append(
                            f"{test} ({label(path)}) names RFC {number} {'.'.join(run)}, "
                            "which the list does not have"
                        )
                    sections += cut or []
                for name in names:
                    at = rfc.names.get(name)
                    if not at:
                        problems.append(
                            f"{test} ({label(path)}) names RFC {number} {name}, which the list does not have"
                        )
                    elif sections and not at & set(sections):
                        problems.append(
                            f"{test} ({label(path)}) names RFC {number} {sections[0]} for {name}, "
                            f"which is in {', '.join(sorted(at))}"
                        )
                found[test].append((number, set(sections), set(names)))

    counted = set()
    for rfc in rfcs.values():
        for c in rfc.clauses:
            here = False
            for pattern in c.patterns:
                if pattern == "@":
                    hits = sorted(test for test, places in found.items() if c.is_named(places))
                else:
                    hits = sorted(fnmatch.filter(found, pattern))
                if not hits:
                    problems.append(f"RFC {rfc.number} {c}: there is no test {pattern}")
                for test in hits:
                    if test not in c.tests:
                        c.tests.append(test)
                    counted.add(test)
                    here = here or any(
                        number == rfc.number
                        and (c.at in at or (c.name and requirement(c.name) in map(requirement, names)))
                        for number, at, names in found[test]
                    )
            if c.tests and not here:
                problems.append(f"RFC {rfc.number} {c}: none of its tests names it")
    for test in sorted(set(found) - counted):
        for number in {number for number, _, _ in named(test) if number in rfcs}:
            rfcs[number].others.append(test)
    return sorted(set(problems))


def cited(rfc, clause):
    """Where a clause is cited: by its name if anybody does that, else by its section."""
    by_name = rfc.cited.get(requirement(clause.name), set()) if clause.name else set()
    return sorted(by_name or rfc.cited.get(clause.at, set()))


def counts(rfc):
    out = dict.fromkeys(STATES.values(), 0)
    for c in rfc.clauses:
        out[c.state] += 1
    return out


def row(cells):
    return "| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |"


def document(rfcs):
    out = [
        "# RFC status",
        "",
        "Which clauses of the RFCs Causeway obeys, where the code cites them, which tests prove them, and what",
        "is left out and why. Generated by `scripts/rfc-status --write` from the lists in `scripts/lib/rfc`",
        "and from the sources; `scripts/test` checks that it is up to date.",
        "",
        row(["RFC", "about", "done", "left out", "not applicable", "open", "list"]),
        row(["---", "---", "---:", "---:", "---:", "---:", "---"]),
    ]
    total = dict.fromkeys(STATES.values(), 0)
    for rfc in rfcs.values():
        k = counts(rfc)
        for state, number in k.items():
            total[state] += number
        scope = "every MUST and SHOULD" if rfc.complete else rfc.scope
        out.append(row([f"[{rfc.number}](#rfc-{rfc.number})", rfc.title, *k.values(), scope]))
    out.append(row(["", "all", *total.values(), ""]))
    for rfc in rfcs.values():
        out += ["", f"## RFC {rfc.number}", "", f"{rfc.title}.", ""]
        out.append(row(["section", "level", "clause", "status", "cited in", "tests, or why not"]))
        out.append(row(["---"] * 6))
        for c in rfc.clauses:
            proof = c.why or "<br>".join(f"`{t}`" for t in c.tests)
            where = "<br>".join(f"`{f}`" for f in cited(rfc, c))
            out.append(row([c, c.level, c.says, c.state, where, proof]))
        if rfc.others:
            out += ["", "Further tests: " + ", ".join(f"`{t}`" for t in rfc.others) + "."]
    return "\n".join(out) + "\n"


def as_json(rfcs, problems):
    return {
        "ok": not problems,
        "problems": problems,
        "rfcs": [
            {
                "rfc": rfc.number,
                "title": rfc.title,
                "complete": rfc.complete,
                "scope": rfc.scope,
                "clauses": [
                    {
                        "section": c.at,
                        "name": c.name,
                        "level": c.level,
                        "says": c.says,
                        "status": c.state,
                        "cited": cited(rfc, c),
                        "tests": c.tests,
                        "why": c.why,
                    }
                    for c in rfc.clauses
                ],
            }
            for rfc in rfcs.values()
        ],
    }


def show(rfcs, wanted):
    for rfc in rfcs.values():
        if wanted and rfc.number not in wanted:
            continue
        print(f"RFC {rfc.number}: {rfc.title}")
        for c in rfc.clauses:
            print(f"  {c!s:14} {c.level:6} {c.state:14} {c.says}")
            if c.why:
                print(f"{'':24} why: {c.why}")
            for t in c.tests:
                print(f"{'':24} test: {t}")
            if where := cited(rfc, c):
                print(f"{'':24} cited: {', '.join(where)}")
    for rfc in rfcs.values():
        if not wanted or rfc.number in wanted:
            print(f"RFC {rfc.number}: " + ", ".join(f"{k} {state}" for state, k in counts(rfc).items()))


def findings():
    """What does not fit together, the document included: for scripts/test."""
    rfcs = load()
    problems = compare(rfcs)
    if not DOCUMENT.is_file() or DOCUMENT.read_text() != document(rfcs):
        problems.append(f"{DOCUMENT.relative_to(n.ROOT)} is not up to date: scripts/rfc-status --write")
    return problems


def main(argv):
    p = argparse.ArgumentParser(
        "scripts/rfc-status", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    how = p.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="print only problems, the document included")
    how.add_argument("--write", action="store_true", help="write the document anew")
    how.add_argument("--json", action="store_true", help="print everything as JSON")
    p.add_argument("rfc", nargs="*", type=int, metavar="RFC", help="print only these (all without)")
    args = p.parse_args(argv)
    try:
        rfcs = load()
        if unknown := set(args.rfc) - set(rfcs):
            p.error(f"no list of RFC {', '.join(map(str, sorted(unknown)))}; there are {sorted(rfcs)}")
        if args.check:
            problems = findings()
        else:
            problems = compare(rfcs)
            if args.write:
                DOCUMENT.write_text(document(rfcs))
            elif args.json:
                print(json.dumps(as_json(rfcs, problems), indent=2))
            else:
                show(rfcs, set(args.rfc))
    except (OSError, ListError) as e:
        print(f"rfc-status: error: {e}", file=sys.stderr)
        return 1
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"{len(problems)} problems", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
