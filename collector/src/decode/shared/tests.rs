//! Shared templates.
