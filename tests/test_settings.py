"""Settings: flags over file over defaults, and what does not go together."""

from __future__ import annotations

import dataclasses
import re
import traceback
from ipaddress import ip_interface
from pathlib import Path

import pytest

from caetun.daemon.outer import outer_options
from caetun.endpoint import Endpoint
from caetun.errors import ConfigurationError
from caetun.options import DeviceRef
from caetun.ports import PeerRef
from caetun.session.handshake import Cipher, PostQuantum
from caetun.session.identity import encode_key
from caetun.settings import GROUPS, OPTIONS, Origin, Settings
from caetun.sources import load, reread
from caetun.types import Mode

DOCS = Path(__file__).parents[1] / "docs" / "configuration.md"
PEER = encode_key(bytes(range(32)))
OTHER = encode_key(bytes(32))
TWO = [f"{PEER},name=attic", OTHER]
LEAST = {"listen": ":4500", "secret_file": "s.key"}


def config(folder: Path, text: str) -> str:
    path = folder / "caetun.toml"
    path.write_text(text)
    return str(path)


def refusal(flags: dict[str, object]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(flags)
    return str(caught.value)


def test_defaults() -> None:
    settings = load(LEAST)
    assert settings == Settings(listen=(Endpoint("udp", "", 4500),), secret_file=Path("s.key"))
    assert (settings.mode, settings.dev, settings.mtu, settings.offload) == (Mode.TUN, DeviceRef(), 1500, True)
    assert (settings.cipher, settings.post_quantum) == ("auto", "auto")
    assert (settings.keepalive, settings.rekey_after, settings.span) == (10.0, 120.0, 0)
    assert (settings.log_level, settings.log_format, settings.verbose) == ("info", "text", False)
    assert settings.manage_device


def test_every_default_is_a_value_its_option_accepts() -> None:
    for name, option in OPTIONS.items():
        if option.default_text and option.default_text not in ("true", "false"):
            assert option.read(option.default_text) == option.default, name


def test_every_flag() -> None:
    settings = load(
        {
            "connect": ["hub.example:4500", "udp://[2001:db8::1]:4501"],
            "transport": "udp",
            "mode": "tap",
            "dev": "fd:3",
            "address": ["10.0.0.1/24", "fd00::1/64"],
            "mtu": "9000",
            "offload": False,
            "key": "a.key",
            "peer": [PEER],
            "peer_psk_file": "psk",
            "cipher": "aes-gcm",
            "post_quantum": "require",
            "keepalive": "2m",
            "rekey_after": "30",
            "span": "4",
            "log_level": "debug",
            "log_format": "json",
            "verbose": True,
        }
    )
    assert settings == Settings(
        connect=(Endpoint("udp", "hub.example", 4500), Endpoint("udp", "2001:db8::1", 4501)),
        mode=Mode.TAP,
        dev=DeviceRef(fd=3),
        address=(ip_interface("10.0.0.1/24"), ip_interface("fd00::1/64")),
        mtu=9000,
        offload=False,
        key=Path("a.key"),
        peer=(PeerRef(bytes(range(32))),),
        peer_psk_file=Path("psk"),
        cipher="aes-gcm",
        post_quantum="require",
        keepalive=120.0,
        rekey_after=30.0,
        span=4,
        log_level="debug",
        log_format="json",
        verbose=True,
    )


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = config(
        tmp_path, 'listen = ":1"\nsecret-file = "s.key"\nmtu = 1400\nkeepalive = "20s"\naddress = "10.0.0.1/24"\n'
    )
    settings = load({"config": path, "mtu": "1300", "address": ["10.0.0.2/24", "10.0.0.3/24"]})
    assert settings.listen == (Endpoint("udp", "", 1),)
    assert settings.keepalive == 20.0
    assert settings.mtu == 1300
    assert [str(address) for address in settings.address] == ["10.0.0.2/24", "10.0.0.3/24"], "the list is replaced"
    origins = {name: settings.origins[name] for name in ("listen", "mtu", "span", "config")}
    assert origins == {"listen": Origin.FILE, "mtu": Origin.FLAG, "span": Origin.DEFAULT, "config": Origin.FLAG}
    assert set(settings.origins) == set(OPTIONS)


def test_files_named_in_the_file_are_beside_it(tmp_path: Path) -> None:
    path = config(tmp_path, 'listen = ":1"\nkey = "a.key"\npeer-psk-file = "/etc/psk"\npeer = ["' + PEER + '"]\n')
    settings = load({"config": path})
    assert settings.key == tmp_path / "a.key"
    assert settings.peer_psk_file == Path("/etc/psk")
    assert settings.peer == (PeerRef(bytes(range(32))),)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('lisen = ":1"', "lisen: no such option: did you mean listen?"),
        ("log_level = 'info'", "log_level: no such option: did you mean log-level?"),
        ("colour = 'red'", "colour: no such option: see docs/configuration.md"),
        ("[tunnel]\nmtu = 1400", "tunnel: no such option"),
        ("config = 'other.toml'", "config: no such option"),
        ("manage-device = false", "manage-device: no such option"),
        ("mtu = 99", "mtu: 99 is out of bounds: give 576..65500 bytes"),
        ("mtu = true", "mtu: is true or false: give 576..65500 bytes"),
        ("transport = 'gopher'", "transport: 'gopher' is not a transport: give auto, or some of udp, quic"),
        ("mtu = ", "is not TOML"),
        ("mtu = 1\nmtu = 2", "is not TOML"),
        ("peer = 'abc'", "peer: not a key"),
    ],
)
def test_what_the_file_gets_wrong(tmp_path: Path, text: str, why: str) -> None:
    path = config(tmp_path, text)
    told = refusal({**LEAST, "config": path})
    assert told.startswith(f"{path}: ")
    assert why in told


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read: No such file or directory" in refusal({"config": str(tmp_path / "missing")})
    assert "cannot be read: Is a directory" in refusal({"config": str(tmp_path)})
    path = tmp_path / "caetun.toml"
    path.write_bytes(b"\xff\xfe")
    assert "is not text in UTF-8" in refusal({"config": str(path)})
    path.write_bytes(b"#" * ((1 << 20) + 1))
    assert "is larger than" in refusal({"config": str(path)})


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"secret_file": "s.key"}, "neither --listen nor --connect given"),
        ({"listen": ":1"}, "keys: none given"),
        ({**LEAST, "key": "a.key", "peer": [PEER]}, "--key: cannot be used with --secret-file"),
        ({**LEAST, "peer": [PEER]}, "--peer: cannot be used with --secret-file"),
        ({**LEAST, "peer_psk_file": "psk"}, "--peer-psk-file: cannot be used with --secret-file"),
        ({"listen": ":1", "key": "a.key"}, "--peer: no public key given"),
        (
            {"listen": ":1", "key": "a.key", "peer": [PEER, OTHER]},
            "--peer: peer 1: none of its addresses are given, and --mode tun sends by address",
        ),
        (
            {"listen": ":1", "key": "a.key", "peer": [f"{PEER},allowed=10.0.0.2", f"{OTHER},name=b,allowed=10.0.0.2"]},
            "--peer: b: 10.0.0.2/32 leads to peer 1 already",
        ),
        (
            {"listen": ":1", "key": "a.key", "address": ["10.0.0.1/24"], "peer": [f"{PEER},allowed=10.0.0.1"]},
            "--peer: peer 1: 10.0.0.1/32 leads to this host already",
        ),
        (
            {"listen": ":1", "key": "a.key", "peer": [f"{PEER},isolated"]},
            "--peer: peer 1: 'isolated' is for a switch",
        ),
        (
            {"listen": ":1", "key": "a.key", "mode": "tap", "peer": [f"{PEER},allowed=10.0.0.2"]},
            "--peer: allowed= is for a router",
        ),
        (
            {"listen": ":1", "key": "a.key", "mode": "tap", "peer": [PEER, f"{PEER},isolated"]},
            "one public key is given",
        ),
        ({"connect": ["h:1"], "key": "a.key", "mode": "tap", "peer": TWO}, "--connect: given with several peers"),
        ({"listen": ":1", "secret_file": "s.key", "bridge": "br0"}, "--bridge: there is no switch with --mode tun"),
        (
            {"listen": ":1", "key": "a.key", "mode": "tap", "peer": TWO, "peer_psk_file": "p"},
            "--peer-psk-file: given with several peers",
        ),
        ({"listen": ":1", "secret_file": "s.key", "tls_cert": "c"}, "--tls-cert: given without --tls-key"),
        ({"listen": ":1", "peer": [PEER]}, "keys: none given"),
        ({**LEAST, "mtu": "1279", "address": ["fd00::1/64"]}, "--mtu: 1279 is too small for the IPv6 address"),
        ({**LEAST, "address": ["10.0.0.1/24", "10.0.0.1/24"]}, "--address: one value is given twice"),
        ({**LEAST, "connect": ["a:1", "udp://a:1"]}, "--connect: one value is given twice"),
        ({**LEAST, "mtu": "99"}, "--mtu: 99 is out of bounds"),
        ({**LEAST, "dev": "a/b"}, "--dev: 'a/b' is not an interface name"),
        ({**LEAST, "rekey_after": "121"}, "--rekey-after: 121 is out of bounds: give 1..120 s"),
        ({**LEAST, "span": "45"}, "--span: 45 is out of bounds: give 0..44 datagrams"),
        ({**LEAST, "cipher": "rot13"}, "--cipher: 'rot13' is not known"),
    ],
)
def test_what_does_not_go_together(flags: dict[str, object], why: str) -> None:
    told = refusal(flags)
    assert why in told
    assert re.fullmatch(r".+: .+: .+", told), "an error says what, why and what to do, in one line"


