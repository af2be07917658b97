-- What of the sums by the minute belongs to earlier slots of five minutes, for bills. A flow is filed under its end; its octets came while it
-- lasted. Of every flow that lasted over the start of a slot each of the slots before its last has here what came in it, evenly over the time,
-- and the last one the same in all with a minus: both tables together are the slots. Of a flow of more than two hours the last two are taken.
CREATE TABLE IF NOT EXISTS ${database}.spread_5m${local} ${on_cluster}
(
    -- The start of the slot.
    time DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    exporter IPv6 CODEC(ZSTD(1)),
    ingress_interface UInt32 CODEC(ZSTD(1)),
    egress_interface UInt32 CODEC(ZSTD(1)),
    flow_direction UInt8 CODEC(ZSTD(1)),
    is_repeat Bool CODEC(ZSTD(1)),
    source_customer LowCardinality(String) CODEC(ZSTD(1)),
    destination_customer LowCardinality(String) CODEC(ZSTD(1)),
    octets Int64 CODEC(T64, ZSTD(1)),
    octets_variance Float64 CODEC(ZSTD(1))
)
ENGINE = ${summing_merge_tree}
PARTITION BY toDate(time)
ORDER BY (time, exporter, ingress_interface, egress_interface, flow_direction, is_repeat, source_customer, destination_customer)
SETTINGS ${deduplication}, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

CREATE TABLE IF NOT EXISTS ${database}.spread_5m ${on_cluster} AS ${database}.spread_5m${local}
ENGINE = Distributed('${cluster}', '${database}', 'spread_5m${local}', rand());

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.spread_5m_forth${local} ${on_cluster} TO ${database}.spread_5m${local} AS
WITH
    toUInt32(flow.time) AS ends,
    toUInt32(intDiv(ends, 300)) AS last_slot,
    toUInt32(greatest(intDiv(toUnixTimestamp64Milli(flow.flow_start_milliseconds), 1000), toInt64(last_slot - 24) * 300)) AS begins,
    toUInt32(intDiv(begins, 300)) AS first_slot,
    greatest(flow.sampling_interval, 1) AS scale,
    toFloat64(flow.octets) * scale AS total,
    toFloat64(scale) * (scale - 1) * flow.octets * flow.octets / greatest(flow.packets, 1) AS variance
SELECT
    toDateTime(piece.1, 'UTC') AS time,
    flow.exporter AS exporter,
    flow.ingress_interface AS ingress_interface,
    flow.egress_interface AS egress_interface,
    flow.flow_direction AS flow_direction,
    flow.is_repeat AS is_repeat,
    flow.source_customer AS source_customer,
    flow.destination_customer AS destination_customer,
    sum(piece.2) AS octets,
    sum(piece.3) AS octets_variance
-- Few flows last over the start of a slot: the others are left out before anything is worked out, which would be a division by zero for some.
-- One that came so late that it is not filed under its end stays where it is filed: what is kept of it is no measure of those slots.
FROM (SELECT * FROM ${database}.flows${local} WHERE flow_start_milliseconds > toDateTime64(0, 3, 'UTC')
    AND intDiv(toUnixTimestamp64Milli(flow_start_milliseconds), 300000) < intDiv(toUInt32(time), 300)
    AND intDiv(toUnixTimestamp64Milli(flow_end_milliseconds), 1000) + 1 >= toUInt32(time)) AS flow
-- Differences of what has come by the end of each slot, so that they add up to nothing.
ARRAY JOIN arrayMap(slot -> (
        toUInt32(slot * 300),
        if(slot < last_slot,
            toInt64(total * ((slot + 1) * 300 - begins) / (ends - begins)) - toInt64(total * (greatest(slot * 300, begins) - begins) / (ends - begins)),
            -toInt64(total * (last_slot * 300 - begins) / (ends - begins))),
        if(slot < last_slot,
            variance * ((slot + 1) * 300 - greatest(slot * 300, begins)) / (ends - begins),
            -variance * (last_slot * 300 - begins) / (ends - begins))),
    range(first_slot, toUInt32(last_slot + 1))) AS piece
GROUP BY time, exporter, ingress_interface, egress_interface, flow_direction, is_repeat, source_customer, destination_customer;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.spread_5m_back${local} ${on_cluster} TO ${database}.spread_5m${local} AS
WITH
    toUInt32(flow.time) AS ends,
    toUInt32(intDiv(ends, 300)) AS last_slot,
    toUInt32(greatest(intDiv(toUnixTimestamp64Milli(flow.flow_start_milliseconds), 1000), toInt64(last_slot - 24) * 300)) AS begins,
    toUInt32(intDiv(begins, 300)) AS first_slot,
    greatest(flow.sampling_interval, 1) AS scale,
    toFloat64(flow.reverse_octets) * scale AS total,
    toFloat64(scale) * (scale - 1) * flow.reverse_octets * flow.reverse_octets / greatest(flow.reverse_packets, 1) AS variance
SELECT
    toDateTime(piece.1, 'UTC') AS time,
    flow.exporter AS exporter,
    flow.egress_interface AS ingress_interface,
    flow.ingress_interface AS egress_interface,
    flow.flow_direction AS flow_direction,
    flow.is_repeat AS is_repeat,
    flow.destination_customer AS source_customer,
    flow.source_customer AS destination_customer,
    sum(piece.2) AS octets,
    sum(piece.3) AS octets_variance
FROM (SELECT * FROM ${database}.flows${local} WHERE (reverse_octets > 0 OR reverse_packets > 0) AND flow_start_milliseconds > toDateTime64(0, 3, 'UTC')
    AND intDiv(toUnixTimestamp64Milli(flow_start_milliseconds), 300000) < intDiv(toUInt32(time), 300)
    AND intDiv(toUnixTimestamp64Milli(flow_end_milliseconds), 1000) + 1 >= toUInt32(time)) AS flow
-- Differences of what has come by the end of each slot, so that they add up to nothing.
ARRAY JOIN arrayMap(slot -> (
        toUInt32(slot * 300),
        if(slot < last_slot,
            toInt64(total * ((slot + 1) * 300 - begins) / (ends - begins)) - toInt64(total * (greatest(slot * 300, begins) - begins) / (ends - begins)),
            -toInt64(total * (last_slot * 300 - begins) / (ends - begins))),
        if(slot < last_slot,
            variance * ((slot + 1) * 300 - greatest(slot * 300, begins)) / (ends - begins),
            -variance * (last_slot * 300 - begins) / (ends - begins))),
    range(first_slot, toUInt32(last_slot + 1))) AS piece
GROUP BY time, exporter, ingress_interface, egress_interface, flow_direction, is_repeat, source_customer, destination_customer;
