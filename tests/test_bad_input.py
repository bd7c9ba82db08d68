"""Every key with a wrong type, out of range, or misspelt: one line that says where, what was expected, what is near."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from caetun import ports
from caetun.errors import ConfigurationError
from caetun.options import DECOY, FILE, SWITCH, Option
from caetun.session.identity import encode_key
from caetun.settings import OPTIONS
from caetun.sources import load, mistakes, read_environment

KEY: Final = encode_key(bytes(range(32)))
IN_FILE: Final = {name: option for name, option in OPTIONS.items() if option.in_file}
TYPES: Final = {"true": bool, "7": int, "1.5": float, "1979-05-27": object}
"""TOML values, and the type each is read as."""
NONSENSE: Final = "\x07nonsense\x07"


def wrong_texts(option: Option) -> list[str]:
    """What a flag of this kind cannot take."""
    return ["-1", "999999999999", "nonsense"] if option.kind.native else [""]


def only_line(path: Path) -> str:
    found = mistakes(path)
    assert len(found) == 1, found
    assert "\n" not in found[0]
    return found[0]


def config(folder: Path, text: str) -> Path:
    path = folder / "hub.toml"
    path.write_text(f"# a comment\n\n{text}\n")
    return path


def refused(option: Option, text: str) -> str:
    """What the option says of a text; "" if it takes it."""
    try:
        option.read(text)
    except ValueError as error:
        return str(error)
    return ""


def accepts(option: Option, type_: type) -> bool:
    return (option.kind is SWITCH and type_ is bool) or type_ in option.kind.native


@pytest.mark.parametrize("name", IN_FILE)
def test_a_wrong_type(tmp_path: Path, name: str) -> None:
    option = OPTIONS[name]
    for text, type_ in TYPES.items():
        if accepts(option, type_):
            continue
        path = config(tmp_path, f"{option.key} = {text}")
        told = only_line(path)
        assert re.match(rf"{re.escape(str(path))}: line 3: {option.key}: is (a|true)", told), told
        wanted = "true or false" if option.kind is SWITCH else option.kind.limits or option.kind.metavar
        assert wanted in told, "what was expected"


@pytest.mark.parametrize("name", IN_FILE)
def test_a_wrong_value(tmp_path: Path, name: str) -> None:
    option = OPTIONS[name]
    for text in [*wrong_texts(option), NONSENSE]:
        told = refused(option, text)
        if not told:
            assert option.kind in (FILE, DECOY), f"{option.key} takes {text!r}"
            continue
        escaped = text.replace("\x07", "\\u0007")
        path = config(tmp_path, f'{option.key} = "{escaped}"')
        assert only_line(path) == f"{path}: line 3: {option.key}: {told}"
        assert re.search(r"(give|write|use|leave|name|expected|known are|from [0-9]+ to) ", told), told


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.kind is not SWITCH])
def test_a_wrong_flag_or_variable(name: str) -> None:
    option = OPTIONS[name]
    variable = f"CAETUN_{name.upper()}"
    for text in [*wrong_texts(option), NONSENSE]:
        why = refused(option, text)
        if not why:
            continue  # any text is the name of a file
        with pytest.raises(ConfigurationError) as caught:
            load({name: [text] if option.repeatable else text})
        assert str(caught.value) == f"{option.flag}: {why}"
        if text:
            with pytest.raises(ConfigurationError, match=f"^{variable}: "):
                read_environment({variable: text})


@pytest.mark.parametrize("name", IN_FILE)
def test_a_misspelt_name(tmp_path: Path, name: str) -> None:
    key = OPTIONS[name].key
    for misspelt in {key[:-1], f"{key}s", key.replace("-", "_")} - {option.key for option in OPTIONS.values()}:
        told = only_line(config(tmp_path, f"{misspelt} = 1"))
        near = re.search(r"line 3: (\S+): no such option: did you mean (\S+)\?$", told)
        assert near is not None, told
        assert near[1] == misspelt


TABLES: Final = f"""\
[pool]
network = "10.88.0.0/24"

[[peer]]
key = "{KEY}"
name = "attic"

[[peer]]
key = "{encode_key(bytes(32))}"
isolated = true
role = "host"

[[vlan]]
id = 7

[[vlan]]
id = 8
snooping = false

[port]
trunk = "all"

