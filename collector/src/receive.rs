//! Where datagrams and packets come from: sockets, mirror interfaces, capture files.

pub mod capture;
pub mod reassembly;