def test_a_small_mtu_is_fine_for_ipv4() -> None:
    assert load({**LEAST, "mtu": "576", "address": ["10.0.0.1/24"]}).mtu == 576


def test_reading_the_file_again(tmp_path: Path) -> None:
    path = config(tmp_path, 'listen = ":1"\nsecret-file = "s.key"\nlog-level = "info"\nspan = 4\n')
    before = load({"config": path, "log_format": "json"})
    config(tmp_path, 'listen = ":1"\nsecret-file = "s.key"\nlog-level = "debug"\nspan = 5\nlog-format = "text"\n')

    settings, applied, restart = reread(before)

    assert (applied, restart) == (("log-level",), ("span",))
    assert (settings.log_level, settings.span, settings.log_format) == ("debug", 4, "json")
    assert settings.origins["log_level"] is Origin.FILE
    assert dataclasses.replace(settings, log_level="info") == before


def test_what_was_removed_from_the_file_gets_its_default_back(tmp_path: Path) -> None:
    path = config(tmp_path, 'listen = ":1"\nsecret-file = "s.key"\nlog-level = "debug"\n')
    before = load({"config": path})
    config(tmp_path, 'listen = ":1"\nsecret-file = "s.key"\n')
    settings, applied, _ = reread(before)
    assert (settings.log_level, applied, settings.origins["log_level"]) == ("info", ("log-level",), Origin.DEFAULT)


