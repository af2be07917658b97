//! What the end-to-end tests share: processes, ports, captures.
