"""What the running gateway tells through its command line, for the demo and the tests."""

import json

import lab
import netns
import network as n


def causeway(*args, check=True, **kw):
    """Runs the appliance's command line against the lab's gateway."""
    return netns.run(lab.binary(), *args, check=check, **kw)


def show(what, *args):
    """`causeway show WHAT --json`, parsed."""
    done = causeway("show", what, "--json", "--socket", n.SOCKET, *args)
    try:
        return json.loads(done.stdout)
    except ValueError as e:
        raise netns.Failure(f"`causeway show {what} --json` gave no JSON ({e}): {done.stdout[:300]!r}") from e


def show_text(what, *args):
    """`causeway show WHAT`, as a person sees it."""
    return causeway("show", what, "--socket", n.SOCKET, *args).stdout


def counters():
    """All counters that are not zero, summed over workers: by name, `drop.NAME` for drops."""
    return {c["name"]: c["total"] for c in show("counters")["counters"] if c["total"]}


def drops(values=None):
    """Drops by reason."""
    values = counters() if values is None else values
    return {k.removeprefix("drop."): v for k, v in values.items() if k.startswith("drop.")}


def sessions(*args):
    """The rows of the session table, all of them."""
    return show("sessions", "--limit", "0", *args)["sessions"]
