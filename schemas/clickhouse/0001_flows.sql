-- Every flow record, a row each. A column of FlowBatch keeps its name; what is not of FlowBatch says where it comes from.
--
-- What is filled in (`collector/src/store/schema.rs`), in this file and the others:
--   ${database}          the database
--   ${local}             the ending of tables that hold rows: `_local` in a cluster, nothing otherwise
--   ${on_cluster}        `ON CLUSTER 'name'` in a cluster, nothing otherwise
--   ${cluster}           the cluster's name; a statement that has it is for clusters only and left out otherwise
--   ${merge_tree}, ${summing_merge_tree}   the engines, replicated in a cluster
--   ${deduplication}     the settings by which a table remembers more blocks than the spool can hold
-- How long rows stay is no part of a table's making: it follows the config at each start (ALTER TABLE … MODIFY TTL).
-- Every statement may run twice: a migration that was cut short begins anew.
CREATE TABLE IF NOT EXISTS ${database}.flows${local} ${on_cluster}
(
    -- The moment that a flow is filed under: its end by our clock, between an hour before its arrival and its arrival.
    time DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    -- When the datagram arrived.
    received_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    -- Both by our clock: the exporter's, and the offset that is estimated for it.
    flow_start_milliseconds DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    flow_end_milliseconds DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),

    exporter IPv6 CODEC(ZSTD(1)),
    observation_domain_id UInt32 CODEC(ZSTD(1)),
    version Enum8('netflow1' = 0, 'netflow5' = 1, 'netflow7' = 2, 'netflow9' = 3, 'ipfix' = 4, 'sflow5' = 5, 'packet' = 6) CODEC(ZSTD(1)),
    template_id UInt16 CODEC(ZSTD(1)),
    -- 0 while the rate is not known: such a row counts as it is.
    sampling_interval UInt32 CODEC(ZSTD(1)),
    sampling_source Enum8('unknown' = 0, 'config' = 1, 'header' = 2, 'options' = 3, 'record' = 4) CODEC(ZSTD(1)),

    source_address IPv6 CODEC(ZSTD(1)),
    destination_address IPv6 CODEC(ZSTD(1)),
    source_port UInt16 CODEC(ZSTD(1)),
    destination_port UInt16 CODEC(ZSTD(1)),
    protocol_identifier UInt8 CODEC(ZSTD(1)),
    tcp_control_bits UInt16 CODEC(ZSTD(1)),

    -- IP octets and packets from source to destination and back, as exported, before sampling is undone.
    octets UInt64 CODEC(T64, ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    reverse_octets UInt64 CODEC(ZSTD(1)),
    reverse_packets UInt64 CODEC(ZSTD(1)),
    -- Which fields of the record `octets` and `packets` are from.
    volume Enum8('delta' = 0, 'two_way' = 1, 'total' = 2) CODEC(ZSTD(1)),
    link_layer_octets UInt16 CODEC(ZSTD(1)),
    octet_delta_count UInt64 ALIAS if(volume = 'delta', octets + link_layer_octets * packets, 0),
    packet_delta_count UInt64 ALIAS if(volume = 'delta', packets, 0),
    octet_total_count UInt64 CODEC(ZSTD(1)),
    packet_total_count UInt64 CODEC(ZSTD(1)),
    initiator_octets UInt64 CODEC(ZSTD(1)),
    initiator_packets UInt64 CODEC(ZSTD(1)),
    responder_octets UInt64 CODEC(ZSTD(1)),
    responder_packets UInt64 CODEC(ZSTD(1)),
    reverse_octet_delta_count UInt64 CODEC(ZSTD(1)),
    reverse_packet_delta_count UInt64 CODEC(ZSTD(1)),
    post_octet_delta_count UInt64 CODEC(ZSTD(1)),
    post_packet_delta_count UInt64 CODEC(ZSTD(1)),

    ingress_interface UInt32 CODEC(ZSTD(1)),
    egress_interface UInt32 CODEC(ZSTD(1)),
    flow_direction UInt8 CODEC(ZSTD(1)),
    -- Whether the traffic is counted where it crosses another interface; see `collector/src/enrich/boundary.rs`.
    is_repeat Bool CODEC(ZSTD(1)),
    ingress_boundary Enum8('undefined' = 0, 'external' = 1, 'internal' = 2) CODEC(ZSTD(1)),
    egress_boundary Enum8('undefined' = 0, 'external' = 1, 'internal' = 2) CODEC(ZSTD(1)),
    ingress_interface_name LowCardinality(String) CODEC(ZSTD(1)),
    egress_interface_name LowCardinality(String) CODEC(ZSTD(1)),

    -- The exporter's word, or where it has none the tables'.
    source_as UInt32 ALIAS if(bgp_source_as_number != 0, bgp_source_as_number, source_place_as),
    destination_as UInt32 ALIAS if(bgp_destination_as_number != 0, bgp_destination_as_number, destination_place_as),
    bgp_source_as_number UInt32 CODEC(ZSTD(1)),
    bgp_destination_as_number UInt32 CODEC(ZSTD(1)),
    source_place_as UInt32 CODEC(ZSTD(1)),
    destination_place_as UInt32 CODEC(ZSTD(1)),
    communities Array(UInt32) CODEC(ZSTD(1)),
    source_country LowCardinality(String) CODEC(ZSTD(1)),
    destination_country LowCardinality(String) CODEC(ZSTD(1)),
    source_city LowCardinality(String) CODEC(ZSTD(1)),
    destination_city LowCardinality(String) CODEC(ZSTD(1)),
    source_customer LowCardinality(String) CODEC(ZSTD(1)),
    destination_customer LowCardinality(String) CODEC(ZSTD(1)),
    source_site LowCardinality(String) CODEC(ZSTD(1)),
    destination_site LowCardinality(String) CODEC(ZSTD(1)),
    -- In the address's own family; the exporter's word, or the tables', or else 24 and 48 for addresses of ours, 16 and 32 for others.
    source_prefix_length UInt8 CODEC(ZSTD(1)),
    destination_prefix_length UInt8 CODEC(ZSTD(1)),
    -- The same in the space of 128 bits, where IPv4 lies at ::ffff:0:0/96: views would work it out for every row several times.
    source_prefix_bits UInt8 DEFAULT source_prefix_length + 96 * (source_address BETWEEN toIPv6('::ffff:0.0.0.0') AND toIPv6('::ffff:255.255.255.255')) CODEC(ZSTD(1)),
    destination_prefix_bits UInt8 DEFAULT destination_prefix_length + 96 * (destination_address BETWEEN toIPv6('::ffff:0.0.0.0') AND toIPv6('::ffff:255.255.255.255')) CODEC(ZSTD(1)),
    source_prefix IPv6 ALIAS IPv6CIDRToRange(source_address, source_prefix_bits).1,
    destination_prefix IPv6 ALIAS IPv6CIDRToRange(destination_address, destination_prefix_bits).1,
    application LowCardinality(String) CODEC(ZSTD(1)),

    fragment UInt8 CODEC(ZSTD(1)),
    icmp_type_code UInt16 CODEC(ZSTD(1)),
    ip_class_of_service UInt8 CODEC(ZSTD(1)),
    ip_ttl UInt8 CODEC(ZSTD(1)),
    flow_label UInt32 CODEC(ZSTD(1)),
    next_hop IPv6 CODEC(ZSTD(1)),
    bgp_next_hop IPv6 CODEC(ZSTD(1)),
    forwarding_status UInt8 CODEC(ZSTD(1)),
    flow_end_reason UInt8 CODEC(ZSTD(1)),
    selector_id UInt64 CODEC(ZSTD(1)),
    vlan_id UInt16 CODEC(ZSTD(1)),
    post_vlan_id UInt16 CODEC(ZSTD(1)),
    source_mac_address UInt64 CODEC(ZSTD(1)),
    destination_mac_address UInt64 CODEC(ZSTD(1)),
    mpls_top_label UInt32 CODEC(ZSTD(1)),
    mpls_label_2 UInt32 CODEC(ZSTD(1)),
    mpls_label_3 UInt32 CODEC(ZSTD(1)),
    ingress_vrf_id UInt32 CODEC(ZSTD(1)),
    egress_vrf_id UInt32 CODEC(ZSTD(1)),
    firewall_event UInt8 CODEC(ZSTD(1)),
    nat_event UInt8 CODEC(ZSTD(1)),
    post_nat_source_address IPv6 CODEC(ZSTD(1)),
    post_nat_destination_address IPv6 CODEC(ZSTD(1)),
    post_napt_source_port UInt16 CODEC(ZSTD(1)),
    post_napt_destination_port UInt16 CODEC(ZSTD(1)),
    application_id UInt64 CODEC(ZSTD(1))
)
ENGINE = ${merge_tree}
PARTITION BY toStartOfHour(time)
ORDER BY (exporter, time)
SETTINGS ${deduplication}, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

CREATE TABLE IF NOT EXISTS ${database}.flows ${on_cluster} AS ${database}.flows${local}
ENGINE = Distributed('${cluster}', '${database}', 'flows${local}', rand());
