"""The wire: messages, and the only sockets outside vendor libraries."""
