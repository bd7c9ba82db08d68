"""The rules of the nftables table that belongs to a tunnel (nft(8)), as text: what is wished in, what nft reads out.

One table, `inet caetun_DEVICE`, serves IPv4 and IPv6. It is made and replaced in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address

# fixed by the specification
PRIVATE: Final = (
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),  # RFC 1918, section 3
    "169.254.0.0/16",  # link-local, RFC 3927
    "fc00::/7",  # unique local, RFC 4193
    "fe80::/10",  # link-local, RFC 4291, section 2.4
)
"""Where a local network may be. Not 100.64.0.0/10 (RFC 6598), which lies between a provider and its customers."""
_LAN_MULTICAST: Final = ("224.0.0.0/4", "255.255.255.255/32", "ff02::/16")
"""What finds printers and players: multicast, of IPv6 that of the link (RFC 4291, section 2.7), and broadcast."""

_RETURNS = """\
 chain spoofed {{
  type filter hook prerouting priority raw; policy accept;
{spoofed}
 }}
 chain returning {{
  type filter hook prerouting priority mangle; policy accept;
  iifname != "{device}" ct mark {mark} meta mark set ct mark
 }}
 chain leaving {{
  type filter hook postrouting priority mangle; policy accept;
  oifname != "{device}" meta mark {mark} ct mark set meta mark
 }}
"""
_NO_OTHER_DNS = """\
 chain dns {{
  type filter hook output priority filter - 1; policy accept;
  oifname {{ "lo", "{device}" }} accept
  meta mark {mark} accept
  meta l4proto {{ tcp, udp }} th dport {{ 53, 853 }} counter drop
 }}
"""
_KILL_SWITCH = """\
 chain output {{
  type filter hook output priority filter; policy drop;
  oifname {{ "lo", "{device}" }} accept
  meta mark {mark} accept
  meta nfproto ipv4 udp sport 68 udp dport 67 accept
  meta nfproto ipv6 udp sport 546 udp dport 547 accept
  icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report }} accept
{lan}
  counter
 }}
 chain forward {{
  type filter hook forward priority filter; policy drop;
  iifname "{device}" accept
  oifname "{device}" accept
{forward_lan}
  counter
 }}
"""
_LET_OUT = """\
 chain outside {{
  type nat hook postrouting priority srcnat; policy accept;
{masquerade}
 }}
 chain through {{
  type filter hook forward priority filter; policy accept;
  iifname "{device}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
  oifname "{device}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
 }}
"""


def table_name(device: str) -> str:
    """Family and name of a tunnel's table. Device names may hold characters that nft would not take."""
    plain = "".join(
        sign if sign.isascii() and (sign.isalnum() or sign == "_") else f"_{ord(sign):x}_" for sign in device
    )
    return f"inet caetun_{plain}"


def steering(device: str, addresses: Iterable[Address], mark: int) -> str:
    """What policy routing needs beside its rules.

    `returning`, `leaving`: answers to the tunnel's own packets get its mark, or a host with strict reverse path
    filtering (RFC 3704, section 2.2) would not believe where they come from. `spoofed`: nobody on the local network
    talks to the tunnel's addresses (CVE-2019-14899).
    """
    device = _quoted(device)
    drops = [f'  iifname != "{device}" {_family(each)} daddr {each} fib saddr type != local drop' for each in addresses]
    return _RETURNS.format(device=device, mark=f"{mark:#x}", spoofed="\n".join(drops))


def no_other_dns(device: str, mark: int) -> str:
    """Programs of this host look names up through the tunnel, or not at all."""
    return _NO_OTHER_DNS.format(device=_quoted(device), mark=f"{mark:#x}")


def kill_switch(device: str, mark: int, lan: bool) -> str:
    """Nothing leaves but by the tunnel, even if there is none; `lan`: or to the local network."""
    near = [f"  {_family(each)} daddr {each} accept" for each in (*PRIVATE, *_LAN_MULTICAST)] if lan else []
    near += ["  ip protocol igmp accept"] if lan else []
    through = [f"  {_family(each)} daddr {each} accept" for each in PRIVATE] if lan else []
    return _KILL_SWITCH.format(
        device=_quoted(device), mark=f"{mark:#x}", lan="\n".join(near), forward_lan="\n".join(through)
    )


def let_out(device: str, networks: Sequence[Network]) -> str:
    """What comes out of the tunnel from its own networks goes on under this host's address, and answers come back.

    TCP is told how much fits (RFC 4459, section 3.2).
    """
    device = _quoted(device)
    rules = [
        f'  {_family(each.network_address)} saddr {each} oifname != {{ "lo", "{device}" }} masquerade'
        for each in networks
    ]
    return _LET_OUT.format(device=device, masquerade="\n".join(rules))


def _family(what: object) -> str:
    """How nft calls the header that an address is in."""
    return "ip6" if ":" in str(what) else "ip"


def _quoted(device: str) -> str:
    """A device's name between quotes; nft knows no way to write a quote there, and would take a final * for any."""
    if '"' in device or "*" in device or "\\" in device:
        raise ValueError(f"{device!r} cannot be named in nftables: choose a name without quotes and asterisks")
    return device
