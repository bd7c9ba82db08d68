"""Where frames come from and go to: TUN and TAP devices, and the in-memory double."""
