"""Files in the manner of WireGuard: what each key becomes, and what is said of those that do not fit."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.conffile import KEYS, inline_key
from caetun.endpoint import Endpoint
from caetun.errors import ConfigurationError
from caetun.keyfiles import load_keys
from caetun.settings import Origin, Settings
from caetun.sources import load

PRIVATE, PSK = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 3))
ONE, OTHER = (base64.b64encode(bytes([number]) + bytes(31)).decode() for number in (9, 11))
"""Public keys: points of which the library makes no fuss."""

WIREGUARD = f"""
# as wg-quick takes it
[Interface]
Address = 10.8.0.2/24, fd88::2/64
PrivateKey = {PRIVATE}
MTU = 1420  # bytes

[Peer]
publickey = {ONE}
PresharedKey = {PSK}
Endpoint = hub.example:4500
AllowedIPs = 10.8.0.0/24, 10.1.0.7/24
AllowedIPs = fd88::/64
PersistentKeepalive = 25
"""
SEED = """
[Interface]
Name = tun0
Address = 10.8.0.2
ListenPort = 4500
SecretFile = secret.key

[Peer]
Name = server
Endpoint = 10.1.1.2:4501
AllowedIPs = 10.8.0.1/32
"""


def read(tmp_path: Path, text: str, **flags: object) -> Settings:
    path = tmp_path / "tunnel.conf"
    path.write_text(text)
    path.chmod(0o600)
    return load({"config": str(path), **flags})


def test_a_file_of_wireguard(tmp_path: Path) -> None:
    settings = read(tmp_path, WIREGUARD)
    assert [str(each) for each in settings.address] == ["10.8.0.2/24", "fd88::2/64"]
    assert settings.connect == (Endpoint("udp", "hub.example", 4500),)
    assert (settings.mtu, settings.keepalive, settings.listen) == (1420, 25.0, ())
    (peer,) = settings.peer
    assert [str(network) for network in peer.port.networks] == ["10.8.0.0/24", "10.1.0.0/24", "fd88::/64"]
    assert [str(network) for network in settings.route] == ["10.1.0.0/24"], "the others come with the addresses"
    assert settings.origins["mtu"] is Origin.FILE


def test_keys_stay_in_the_file(tmp_path: Path) -> None:
    settings = read(tmp_path, WIREGUARD)
    assert settings.key == settings.peer_psk_file == tmp_path / "tunnel.conf"
    assert PRIVATE not in repr(settings)
    keys = load_keys(settings)
    assert keys.private is not None
    assert keys.psk is not None
    assert (keys.private.reveal(), keys.psk.reveal()) == (bytes([1]) * 32, bytes([3]) * 32)
    assert keys.warnings == ()
    (tmp_path / "tunnel.conf").chmod(0o644)
    assert len(load_keys(settings).warnings) == 1


def test_the_seeds_own_form(tmp_path: Path) -> None:
    settings = read(tmp_path, SEED)
    assert settings.dev.name == "tun0"
    assert [str(each) for each in settings.address] == ["10.8.0.2/32"]
    assert settings.listen == (Endpoint("udp", "", 4500),)
    assert settings.connect == (Endpoint("udp", "10.1.1.2", 4501),)
    assert settings.secret_file == tmp_path / "secret.key"
    assert settings.mangle == (
        "in accept from 10.8.0.1/32",
        "in drop ip",
        "out accept to 10.8.0.1/32",
        "out drop ip",
        "in drop ip6",
        "out drop ip6",
    )


def test_what_may_be_everything_needs_no_rules(tmp_path: Path) -> None:
    settings = read(tmp_path, SEED.replace("10.8.0.1/32", "0.0.0.0/0, ::/0"))
    assert settings.mangle == settings.route == ()
    assert settings.gateway, "as the far end is called, everything goes there"
    assert not read(tmp_path, SEED.replace("10.8.0.1/32", "0.0.0.0/0").replace("Endpoint", "# Endpoint")).gateway


def test_table_off_sets_no_routes(tmp_path: Path) -> None:
    assert [str(network) for network in read(tmp_path, SEED).route] == ["10.8.0.1/32"]
    assert read(tmp_path, SEED.replace("[Peer]", "Table = off\n[Peer]")).route == ()


def test_several_peers(tmp_path: Path) -> None:
    more = f"[Peer]\nName = b\nPublicKey = {OTHER}\nAllowedIPs = 10.8.0.3\n"
    settings = read(
        tmp_path,
        f"[Interface]\nListenPort = 4500\nPrivateKey = my.key\n[Peer]\nName = a\nPublicKey = {ONE}\n"
        f"AllowedIPs = 10.8.0.4/32\n{more}",
    )
    assert settings.key == tmp_path / "my.key"
    assert [(peer.port.name, str(peer.port.networks[0])) for peer in settings.peer] == [
        ("a", "10.8.0.4/32"),
        ("b", "10.8.0.3/32"),
    ]


def test_flags_win(tmp_path: Path) -> None:
    assert read(tmp_path, WIREGUARD, mtu="1300").mtu == 1300


def test_name_servers_and_domains(tmp_path: Path) -> None:
    settings = read(tmp_path, WIREGUARD.replace("MTU", "DNS = 10.8.0.1, fd88::1, corp.example\nMTU"))
    assert [str(each) for each in settings.dns] == ["10.8.0.1", "fd88::1"]
    assert settings.dns_domain == ("corp.example",)


def test_more_than_wireguard_knows(tmp_path: Path) -> None:
    text = SEED.replace("ListenPort", "Mode = tap\nCompression = zstd,lz4\nTable = off\nListenPort")
    settings = read(tmp_path, text.replace("AllowedIPs = 10.8.0.1/32", ""))
    assert settings.mode == "tap"
    assert settings.compress == ("zstd", "lz4")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("MTU = 1420", "MTU = 10", "line 6: MTU: 10 is out of bounds: give 576..65500 bytes"),
        ("MTU", "MTUU", r"line 6: MTUU: no such key in \[Interface\]: did you mean MTU\?"),
        ("MTU", "Colour", r"line 6: Colour: no such key in \[Interface\]: known are Name, Address"),
        ("MTU = 1420", "MTU =", "line 6: MTU: has no value: write MTU = VALUE"),
        ("MTU", "PostUp", "line 6: PostUp: CaeTun runs no commands: for NAT use --masquerade"),
        ("MTU", "Table", "line 6: Table: routes for AllowedIPs go into the main table: leave it away"),
        ("MTU", "SaveConfig", "line 6: SaveConfig: CaeTun never writes its configuration"),
        ("MTU", "FwMark", "line 6: FwMark"),
        ("[Peer]", "[Pear]", r"line 8: \[Pear\]: write \[Interface\] or \[Peer\]"),
        ("[Interface]", "", "line 4: stands in no section"),
        ("[Peer]", "[Interface]\n[Peer]", r"has 2 sections \[Interface\]: give one"),
        (PRIVATE, PRIVATE[:-2], "line 5: PrivateKey: is no key: give 32 bytes in Base64"),
        ("publickey = " + ONE, "", r"line 10: PresharedKey: this \[Peer\] has no PublicKey"),
        (ONE, "abc", "line 9: PublicKey: "),
        ("publickey", "Name = a,isolated\nPublicKey", "line 9: Name: has a comma: give one"),
        ("10.1.0.7/24", "hub", "line 12: AllowedIPs: 'hub' is no address or prefix"),
        ("hub.example:4500", "hub.example", "line 11: Endpoint: "),
        ("25", "0.2", "line 14: PersistentKeepalive: 0.2 is out of bounds: give 1..3600 s"),
        ("10.8.0.2/24, ", "10.8.0.0/24, ", "line 4: Address: '10.8.0.0/24' stands for the whole network"),
    ],
)
def test_what_is_wrong_is_told_with_the_line(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        read(tmp_path, WIREGUARD.replace(old, new, 1))
    assert "\n" not in str(caught.value)
    assert PRIVATE[:20] not in str(caught.value)


COMPLETE = f"""
[Interface]
Name = tun0
Address = 10.8.0.2/24
ListenPort = 4500
PrivateKey = my.key
MTU = 1420
DNS = 10.8.0.1
Mode = tun
Compression = zstd
[Peer]
Name = hub
PublicKey = {ONE}
PresharedKey = {PSK}
AllowedIPs = 10.8.0.0/24
Endpoint = hub.example:4500
PersistentKeepalive = 25
"""
WRONG = {
    "Name": ("a/b", "use 1 to "),
    "Address": ("10.8.0.0/24", "give the host's own address"),
    "ListenPort": ("http", ""),
    "PrivateKey": (PRIVATE[:-2], "give 32 bytes in Base64"),
    "SecretFile": (PRIVATE, "write the key to a file and name that"),
    "MTU": ("70000", "give 576..65500 bytes"),
    "DNS": ("10.8.0.256/", "write for example "),
    "Mode": ("bridge", "give tun "),
    "Compression": ("rar", ""),
    "PublicKey": ("abc", "expected 44 characters of base64"),
    "PresharedKey": (PSK[:-2], "give 32 bytes in Base64"),
    "AllowedIPs": ("everything", "write for example 10.8.0.0/24"),
    "Endpoint": ("hub.example", ""),
    "PersistentKeepalive": ("often", "write 10, 10s or 2m"),
}
"""Every key, with what it cannot be, and what is said to be done."""


def test_every_key_is_here(tmp_path: Path) -> None:
    read(tmp_path, COMPLETE)
    taken = {key for section in KEYS for key in KEYS[section]}
    assert WRONG.keys() == taken - {"PreUp", "PostUp", "PreDown", "PostDown", "SaveConfig", "FwMark", "Table"}


@pytest.mark.parametrize(("section", "key"), [(name, key) for name in KEYS for key in KEYS[name] if key in WRONG])
def test_each_key_with_a_wrong_value_or_a_wrong_name(tmp_path: Path, section: str, key: str) -> None:
    begin = COMPLETE.index(f"[{section}]")
    head, rest = COMPLETE[:begin], COMPLETE[begin:]
    text = rest if f"\n{key} = " in rest else rest.replace(f"[{section}]\n", f"[{section}]\n{key} = x\n")
    number = (head + text)[: len(head) + text.index(f"\n{key} = ") + 1].count("\n") + 1
    value, advice = WRONG[key]
    for instead, told in (
        (f"{key} = {value}", f"line {number}: {key}: "),
        (f"{key} =", f"line {number}: {key}: has no value: write {key} = VALUE, or leave it away"),
        (f"{key}s = x", rf"line {number}: {key}s: no such key in \[{section}\]: did you mean {key}\?"),
    ):
        line = re.search(rf"(?m)^{key} = .*$", text)
        assert line is not None
        changed = head + text[: line.start()] + instead + text[line.end() :]
        with pytest.raises(ConfigurationError, match=told) as caught:
            read(tmp_path, changed)
        assert "\n" not in str(caught.value)
        if instead.endswith(value):
            assert advice in str(caught.value)
            assert re.search("(give|write|use|expected) ", str(caught.value)), "what was expected"


def test_intervals_that_differ(tmp_path: Path) -> None:
    text = WIREGUARD + f"[Peer]\nPublicKey = {OTHER}\nAllowedIPs = 10.9.0.1\nPersistentKeepalive = 30\n"
    with pytest.raises(ConfigurationError, match="line 18: PersistentKeepalive: differs from another peer's"):
        read(tmp_path, text)


def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "tunnel.conf"
    path.write_text(SEED)
    assert inline_key(path, "PrivateKey") is None


lines = st.one_of(
    st.sampled_from(["[Interface]", "[Peer]", "#", ""]),
    st.builds("{} = {}".format, st.sampled_from([*KEYS["Interface"], *KEYS["Peer"]]), st.text(max_size=12)),
    st.text(max_size=12),
)


@given(st.lists(lines, max_size=8).map("\n".join))
def test_any_text_is_settings_or_told(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "any.conf"
    path.write_text(text, errors="ignore")
    told = ""
    try:
        load({"config": str(path)})
    except ConfigurationError as error:
        told = str(error)
    assert "\n" not in " ".join(told.split())
