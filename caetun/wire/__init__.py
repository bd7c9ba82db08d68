"""Bytes <-> values. All indexing into bytes that came from the network or from a device happens in this package.

Every decoder is total: it returns a value or raises `caetun.errors.Malformed`, whatever the bytes.
"""