def test_a_broken_file_changes_nothing_and_no_file_is_no_news(tmp_path: Path) -> None:
    path = config(tmp_path, 'listen = ":1"\nsecret-file = "s.key"\n')
    before = load({"config": path})
    config(tmp_path, "listen = ")
    with pytest.raises(ConfigurationError, match="is not TOML"):
        reread(before)
    assert reread(load(LEAST)) == (load(LEAST), (), ())


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    settings = load({"listen": [":4500"], "secret_file": "s.key", "proxy": "http://me:s3cr3t@proxy:3128"})
    assert settings.proxy == "http://me:s3cr3t@proxy:3128"
    assert "s3cr3t" not in repr(settings)
    assert "s3cr3t" not in repr(outer_options(settings))


@pytest.mark.parametrize(
    "proxy",
    [
        "htp://me:s3cr3t@proxy",
        "http://me:s3cr3t@pro xy",
        "http://me:s3cr3t@proxy:99999",
        "me:s3cr3t@proxy:3128",
        "https://me:s3cr3t@proxy",
        f"socks5://me:{'s3cr3t' * 50}@proxy",
        "http://me:s3cr3t",
    ],
)
def test_nor_in_what_is_said_of_a_wrong_proxy(tmp_path: Path, proxy: str) -> None:
    file = tmp_path / "caetun.toml"
    for written in (f'proxy = "{proxy}"', f'proxy = ["{proxy}"]', f'proxy = "{proxy}'):
        file.write_text(written)
        with pytest.raises(ConfigurationError) as refused:
            load({"config": str(file), "listen": [":4500"], "secret_file": "s.key"})
        assert "s3cr3t" not in "".join(traceback.format_exception(refused.value))
    with pytest.raises(ConfigurationError) as refused:
        load({"proxy": proxy, "listen": [":4500"], "secret_file": "s.key"})
    assert "s3cr3t" not in "".join(traceback.format_exception(refused.value))


def test_words_are_those_of_the_session() -> None:
    assert OPTIONS["cipher"].kind.limits.split(", ") == ["auto", *Cipher]
    assert OPTIONS["post_quantum"].kind.limits.split(", ") == list(PostQuantum)


