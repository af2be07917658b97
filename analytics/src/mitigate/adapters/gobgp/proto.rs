//! The part of gobgp's gRPC messages that is used, by hand: names and numbers of `gobgp.proto`, `attribute.proto` and `nlri.proto`.
//!
//! Version 4 gave the same messages another package, and the two places that were `google.protobuf.Any` typed oneofs. Both are nested messages on
//! the wire, so that [`Path`] keeps them as octets and [`super::route`] writes and reads them in the one form or the other.

use prost::Message;

/// Address family numbers (IANA): 1 IPv4, 2 IPv6; subsequent 1 unicast.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Family {
    #[prost(int32, tag = "1")]
    pub(super) afi: i32,
    #[prost(int32, tag = "2")]
    pub(super) safi: i32,
}

/// One route.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Path {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) nlri: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) pattrs: Vec<Vec<u8>>,
    #[prost(message, optional, tag = "9")]
    pub(super) family: Option<Family>,
    #[prost(string, tag = "15")]
    pub(super) neighbor_ip: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Destination {
    #[prost(string, tag = "1")]
    pub(super) prefix: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) paths: Vec<Path>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct AddPathRequest {
    #[prost(int32, tag = "1")]
    pub(super) table_type: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) path: Option<Path>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct AddPathResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) uuid: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct DeletePathRequest {
    #[prost(int32, tag = "1")]
    pub(super) table_type: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) family: Option<Family>,
    #[prost(message, optional, tag = "4")]
    pub(super) path: Option<Path>,
}

/// `google.protobuf.Empty`, or version 4's empty answers.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Empty {}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct TableLookupPrefix {
    #[prost(string, tag = "1")]
    pub(super) prefix: String,
    #[prost(int32, tag = "2")]
    pub(super) kind: i32,
}

/// `TableType`.
pub(super) const TABLE_GLOBAL: i32 = 0;
pub(super) const TABLE_ADJ_OUT: i32 = 3;

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ListPathRequest {
    #[prost(int32, tag = "1")]
    pub(super) table_type: i32,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(message, optional, tag = "3")]
    pub(super) family: Option<Family>,
    #[prost(message, repeated, tag = "4")]
    pub(super) prefixes: Vec<TableLookupPrefix>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ListPathResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) destination: Option<Destination>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ListPeerRequest {
    #[prost(string, tag = "1")]
    pub(super) address: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ListPeerResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) peer: Option<Peer>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Peer {
    #[prost(message, optional, tag = "2")]
    pub(super) conf: Option<PeerConf>,
    #[prost(message, optional, tag = "5")]
    pub(super) state: Option<PeerState>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct PeerConf {
    #[prost(string, tag = "4")]
    pub(super) neighbor_address: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct PeerState {
    #[prost(string, tag = "5")]
    pub(super) neighbor_address: String,
    #[prost(int32, tag = "13")]
    pub(super) session_state: i32,
}

/// `PeerState.SessionState`.
pub(super) const ESTABLISHED: i32 = 6;

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct IpAddressPrefix {
    #[prost(uint32, tag = "1")]
    pub(super) prefix_len: u32,
    #[prost(string, tag = "2")]
    pub(super) prefix: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct OriginAttribute {
    #[prost(uint32, tag = "1")]
    pub(super) origin: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct NextHopAttribute {
    #[prost(string, tag = "1")]
    pub(super) next_hop: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct CommunitiesAttribute {
    #[prost(uint32, repeated, tag = "1")]
    pub(super) communities: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct LargeCommunity {
    #[prost(uint32, tag = "1")]
    pub(super) global_admin: u32,
    #[prost(uint32, tag = "2")]
    pub(super) local_data1: u32,
    #[prost(uint32, tag = "3")]
    pub(super) local_data2: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct LargeCommunitiesAttribute {
    #[prost(message, repeated, tag = "1")]
    pub(super) communities: Vec<LargeCommunity>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct MpReachNlriAttribute {
    #[prost(message, optional, tag = "1")]
    pub(super) family: Option<Family>,
    #[prost(string, repeated, tag = "2")]
    pub(super) next_hops: Vec<String>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(super) nlris: Vec<Vec<u8>>,
}
