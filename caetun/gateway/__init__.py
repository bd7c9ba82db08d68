"""All traffic of a host through the tunnel, or a host that lets its tunnel's far ends out into the world; and back.

plan.py, ruleset.py   what is wished -> what to change on the host, in order (pure data)
changes.py            what a change is, and its form in the state file
executor.py           makes changes and undoes them; each is in the state file before it is made
journal.py            the state file, and who owns it
kernel.py, dns.py     how each kind of change is made: routes, rules, sysctls, nftables; resolvers
preflight.py          whether all of it can be done, before anything is
lookup.py             names looked up outside of the tunnel, for the tunnel's own use
steward.py            what the daemon has of it: check, start, refresh, change, close
repair.py             what a tunnel that was killed has left behind (`caetun undo`, or the next start)
"""
