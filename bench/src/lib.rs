//! Load, capacity and speed measurements.
