#!/bin/sh
# What udhcpc calls when something has happened to its lease: take the address, and say so.
if [ "$1" = bound ]; then
    ip address replace "$ip/16" dev "$interface"
fi
echo "$1 $ip"
