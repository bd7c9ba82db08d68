"""`caetun ttun DEV LOCAL_IP LOCAL_PORT REMOTE_IP REMOTE_PORT`: join an existing TUN or TAP device to one far end.

The device was made beforehand, by `ip tuntap add dev DEV mode tun user NAME`, and belongs to whoever made it: an
ordinary user may run this, and neither addresses nor MTU are touched. Both ends listen and both call, so it does not
matter which is first.
"""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address, IPv6Address, ip_address

from caetun.cli.flags import Parser, add_options, given
from caetun.errors import ConfigurationError
from caetun.settings import Settings
from caetun.sources import load

_EXAMPLE = """\
example, with 192.0.2.1 here and 192.0.2.2 there, where the last two pairs of arguments change places:
  ip tuntap add dev tun0 mode tun user "$USER"
  ip address add 10.0.0.1/24 dev tun0
  ip link set tun0 up
  caetun ttun tun0 192.0.2.1 9000 192.0.2.2 9000 --secret-file s.key
"""


def main(argv: list[str]) -> int:
    """Run the tunnel; returns the exit status. Raises CaeTunError."""
    settings = settings_for(argv)
    from caetun.daemon.run import run

    return run(settings)


def settings_for(argv: list[str]) -> Settings:
    """The settings that a command line means. Raises ConfigurationError."""
    parser = Parser("caetun ttun", "Join an existing TUN or TAP device to one far end.", epilog=_EXAMPLE)
    parser.add_argument("device", metavar="DEV", help="device that exists already")
    parser.add_argument("local_ip", metavar="LOCAL_IP", help="address of this host to listen on")
    parser.add_argument("local_port", metavar="LOCAL_PORT", help="UDP port to listen on")
    parser.add_argument("remote_ip", metavar="REMOTE_IP", help="address of the far end")
    parser.add_argument("remote_port", metavar="REMOTE_PORT", help="UDP port of the far end")
    add_options(parser, ("keys", "session", "general"), without=("config",))
    arguments = parser.read(argv)
    local = _address("LOCAL_IP", arguments.local_ip)
    remote = _address("REMOTE_IP", arguments.remote_ip)
    if local.version != remote.version:
        raise ConfigurationError(f"REMOTE_IP: {remote} and {local} are of two IP versions: give both of one")
    flags = given(arguments)
    flags["dev"] = arguments.device
    flags["listen"] = _endpoint(local, arguments.local_port)
    flags["connect"] = [_endpoint(remote, arguments.remote_port)]
    return dataclasses.replace(load(flags), mode=None, manage_device=False)


def _address(name: str, text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError:
        raise ConfigurationError(f"{name}: {text!r} is not an IP address: names are not looked up here") from None


def _endpoint(address: IPv4Address | IPv6Address, port: str) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
