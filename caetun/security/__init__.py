"""TLS libraries and certificates, for the security module `tls` and for authentication: what is not pure about them."""