def test_every_field_is_an_option_but_two() -> None:
    fields = {field.name for field in dataclasses.fields(Settings)}
    assert fields - set(OPTIONS) == {"manage_device", "origins"}
    assert {option.group for option in OPTIONS.values()} == set(GROUPS)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_reference_tells_of_every_option(name: str) -> None:
    assert OPTIONS[name].row() in DOCS.read_text().splitlines()


def test_the_reference_tells_of_no_option_that_does_not_exist() -> None:
    listed = re.findall(r"^\|.*?`--(?:no-)?([a-z-]+)` \|", DOCS.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(option.key for option in OPTIONS.values())


def test_the_example_in_the_reference_works(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    settings = load({"config": config(tmp_path, example)})
    assert settings.mode is Mode.TAP
    assert settings.connect


# the switch


TABLES = f"""
listen = ":4500"
mode = "tap"
key = "hub.key"

[port]
vlan.trunk = "all"

[port-defaults]
role = "host"

[[peer]]
key = "{PEER}"
name = "attic"
vlan.access = 7

[[peer]]
key = "{encode_key(bytes(32))}"
role = "bridge"

[[vlan]]
id = 7
querier = "10.7.0.1"
"""
LINES = f"""
listen = ":4500"
mode = "tap"
key = "hub.key"
port = "trunk=all"
port-defaults = "role=host"
peer = ["{PEER},name=attic,access=7", "{encode_key(bytes(32))},role=bridge"]
vlan = "7,querier=10.7.0.1"
"""


def test_tables_say_what_lines_say(tmp_path: Path) -> None:
    tables, lines = (load({"config": config(tmp_path, text)}) for text in (TABLES, LINES))
    assert tables == dataclasses.replace(lines, config=tables.config)
    assert [str(peer.port) for peer in tables.peer] == ["name=attic,role=host,access=7", "role=bridge"]


def test_a_flag_replaces_the_tables(tmp_path: Path) -> None:
    settings = load({"config": config(tmp_path, TABLES), "peer": [f"{PEER},name=loft"], "port": "isolated"})
    assert [str(peer.port) for peer in settings.peer] == ["name=loft,role=host"]
    assert str(settings.port) == "isolated"


@pytest.mark.parametrize(
    ("line", "instead", "why"),
    [
        ('name = "attic"', 'nane = "attic"', "peer: table 1: 'nane' is not known: did you mean name? known are name="),
        ("vlan.access = 7", "vlan.access = 0", "peer: table 1: '0' is not a number from 1 to 4094"),
        (f'key = "{PEER}"', "", "peer: table 1: has no key"),
        (f'key = "{PEER}"', 'key = "abc"', "peer: table 1: "),
        ("id = 7", "", "vlan: table 1: has no id"),
        ('role = "bridge"', 'bind = "10.0.0.5"\nsource = "any"', "peer: table 2: 'bind' does nothing"),
        ('role = "host"', 'name = "all"', "port-defaults: 'name' is said of all ports"),
        ("[port]", "[ports]", "ports: no such option: did you mean port?"),
    ],
)
def test_a_mistake_in_a_table_is_found(tmp_path: Path, line: str, instead: str, why: str) -> None:
    assert why in refusal({"config": config(tmp_path, TABLES.replace(line, instead))})


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"vlan": ["7", "7,snooping=off"]}, "--vlan: one VLAN is given twice"),
        ({"querier_address": ["10.0.0.1", "10.0.0.2"]}, "--querier-address: two addresses of one protocol"),
        ({"querier_address": "fd00::1"}, "--querier-address: the IPv6 address of a querier is link-local"),
        ({"port_defaults": "source=any", "peer": f"{PEER},bind=10.0.0.5"}, "--port-defaults, with --peer bind="),
        ({"mode": "tun", "peer": PEER, "suppression": "direct"}, "--suppression: there is no switch with --mode tun"),
    ],
)
def test_what_a_switch_cannot_be_told(flags: dict[str, object], why: str) -> None:
    given: dict[str, object] = {"listen": ":4500", "mode": "tap", "key": "hub.key", "peer": TWO}
    assert why in refusal({**given, **flags})


def test_the_example_of_a_hub_is_one() -> None:
    settings = load({"config": str(DOCS.parent / "examples" / "hub.toml")})
    ports = {peer.port.name: peer.port.settings("") for peer in settings.peer}
    assert list(ports) == ["attic", "guests", "office", "studio"]
    assert [ports[name].guard.active for name in ports] == [True, True, False, True]
    assert (ports["office"].mac_limit, ports["attic"].mac_limit) == (4000, 64)
    assert [each.vlan for each in settings.vlan] == [8, 100]