[push]
route = ["10.1.0.0/16"]
"""


@pytest.mark.parametrize(
    ("line", "instead", "told"),
    [
        (
            'network = "10.88.0.0/24"',
            'netwrk = "10.88.0.0/24"',
            "line 4: pool-netwrk: no such option: did you mean pool-network?",
        ),
        ('network = "10.88.0.0/24"', "network = 7", "line 4: pool-network: is a number: give "),
        ("[pool]", "[pol]", "line 3: pol: no such option: did you mean pool?"),
        ('name = "attic"', 'nmae = "attic"', "line 8: peer: table 1: 'nmae' is not known: did you mean name"),
        ("isolated = true", "isolatd = true", "line 12: peer: table 2: 'isolatd' is not known: did you mean isolated"),
        ("isolated = true", 'mac-limit = "many"', "line 12: peer: table 2: 'many' is not a number from 1 to"),
        (
            'role = "host"',
            'role = "hots"',
            "line 13: peer: table 2: 'hots' is no role: did you mean host? give one of ",
        ),
        ('role = "host"', "role = 1979-05-27", "line 13: peer: table 2: 'role' is not understood: give a number, "),
        (
            "snooping = false",
            'snoping = "off"',
            "line 20: vlan: table 2: 'snoping' is not known: did you mean snooping",
        ),
        ("id = 8", "id = 4095", "line 19: vlan: table 2: '4095' is not a number from 1 to 4094"),
        ("id = 8", "", "line 18: vlan: table 2: has no id: write id = 7 in each [[vlan]]"),
        ('trunk = "all"', 'trnk = "all"', "line 23: port: 'trnk' is not known: did you mean trunk"),
        ("[push]", "[psuh]", "line 25: psuh: no such option: did you mean push?"),
        ('route = ["10.1.0.0/16"]', 'route = ["10.1.0.1/16"]', "line 26: push-route: "),
    ],
)
def test_a_mistake_in_a_table(tmp_path: Path, line: str, instead: str, told: str) -> None:
    assert line in TABLES
    path = config(tmp_path, TABLES)
    assert mistakes(path) == []
    path = config(tmp_path, TABLES.replace(line, instead, 1) if line != "id = 8" else TABLES.replace(line, instead))
    assert only_line(path).startswith(f"{path}: {told}")


HEADED: Final = [option.key for option in OPTIONS.values() if option.in_file and "-" in option.key]
"""Keys that may stand in a table of their first word."""
OWN: Final = {option.key for option in OPTIONS.values()}


@pytest.mark.parametrize("key", [key for key in HEADED if key.partition("-")[0] not in OWN])
def test_a_mistake_below_a_heading(tmp_path: Path, key: str) -> None:
    """`[pool] network = ...` is told about as `pool-network` is."""
    table, _, inner = key.partition("-")
    option = OPTIONS[key.replace("-", "_")]
    for text, type_ in TYPES.items():
        if not accepts(option, type_):
            told = only_line(config(tmp_path, f"[{table}]\n\n{inner} = {text}"))
            assert re.search(rf": line 5: {key}: is (a|true)", told), told
    told = only_line(config(tmp_path, f"[{table}]\n\n{inner}x = 1"))
    assert told.endswith(f": line 5: {key}x: no such option: did you mean {key}?")


@pytest.mark.parametrize("key", [key for key in HEADED if key.partition("-")[0] in OWN - {"peer", "port"}])
def test_a_heading_that_is_an_option_itself(tmp_path: Path, key: str) -> None:
    table, _, inner = key.partition("-")
    for word in (inner, f"{inner}s"):
        told = only_line(config(tmp_path, f"[{table}]\n{word} = 1"))
        words = f"line 3: {table}: is no table: did you mean {key}? It is written above all tables"
        assert told.endswith(words), told


WORDS: Final = {
    "role": "hots",
    "access": "4095",
    "trunk": "1-",
    "native": "none",
    "mac-limit": "many",
    "bpdu": "eat",
    "source": "any1",
    "bind": "me",
    "address-limit": "0",
    "static-mac": "02",
    "static-group": "10.0.0.1",
    "isolated": "yes",
    "mesh": "1",
    "fast-leave": "on",
    "router": "there",
    "storm.broadcast": "much",
    "storm.thunder": "10",
}
"""What is said of a port, and a value that it cannot have."""
TABLES_OF_A_PORT: Final = (f'[[peer]]\nkey = "{KEY}"', "[port]\n", "[port-defaults]\n")


def test_every_word_of_a_port_is_here() -> None:
    assert {word for word in WORDS if not word.startswith("storm.")} == {*ports._READERS, *ports._SWITCHES}


@pytest.mark.parametrize("table", TABLES_OF_A_PORT)
@pytest.mark.parametrize("word", WORDS)
def test_a_word_of_a_port(tmp_path: Path, table: str, word: str) -> None:
    heading = re.search(r"[a-z-]+", table)
    assert heading is not None
    wrong = {f'{word} = "{WORDS[word]}"', f"{word} = 1979-05-27", f"{word} = 1.5"}
    for line in wrong:
        told = only_line(config(tmp_path, f"{table}\n{line}"))
        assert f": line 5: {heading[0]}: " in told, told
        assert re.search(r"(give|write|use|takes no value|is not a number from|one of|not a MAC|known are)", told), told
    if "." not in word:
        told = only_line(config(tmp_path, f"{table}\n{word}x = 7"))
        assert f": line 5: {heading[0]}: " in told
        assert f"'{word}x' is not known: did you mean {word}? " in told
