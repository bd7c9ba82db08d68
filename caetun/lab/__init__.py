"""A laboratory of network namespaces: hosts, cables, delay and loss, for the demo and the tests.

    namespaces.py    the kernel's namespaces, held by file descriptors and one keeper process
    network.py       Lab, Host, Port, Cable: what a scenario is written with
    routers.py       hosts between hosts: several networks at once
    firewalls.py     what stands in the way there: filters, impatient middleboxes, NAT
    relay.py         a cable with delay, as a program of its own
    needs.py         what this machine lacks for a scenario

Nothing here is part of the tunnel. Whatever a Lab made is gone when its process ends, even by SIGKILL.
"""

from __future__ import annotations

from caetun.lab.namespaces import become_root
from caetun.lab.needs import needs
from caetun.lab.network import Cable, Counters, Host, Lab, Port

__all__ = ["Cable", "Counters", "Host", "Lab", "Port", "become_root", "needs"]
