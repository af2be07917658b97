-- Sums by minute and by hour, of few dimensions each, sampling undone. The analytics read the smallest that has the dimensions asked for.
--
-- `octets_variance` and `packets_variance` are those of the sums, from sampling one packet in n: n (n - 1) for each packet counted,
-- times the square of the mean octets of a packet for the octets. `unknown_flows`: records whose rate was not known and that count as they are.
--
-- Sums by the minute are made of the rows of `flows` as they are inserted: by one view for what went from source to destination and by one,
-- with both ends exchanged, for what came back, which few records tell. Sums by the hour are made of the minutes as those are inserted.
-- Merges add up what several inserts brought of the same minute or hour: whoever reads sums again.

-- Where traffic crosses which interface: every record, those of repeated traffic by themselves.
CREATE TABLE IF NOT EXISTS ${database}.traffic_1m${local} ${on_cluster}
(
    time DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    exporter IPv6 CODEC(ZSTD(1)),
    ingress_interface UInt32 CODEC(ZSTD(1)),
    egress_interface UInt32 CODEC(ZSTD(1)),
    flow_direction UInt8 CODEC(ZSTD(1)),
    is_repeat Bool CODEC(ZSTD(1)),
    ingress_boundary Enum8('undefined' = 0, 'external' = 1, 'internal' = 2) CODEC(ZSTD(1)),
    egress_boundary Enum8('undefined' = 0, 'external' = 1, 'internal' = 2) CODEC(ZSTD(1)),
    protocol_identifier UInt8 CODEC(ZSTD(1)),
    source_customer LowCardinality(String) CODEC(ZSTD(1)),
    destination_customer LowCardinality(String) CODEC(ZSTD(1)),
    octets UInt64 CODEC(T64, ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    flows UInt64 CODEC(T64, ZSTD(1)),
    unknown_flows UInt64 CODEC(T64, ZSTD(1)),
    octets_variance Float64 CODEC(ZSTD(1)),
    packets_variance Float64 CODEC(ZSTD(1))
)
ENGINE = ${summing_merge_tree}
PARTITION BY toDate(time)
ORDER BY (time, exporter, ingress_interface, egress_interface, flow_direction, is_repeat, ingress_boundary, egress_boundary, protocol_identifier, source_customer, destination_customer)
SETTINGS ${deduplication}, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

CREATE TABLE IF NOT EXISTS ${database}.traffic_1m ${on_cluster} AS ${database}.traffic_1m${local}
ENGINE = Distributed('${cluster}', '${database}', 'traffic_1m${local}', rand());

CREATE TABLE IF NOT EXISTS ${database}.traffic_1h${local} ${on_cluster}
(
    time DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    exporter IPv6 CODEC(ZSTD(1)),
    ingress_interface UInt32 CODEC(ZSTD(1)),
    egress_interface UInt32 CODEC(ZSTD(1)),
    flow_direction UInt8 CODEC(ZSTD(1)),
    is_repeat Bool CODEC(ZSTD(1)),
    ingress_boundary Enum8('undefined' = 0, 'external' = 1, 'internal' = 2) CODEC(ZSTD(1)),
    egress_boundary Enum8('undefined' = 0, 'external' = 1, 'internal' = 2) CODEC(ZSTD(1)),
    protocol_identifier UInt8 CODEC(ZSTD(1)),
    source_customer LowCardinality(String) CODEC(ZSTD(1)),
    destination_customer LowCardinality(String) CODEC(ZSTD(1)),
    octets UInt64 CODEC(T64, ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    flows UInt64 CODEC(T64, ZSTD(1)),
    unknown_flows UInt64 CODEC(T64, ZSTD(1)),
    octets_variance Float64 CODEC(ZSTD(1)),
    packets_variance Float64 CODEC(ZSTD(1))
)
ENGINE = ${summing_merge_tree}
PARTITION BY toStartOfMonth(time)
ORDER BY (time, exporter, ingress_interface, egress_interface, flow_direction, is_repeat, ingress_boundary, egress_boundary, protocol_identifier, source_customer, destination_customer)
SETTINGS ${deduplication}, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

CREATE TABLE IF NOT EXISTS ${database}.traffic_1h ${on_cluster} AS ${database}.traffic_1h${local}
ENGINE = Distributed('${cluster}', '${database}', 'traffic_1h${local}', rand());

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.traffic_1m_forth${local} ${on_cluster} TO ${database}.traffic_1m${local} AS
WITH greatest(flow.sampling_interval, 1) AS scale
SELECT
    toStartOfMinute(flow.time) AS time,
    flow.exporter AS exporter,
    flow.ingress_interface AS ingress_interface,
    flow.egress_interface AS egress_interface,
    flow.flow_direction AS flow_direction,
    flow.is_repeat AS is_repeat,
    flow.ingress_boundary AS ingress_boundary,
    flow.egress_boundary AS egress_boundary,
    flow.protocol_identifier AS protocol_identifier,
    flow.source_customer AS source_customer,
    flow.destination_customer AS destination_customer,
    sum(flow.octets * scale) AS octets,
    sum(flow.packets * scale) AS packets,
    sum(scale) AS flows,
    countIf(flow.sampling_interval = 0) AS unknown_flows,
    sum(toFloat64(scale) * (scale - 1) * flow.octets * flow.octets / greatest(flow.packets, 1)) AS octets_variance,
    sum(toFloat64(scale) * (scale - 1) * flow.packets) AS packets_variance
FROM ${database}.flows${local} AS flow
GROUP BY time, exporter, ingress_interface, egress_interface, flow_direction, is_repeat, ingress_boundary, egress_boundary, protocol_identifier, source_customer, destination_customer;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.traffic_1m_back${local} ${on_cluster} TO ${database}.traffic_1m${local} AS
WITH greatest(flow.sampling_interval, 1) AS scale
SELECT
    toStartOfMinute(flow.time) AS time,
    flow.exporter AS exporter,
    flow.egress_interface AS ingress_interface,
    flow.ingress_interface AS egress_interface,
    flow.flow_direction AS flow_direction,
    flow.is_repeat AS is_repeat,
    flow.egress_boundary AS ingress_boundary,
    flow.ingress_boundary AS egress_boundary,
    flow.protocol_identifier AS protocol_identifier,
    flow.destination_customer AS source_customer,
    flow.source_customer AS destination_customer,
    sum(flow.reverse_octets * scale) AS octets,
    sum(flow.reverse_packets * scale) AS packets,
    sum(scale) AS flows,
    countIf(flow.sampling_interval = 0) AS unknown_flows,
    sum(toFloat64(scale) * (scale - 1) * flow.reverse_octets * flow.reverse_octets / greatest(flow.reverse_packets, 1)) AS octets_variance,
    sum(toFloat64(scale) * (scale - 1) * flow.reverse_packets) AS packets_variance
FROM ${database}.flows${local} AS flow
WHERE (flow.reverse_octets > 0 OR flow.reverse_packets > 0)
GROUP BY time, exporter, ingress_interface, egress_interface, flow_direction, is_repeat, ingress_boundary, egress_boundary, protocol_identifier, source_customer, destination_customer;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.traffic_1h_sums${local} ${on_cluster} TO ${database}.traffic_1h${local} AS
SELECT
    toStartOfHour(minute.time) AS time,
    minute.exporter AS exporter,
    minute.ingress_interface AS ingress_interface,
    minute.egress_interface AS egress_interface,
    minute.flow_direction AS flow_direction,
    minute.is_repeat AS is_repeat,
    minute.ingress_boundary AS ingress_boundary,
    minute.egress_boundary AS egress_boundary,
    minute.protocol_identifier AS protocol_identifier,
    minute.source_customer AS source_customer,
    minute.destination_customer AS destination_customer,
    sum(minute.octets) AS octets,
    sum(minute.packets) AS packets,
    sum(minute.flows) AS flows,
    sum(minute.unknown_flows) AS unknown_flows,
    sum(minute.octets_variance) AS octets_variance,
    sum(minute.packets_variance) AS packets_variance
FROM ${database}.traffic_1m${local} AS minute
GROUP BY time, exporter, ingress_interface, egress_interface, flow_direction, is_repeat, ingress_boundary, egress_boundary, protocol_identifier, source_customer, destination_customer;


-- Between which autonomous systems and countries; repeated traffic left out.
CREATE TABLE IF NOT EXISTS ${database}.as_1m${local} ${on_cluster}
(
    time DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    source_as UInt32 CODEC(ZSTD(1)),
    destination_as UInt32 CODEC(ZSTD(1)),
    source_country LowCardinality(String) CODEC(ZSTD(1)),
    destination_country LowCardinality(String) CODEC(ZSTD(1)),
    octets UInt64 CODEC(T64, ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    flows UInt64 CODEC(T64, ZSTD(1)),
    unknown_flows UInt64 CODEC(T64, ZSTD(1)),
    octets_variance Float64 CODEC(ZSTD(1)),
    packets_variance Float64 CODEC(ZSTD(1))
)
ENGINE = ${summing_merge_tree}
PARTITION BY toDate(time)
ORDER BY (time, source_as, destination_as, source_country, destination_country)
SETTINGS ${deduplication}, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

CREATE TABLE IF NOT EXISTS ${database}.as_1m ${on_cluster} AS ${database}.as_1m${local}
ENGINE = Distributed('${cluster}', '${database}', 'as_1m${local}', rand());

CREATE TABLE IF NOT EXISTS ${database}.as_1h${local} ${on_cluster}
(
    time DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    source_as UInt32 CODEC(ZSTD(1)),
    destination_as UInt32 CODEC(ZSTD(1)),
    source_country LowCardinality(String) CODEC(ZSTD(1)),
    destination_country LowCardinality(String) CODEC(ZSTD(1)),
    octets UInt64 CODEC(T64, ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    flows UInt64 CODEC(T64, ZSTD(1)),
    unknown_flows UInt64 CODEC(T64, ZSTD(1)),
    octets_variance Float64 CODEC(ZSTD(1)),
    packets_variance Float64 CODEC(ZSTD(1))
)
ENGINE = ${summing_merge_tree}
PARTITION BY toStartOfMonth(time)
ORDER BY (time, source_as, destination_as, source_country, destination_country)
SETTINGS ${deduplication}, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

CREATE TABLE IF NOT EXISTS ${database}.as_1h ${on_cluster} AS ${database}.as_1h${local}
ENGINE = Distributed('${cluster}', '${database}', 'as_1h${local}', rand());

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.as_1m_forth${local} ${on_cluster} TO ${database}.as_1m${local} AS
WITH greatest(flow.sampling_interval, 1) AS scale
SELECT
    toStartOfMinute(flow.time) AS time,
    flow.source_as AS source_as,
    flow.destination_as AS destination_as,
    flow.source_country AS source_country,
    flow.destination_country AS destination_country,
    sum(flow.octets * scale) AS octets,
    sum(flow.packets * scale) AS packets,
    sum(scale) AS flows,
    countIf(flow.sampling_interval = 0) AS unknown_flows,
    sum(toFloat64(scale) * (scale - 1) * flow.octets * flow.octets / greatest(flow.packets, 1)) AS octets_variance,
    sum(toFloat64(scale) * (scale - 1) * flow.packets) AS packets_variance
FROM ${database}.flows${local} AS flow
WHERE NOT flow.is_repeat
GROUP BY time, source_as, destination_as, source_country, destination_country;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.as_1m_back${local} ${on_cluster} TO ${database}.as_1m${local} AS
WITH greatest(flow.sampling_interval, 1) AS scale
SELECT
    toStartOfMinute(flow.time) AS time,
    flow.destination_as AS source_as,
    flow.source_as AS destination_as,
    flow.destination_country AS source_country,
    flow.source_country AS destination_country,
    sum(flow.reverse_octets * scale) AS octets,
    sum(flow.reverse_packets * scale) AS packets,
    sum(scale) AS flows,
    countIf(flow.sampling_interval = 0) AS unknown_flows,
    sum(toFloat64(scale) * (scale - 1) * flow.reverse_octets * flow.reverse_octets / greatest(flow.reverse_packets, 1)) AS octets_variance,
    sum(toFloat64(scale) * (scale - 1) * flow.reverse_packets) AS packets_variance
FROM ${database}.flows${local} AS flow
WHERE (flow.reverse_octets > 0 OR flow.reverse_packets > 0) AND NOT flow.is_repeat
GROUP BY time, source_as, destination_as, source_country, destination_country;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.as_1h_sums${local} ${on_cluster} TO ${database}.as_1h${local} AS
SELECT
    toStartOfHour(minute.time) AS time,
    minute.source_as AS source_as,
    minute.destination_as AS destination_as,
    minute.source_country AS source_country,
    minute.destination_country AS destination_country,
    sum(minute.octets) AS octets,
    sum(minute.packets) AS packets,
    sum(minute.flows) AS flows,
    sum(minute.unknown_flows) AS unknown_flows,
    sum(minute.octets_variance) AS octets_variance,
    sum(minute.packets_variance) AS packets_variance
FROM ${database}.as_1m${local} AS minute
GROUP BY time, source_as, destination_as, source_country, destination_country;


-- Of which protocol and application; repeated traffic left out.
CREATE TABLE IF NOT EXISTS ${database}.application_1m${local} ${on_cluster}
(
    time DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    exporter IPv6 CODEC(ZSTD(1)),
    protocol_identifier UInt8 CODEC(ZSTD(1)),
    application LowCardinality(String) CODEC(ZSTD(1)),
    octets UInt64 CODEC(T64, ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    flows UInt64 CODEC(T64, ZSTD(1)),
    unknown_flows UInt64 CODEC(T64, ZSTD(1)),
    octets_variance Float64 CODEC(ZSTD(1)),
    packets_variance Float64 CODEC(ZSTD(1))
)
ENGINE = ${summing_merge_tree}
PARTITION BY toDate(time)
ORDER BY (time, exporter, protocol_identifier, application)
SETTINGS ${deduplication}, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

CREATE TABLE IF NOT EXISTS ${database}.application_1m ${on_cluster} AS ${database}.application_1m${local}
ENGINE = Distributed('${cluster}', '${database}', 'application_1m${local}', rand());

CREATE TABLE IF NOT EXISTS ${database}.application_1h${local} ${on_cluster}
(
    time DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    exporter IPv6 CODEC(ZSTD(1)),
    protocol_identifier UInt8 CODEC(ZSTD(1)),
    application LowCardinality(String) CODEC(ZSTD(1)),
    octets UInt64 CODEC(T64, ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    flows UInt64 CODEC(T64, ZSTD(1)),
    unknown_flows UInt64 CODEC(T64, ZSTD(1)),
    octets_variance Float64 CODEC(ZSTD(1)),
    packets_variance Float64 CODEC(ZSTD(1))
)
ENGINE = ${summing_merge_tree}
PARTITION BY toStartOfMonth(time)
ORDER BY (time, exporter, protocol_identifier, application)
SETTINGS ${deduplication}, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

CREATE TABLE IF NOT EXISTS ${database}.application_1h ${on_cluster} AS ${database}.application_1h${local}
ENGINE = Distributed('${cluster}', '${database}', 'application_1h${local}', rand());

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.application_1m_forth${local} ${on_cluster} TO ${database}.application_1m${local} AS
WITH greatest(flow.sampling_interval, 1) AS scale
SELECT
    toStartOfMinute(flow.time) AS time,
    flow.exporter AS exporter,
    flow.protocol_identifier AS protocol_identifier,
    flow.application AS application,
    sum(flow.octets * scale) AS octets,
    sum(flow.packets * scale) AS packets,
    sum(scale) AS flows,
    countIf(flow.sampling_interval = 0) AS unknown_flows,
    sum(toFloat64(scale) * (scale - 1) * flow.octets * flow.octets / greatest(flow.packets, 1)) AS octets_variance,
    sum(toFloat64(scale) * (scale - 1) * flow.packets) AS packets_variance
FROM ${database}.flows${local} AS flow
WHERE NOT flow.is_repeat
GROUP BY time, exporter, protocol_identifier, application;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.application_1m_back${local} ${on_cluster} TO ${database}.application_1m${local} AS
WITH greatest(flow.sampling_interval, 1) AS scale
SELECT
    toStartOfMinute(flow.time) AS time,
    flow.exporter AS exporter,
    flow.protocol_identifier AS protocol_identifier,
    flow.application AS application,
    sum(flow.reverse_octets * scale) AS octets,
    sum(flow.reverse_packets * scale) AS packets,
    sum(scale) AS flows,
    countIf(flow.sampling_interval = 0) AS unknown_flows,
    sum(toFloat64(scale) * (scale - 1) * flow.reverse_octets * flow.reverse_octets / greatest(flow.reverse_packets, 1)) AS octets_variance,
    sum(toFloat64(scale) * (scale - 1) * flow.reverse_packets) AS packets_variance
FROM ${database}.flows${local} AS flow
WHERE (flow.reverse_octets > 0 OR flow.reverse_packets > 0) AND NOT flow.is_repeat
GROUP BY time, exporter, protocol_identifier, application;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.application_1h_sums${local} ${on_cluster} TO ${database}.application_1h${local} AS
SELECT
    toStartOfHour(minute.time) AS time,
    minute.exporter AS exporter,
    minute.protocol_identifier AS protocol_identifier,
    minute.application AS application,
    sum(minute.octets) AS octets,
    sum(minute.packets) AS packets,
    sum(minute.flows) AS flows,
    sum(minute.unknown_flows) AS unknown_flows,
    sum(minute.octets_variance) AS octets_variance,
    sum(minute.packets_variance) AS packets_variance
FROM ${database}.application_1m${local} AS minute
GROUP BY time, exporter, protocol_identifier, application;


-- From and to which prefixes, a row for each end; repeated traffic left out. The length is in the address's own family.
CREATE TABLE IF NOT EXISTS ${database}.prefix_1m${local} ${on_cluster}
(
    time DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    side Enum8('source' = 0, 'destination' = 1) CODEC(ZSTD(1)),
    prefix IPv6 CODEC(ZSTD(1)),
    prefix_length UInt8 CODEC(ZSTD(1)),
    octets UInt64 CODEC(T64, ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    flows UInt64 CODEC(T64, ZSTD(1)),
    unknown_flows UInt64 CODEC(T64, ZSTD(1)),
    octets_variance Float64 CODEC(ZSTD(1)),
    packets_variance Float64 CODEC(ZSTD(1))
)
ENGINE = ${summing_merge_tree}
PARTITION BY toDate(time)
ORDER BY (time, side, prefix, prefix_length)
SETTINGS ${deduplication}, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

CREATE TABLE IF NOT EXISTS ${database}.prefix_1m ${on_cluster} AS ${database}.prefix_1m${local}
ENGINE = Distributed('${cluster}', '${database}', 'prefix_1m${local}', rand());

CREATE TABLE IF NOT EXISTS ${database}.prefix_1h${local} ${on_cluster}
(
    time DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    side Enum8('source' = 0, 'destination' = 1) CODEC(ZSTD(1)),
    prefix IPv6 CODEC(ZSTD(1)),
    prefix_length UInt8 CODEC(ZSTD(1)),
    octets UInt64 CODEC(T64, ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    flows UInt64 CODEC(T64, ZSTD(1)),
    unknown_flows UInt64 CODEC(T64, ZSTD(1)),
    octets_variance Float64 CODEC(ZSTD(1)),
    packets_variance Float64 CODEC(ZSTD(1))
)
ENGINE = ${summing_merge_tree}
PARTITION BY toStartOfMonth(time)
ORDER BY (time, side, prefix, prefix_length)
SETTINGS ${deduplication}, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

CREATE TABLE IF NOT EXISTS ${database}.prefix_1h ${on_cluster} AS ${database}.prefix_1h${local}
ENGINE = Distributed('${cluster}', '${database}', 'prefix_1h${local}', rand());

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.prefix_1m_source_forth${local} ${on_cluster} TO ${database}.prefix_1m${local} AS
WITH greatest(flow.sampling_interval, 1) AS scale
SELECT
    toStartOfMinute(flow.time) AS time,
    CAST('source', 'Enum8(\'source\' = 0, \'destination\' = 1)') AS side,
    flow.source_prefix AS prefix,
    flow.source_prefix_length AS prefix_length,
    sum(flow.octets * scale) AS octets,
    sum(flow.packets * scale) AS packets,
    sum(scale) AS flows,
    countIf(flow.sampling_interval = 0) AS unknown_flows,
    sum(toFloat64(scale) * (scale - 1) * flow.octets * flow.octets / greatest(flow.packets, 1)) AS octets_variance,
    sum(toFloat64(scale) * (scale - 1) * flow.packets) AS packets_variance
FROM ${database}.flows${local} AS flow
WHERE NOT flow.is_repeat
GROUP BY time, side, prefix, prefix_length;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.prefix_1m_destination_forth${local} ${on_cluster} TO ${database}.prefix_1m${local} AS
WITH greatest(flow.sampling_interval, 1) AS scale
SELECT
    toStartOfMinute(flow.time) AS time,
    CAST('destination', 'Enum8(\'source\' = 0, \'destination\' = 1)') AS side,
    flow.destination_prefix AS prefix,
    flow.destination_prefix_length AS prefix_length,
    sum(flow.octets * scale) AS octets,
    sum(flow.packets * scale) AS packets,
    sum(scale) AS flows,
    countIf(flow.sampling_interval = 0) AS unknown_flows,
    sum(toFloat64(scale) * (scale - 1) * flow.octets * flow.octets / greatest(flow.packets, 1)) AS octets_variance,
    sum(toFloat64(scale) * (scale - 1) * flow.packets) AS packets_variance
FROM ${database}.flows${local} AS flow
WHERE NOT flow.is_repeat
GROUP BY time, side, prefix, prefix_length;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.prefix_1m_source_back${local} ${on_cluster} TO ${database}.prefix_1m${local} AS
WITH greatest(flow.sampling_interval, 1) AS scale
SELECT
    toStartOfMinute(flow.time) AS time,
    CAST('source', 'Enum8(\'source\' = 0, \'destination\' = 1)') AS side,
    flow.destination_prefix AS prefix,
    flow.destination_prefix_length AS prefix_length,
    sum(flow.reverse_octets * scale) AS octets,
    sum(flow.reverse_packets * scale) AS packets,
    sum(scale) AS flows,
    countIf(flow.sampling_interval = 0) AS unknown_flows,
    sum(toFloat64(scale) * (scale - 1) * flow.reverse_octets * flow.reverse_octets / greatest(flow.reverse_packets, 1)) AS octets_variance,
    sum(toFloat64(scale) * (scale - 1) * flow.reverse_packets) AS packets_variance
FROM ${database}.flows${local} AS flow
WHERE (flow.reverse_octets > 0 OR flow.reverse_packets > 0) AND NOT flow.is_repeat
GROUP BY time, side, prefix, prefix_length;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.prefix_1m_destination_back${local} ${on_cluster} TO ${database}.prefix_1m${local} AS
WITH greatest(flow.sampling_interval, 1) AS scale
SELECT
    toStartOfMinute(flow.time) AS time,
    CAST('destination', 'Enum8(\'source\' = 0, \'destination\' = 1)') AS side,
    flow.source_prefix AS prefix,
    flow.source_prefix_length AS prefix_length,
    sum(flow.reverse_octets * scale) AS octets,
    sum(flow.reverse_packets * scale) AS packets,
    sum(scale) AS flows,
    countIf(flow.sampling_interval = 0) AS unknown_flows,
    sum(toFloat64(scale) * (scale - 1) * flow.reverse_octets * flow.reverse_octets / greatest(flow.reverse_packets, 1)) AS octets_variance,
    sum(toFloat64(scale) * (scale - 1) * flow.reverse_packets) AS packets_variance
FROM ${database}.flows${local} AS flow
WHERE (flow.reverse_octets > 0 OR flow.reverse_packets > 0) AND NOT flow.is_repeat
GROUP BY time, side, prefix, prefix_length;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.prefix_1h_sums${local} ${on_cluster} TO ${database}.prefix_1h${local} AS
SELECT
    toStartOfHour(minute.time) AS time,
    minute.side AS side,
    minute.prefix AS prefix,
    minute.prefix_length AS prefix_length,
    sum(minute.octets) AS octets,
    sum(minute.packets) AS packets,
    sum(minute.flows) AS flows,
    sum(minute.unknown_flows) AS unknown_flows,
    sum(minute.octets_variance) AS octets_variance,
    sum(minute.packets_variance) AS packets_variance
FROM ${database}.prefix_1m${local} AS minute
GROUP BY time, side, prefix, prefix_length;
