//! Export datagrams and frames into columns.

pub mod frame;
