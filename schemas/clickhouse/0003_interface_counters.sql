-- What the exporters' own interface counters say, to hold the flows against: the growth since the sample before, of each source by itself.
CREATE TABLE IF NOT EXISTS ${database}.interface_counters${local} ${on_cluster}
(
    time DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    exporter IPv6 CODEC(ZSTD(1)),
    interface UInt32 CODEC(ZSTD(1)),
    origin Enum8('sflow' = 0, 'snmp' = 1) CODEC(ZSTD(1)),
    octets_in UInt64 CODEC(T64, ZSTD(1)),
    octets_out UInt64 CODEC(T64, ZSTD(1)),
    packets_in UInt64 CODEC(T64, ZSTD(1)),
    packets_out UInt64 CODEC(T64, ZSTD(1)),
    -- The span that the growth covers.
    milliseconds UInt32 CODEC(T64, ZSTD(1)),
    speed_bits UInt64 CODEC(ZSTD(1)),
    up Bool CODEC(ZSTD(1))
)
ENGINE = ${merge_tree}
PARTITION BY toDate(time)
ORDER BY (exporter, interface, origin, time)
SETTINGS ${deduplication}, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

CREATE TABLE IF NOT EXISTS ${database}.interface_counters ${on_cluster} AS ${database}.interface_counters${local}
ENGINE = Distributed('${cluster}', '${database}', 'interface_counters${local}', rand());
